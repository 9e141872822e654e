package codat

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"unicode"
)

const redacted = "[redacted]"

// Secret holds the API key so that no way of printing, logging or encoding it,
// or a struct around it, shows it. The zero Secret is empty.
//
// The value lives in a function's closure, because fmt and reflection-based
// printers do not call the methods of unexported fields: they would print a
// string there, and print only an address here.
type Secret struct {
	value func() string
}

// NewSecret returns value as a Secret.
func NewSecret(value string) Secret { return Secret{value: func() string { return value }} }

// String returns "[redacted]".
func (Secret) String() string { return redacted }

// GoString returns "[redacted]".
func (Secret) GoString() string { return redacted }

// Format writes "[redacted]" whatever the verb.
func (Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// MarshalJSON returns "[redacted]" as a JSON string.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// MarshalText returns "[redacted]".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "[redacted]" as slog's value.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

func (s Secret) reveal() string {
	if s.value == nil {
		return ""
	}
	return s.value()
}

// credential is a key made ready: the header's value, and every spelling of the
// key that a server might echo.
type credential struct {
	header    Secret
	spellings []Secret
}

// newCredential reads a raw key, which is encoded alone without a colon, or a
// ready header value "Basic …". Its errors never hold the key.
func newCredential(key Secret) (credential, error) {
	value := key.reveal()
	value = strings.TrimSuffix(strings.TrimSuffix(value, "\n"), "\r")
	switch {
	case strings.TrimSpace(value) == "":
		return credential{}, errors.New("the API key is empty")
	case strings.ContainsFunc(value, unicode.IsControl):
		return credential{}, errors.New("the API key holds a control character, such as a line break inside it")
	}
	const scheme = "Basic "
	if len(value) < len(scheme) || !strings.EqualFold(value[:len(scheme)], scheme) {
		encoded := base64.StdEncoding.EncodeToString([]byte(value))
		return credential{
			header:    NewSecret(scheme + encoded),
			spellings: []Secret{NewSecret(encoded), NewSecret(value)},
		}, nil
	}
	encoded := strings.TrimSpace(value[len(scheme):])
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) == 0 {
		return credential{}, errors.New("what follows Basic in the API key is not base64")
	}
	return credential{
		header:    NewSecret(scheme + encoded),
		spellings: []Secret{NewSecret(encoded), NewSecret(string(raw))},
	}, nil
}

// redact removes every spelling of the key from text.
func (c credential) redact(text string) string {
	for _, spelling := range c.spellings {
		text = strings.ReplaceAll(text, spelling.reveal(), redacted)
	}
	return text
}
