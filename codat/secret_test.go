package codat

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNoWayOfPrintingShowsASecret(t *testing.T) {
	secret := NewSecret(canary)
	ledger := &gate{}
	client, err := New(Config{Key: secret, Gate: ledger})
	require.NoError(t, err)

	var logged bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&logged, nil))
	logger.Info("x", "key", secret, "config", Config{Key: secret}, "credential", client.credential)
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "key", secret, "config", Config{Key: secret}, "client", client)

	encoded, err := json.Marshal(map[string]any{"key": secret, "config": struct{ Key Secret }{secret}})
	require.NoError(t, err)
	text, err := secret.MarshalText()
	require.NoError(t, err)

	printed := []string{logged.String(), string(encoded), string(text), secret.String(), secret.GoString()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		assert.Equal(t, "[redacted]", fmt.Sprintf(verb, secret))
		printed = append(printed, fmt.Sprintf(verb, secret), fmt.Sprintf(verb, &secret),
			fmt.Sprintf(verb, Config{Key: secret}), fmt.Sprintf(verb, client), fmt.Sprintf(verb, *client.base), fmt.Sprintf(verb, client.credential),
			fmt.Sprintf(verb, client.wire))
	}
	for _, p := range printed {
		assert.NotContains(t, p, canary)
		assert.NotContains(t, p, fmt.Sprintf("%x", canary))
		assert.NotContains(t, p, base64.StdEncoding.EncodeToString([]byte(canary)))
	}
	assert.Equal(t, `"[redacted]"`, string(must(json.Marshal(secret))))
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestCredential(t *testing.T) {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct{ name, key, header, refused string }{
		{name: "a raw key is encoded alone, without a colon", key: "abc", header: "Basic " + b64("abc")},
		{name: "one trailing line break is cut off", key: "abc\n", header: "Basic " + b64("abc")},
		{name: "a Windows line break too", key: "abc\r\n", header: "Basic " + b64("abc")},
		{name: "a second line break is refused", key: "abc\n\n", refused: "control character"},
		{name: "a line break inside is refused", key: "ab\nc", refused: "control character"},
		{name: "NUL is refused", key: "ab\x00c", refused: "control character"},
		{name: "an empty key is refused", key: "", refused: "empty"},
		{name: "a blank key is refused", key: "  \n", refused: "empty"},
		{name: "quotes, spaces and other letters are part of a raw key", key: `"a b" é`, header: "Basic " + b64(`"a b" é`)},
		{name: "a ready value is taken as it is", key: "Basic " + b64("abc"), header: "Basic " + b64("abc")},
		{name: "a ready value may end in a line break and spell its scheme in any case", key: "basic " + b64("abc") + "\n", header: "Basic " + b64("abc")},
		{name: "a ready value that is no base64 is refused", key: "Basic n*t", refused: "not base64"},
		{name: "a ready value of nothing is refused", key: "Basic  ", refused: "not base64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := newCredential(NewSecret(c.key))
			if c.refused != "" {
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.header, got.header.reveal())
		})
	}
}

func TestRedactRemovesEverySpellingOfTheKey(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	for _, key := range []string{canary, "Basic " + encoded} {
		credential, err := newCredential(NewSecret(key))
		require.NoError(t, err)
		text := credential.redact("you sent " + canary + " as Basic " + encoded + "!")
		assert.Equal(t, "you sent [redacted] as Basic [redacted]!", text)
	}
}
