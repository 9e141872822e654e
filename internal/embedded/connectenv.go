package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Running returns the addresses of the embedded servers of the pushwatch that uses
// a data directory now; ok is false when none does. An address is empty where that
// pushwatch uses an external server. Whoever connects to the embedded PostgreSQL
// calls IgnorePG first; an external one may need what the environment says of it.
func Running(dir string) (databaseURL, natsURL string, ok bool, err error) {
	lock, err := lockFile(dir, 0)
	var inUse *InUseError
	switch {
	case err == nil:
		return "", "", false, lock.Close()
	case errors.Is(err, os.ErrNotExist):
		return "", "", false, nil
	case !errors.As(err, &inUse):
		return "", "", false, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "connect.env"))
	if err != nil {
		return "", "", false, fmt.Errorf("addresses of the embedded servers: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = unquote(value); name {
		case "DATABASE_URL":
			databaseURL = value
		case "NATS_URL":
			natsURL = value
		}
	}
	return databaseURL, natsURL, true, nil
}

// unquote undoes shellQuote.
func unquote(value string) string {
	if inner, ok := strings.CutPrefix(value, "'"); ok {
		return strings.ReplaceAll(strings.TrimSuffix(inner, "'"), `'\''`, "'")
	}
	return value
}
