package config_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
)

func TestNoFormattingShowsASecret(t *testing.T) {
	token := write(t, "token", "canary", 0o600)
	c, _, err := config.Load(config.Flags{}, []string{"CODAT_API_KEY=canary", "DATABASE_URL=postgres://u:canary@db/x",
		"NATS_URL=nats://canary@n", "PUSHWATCH_COMPANIES=c", "PUSHWATCH_HTTP_TOKEN_FILE=" + token})
	require.NoError(t, err)
	for _, secret := range []config.Secret{c.Codat.APIKey, c.Postgres.URL, c.NATS.URL, c.HTTP.Token} {
		require.Contains(t, secret.Reveal(), "canary")
	}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+"\n", c, c.Codat.APIKey)
	}
	fmt.Fprintln(&out, c, c.HTTP, c.Codat.APIKey.String(), c.Codat.APIKey.GoString())
	asJSON, err := json.Marshal(c)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(c)
	require.NoError(t, err)
	out.Write(asJSON)
	out.Write(asYAML)
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "config", c, "key", c.Codat.APIKey)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "config", c, "key", c.Codat.APIKey)
	assert.NotContains(t, out.String(), "canary")
	assert.NotContains(t, out.String(), fmt.Sprintf("%x", "canary"))
	assert.Contains(t, out.String(), "[redacted]")
}
