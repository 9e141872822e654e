package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEverythingIsMeasured runs the program as make bench does, tiny.
func TestEverythingIsMeasured(t *testing.T) {
	docs, profiles := t.TempDir(), t.TempDir()
	page := filepath.Join(docs, pageName)
	require.NoError(t, os.WriteFile(page, []byte("# Speed\n\n"+docsBegin+"\nold\n"+docsEnd+"\n\nmore\n"), 0o600))
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"-short", "-o", "json", "-update", docs, "-cpuprofile", profiles}, &out, &progress)
	require.NoError(t, err, progress.String())

	var found report
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&found))
	assert.Positive(t, found.Cores)
	assert.NotEmpty(t, found.PostgreSQL)
	assert.NotEmpty(t, found.NATS)
	assert.Equal(t, 1, found.Repetitions)
	for _, m := range measurements() {
		assert.Contains(t, progress.String(), m.name+", repetition 1 of 1")
		for _, s := range m.series {
			got, ok := found.series(s.name)
			if assert.True(t, ok, s.name) {
				soundSpread(t, s.name, got.spread)
			}
		}
	}
	require.Len(t, found.Ratios, len(comparisons()))
	for _, c := range found.Ratios {
		soundSpread(t, c.Name, c.spread)
	}
	assertDocs(t, docs)
	if runtime.GOOS == "linux" {
		assert.NotEmpty(t, found.Busy)
	}
	written, err := filepath.Glob(filepath.Join(profiles, "relay-first-1.pprof"))
	require.NoError(t, err)
	assert.Len(t, written, 1)
}

// TestEverythingIsFoundAtScale runs the program as make bench-scale does, tiny.
func TestEverythingIsFoundAtScale(t *testing.T) {
	docs := t.TempDir()
	page := filepath.Join(docs, pageName)
	require.NoError(t, os.WriteFile(page, []byte("# Speed\n\n"+scaleBegin+"\nold\n"+scaleEnd+"\n"), 0o600))
	var out, progress bytes.Buffer
	err := command(t.Context(), []string{"-scale", "-short", "-o", "json", "-update", docs}, &out, &progress)
	require.NoError(t, err, progress.String())

	var found scaled
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&found))
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "\nold\n")
	names := map[string]bool{}
	for _, f := range found.Findings {
		assert.False(t, names[f.Name], "two findings are called %s", f.Name)
		names[f.Name] = true
		assert.False(t, math.IsInf(f.Value, 0) || math.IsNaN(f.Value), f.Name)
		assert.Contains(t, string(text), "| "+f.Title+" | ")
	}
	for _, p := range parts() {
		assert.Contains(t, progress.String(), p.name)
	}
	for _, name := range []string{"page", "outbox-growth", "scans", "company", "heap-growth", "cold-memory", "cold-pages"} {
		assert.True(t, names[name], name)
	}
}

func soundSpread(t *testing.T, name string, s spread) {
	t.Helper()
	assert.Len(t, s.Samples, 1, name)
	for _, x := range append([]float64{s.Median, s.Min, s.Max}, s.Samples...) {
		assert.Positive(t, x, name)
		assert.False(t, math.IsInf(x, 0) || math.IsNaN(x), name)
	}
}

func assertDocs(t *testing.T, docs string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(docs, pageName))
	require.NoError(t, err)
	text := string(page)
	assert.True(t, strings.HasPrefix(text, "# Speed\n\n"+docsBegin+"\n"), text)
	assert.True(t, strings.HasSuffix(text, docsEnd+"\n\nmore\n"), text)
	assert.NotContains(t, text, "\nold\n")
	for _, c := range comparisons() {
		assert.Contains(t, text, "| "+c.title+" | ")
	}
	picture, err := os.ReadFile(filepath.Join(docs, plotName))
	require.NoError(t, err)
	assertPicture(t, picture)
}

// assertPicture reads a plot as a viewer does.
func assertPicture(t *testing.T, picture []byte) {
	t.Helper()
	bars := 0
	for decoder := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		if start, ok := token.(xml.StartElement); ok && start.Name.Local == "rect" {
			bars++
		}
	}
	assert.Equal(t, 1+len(peers)+7, bars, "the ground, the peers and pushwatch's bars")
	assert.NotContains(t, string(picture), "NaN")
	assert.NotContains(t, string(picture), "%!")
	assert.NotContains(t, string(picture), "no value")
}

func TestWhatIsComparedIsMeasuredToo(t *testing.T) {
	o, err := parse([]string{"-run", "^relay-sync$"}, io.Discard)
	require.NoError(t, err)
	var names []string
	for _, m := range picked(measurements(), o.pick) {
		names = append(names, m.name)
	}
	assert.Equal(t, []string{"limit-publish", "peer-sync", "relay-sync"}, names)
}

func TestComparisonsNameSeries(t *testing.T) {
	series := map[string]bool{}
	for _, m := range measurements() {
		for _, s := range m.series {
			assert.False(t, series[s.name], "two series are called %s", s.name)
			series[s.name] = true
		}
	}
	for _, c := range comparisons() {
		assert.True(t, series[c.of], "%s: %s", c.name, c.of)
		assert.True(t, c.to == "" || series[c.to], "%s: %s", c.name, c.to)
		assert.Equal(t, c.told, c.target == 0, c.name)
	}
}

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"-scale", "-operations", "5"}, {"-scale", "-cold", "5"}, {"-scale", "-traffic", "0s"}, {"-scale", "-o", "yaml"}, {"-scale", "more"}, {"-n", "1", "-scale"},
		{"-n", "0"}, {"-events", "10"}, {"-subjects", "1000"}, {"-o", "yaml"}, {"-run", "("}, {"-idle", "0"}, {"relay"}, {"-what"},
	} {
		assert.Error(t, command(t.Context(), args, io.Discard, io.Discard), "%v", args)
	}
}

func TestAnUpdateNeedsTheWholeRunAndTheMarkers(t *testing.T) {
	some := &report{Ratios: make([]compared, 1)}
	assert.ErrorContains(t, some.updateDocs(t.TempDir()), "-update: 1 of ")
	_, err := between([]byte("# Speed\n"), docsBegin, docsEnd, "text")
	assert.ErrorContains(t, err, docsBegin)
}
