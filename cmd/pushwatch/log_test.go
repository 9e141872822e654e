package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDurationsAreSpelledForPrograms(t *testing.T) {
	var out bytes.Buffer
	slog.New(forPrograms(&out, slog.LevelInfo)).With("after", 1500*time.Millisecond).
		Warn("m", "wait", 90*time.Second, slog.Group("g", "in", time.Hour), "n", 3)
	var line map[string]any
	require.NoError(t, json.Unmarshal(out.Bytes(), &line))
	assert.Equal(t, "1.5s", line["after"])
	assert.Equal(t, "1m30s", line["wait"])
	assert.Equal(t, map[string]any{"in": "1h0m0s"}, line["g"])
	assert.InDelta(t, 3, line["n"], 0)
}
