package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const largestSecret = 64 << 10

// readAPIKey takes the key from its variable, else from its file.
func (l *loader) readAPIKey() error {
	if l.args.WithoutAPIKey {
		return nil
	}
	c := &l.config.Codat
	if key := l.variables[apiKeyVariable]; key != "" {
		if strings.TrimSpace(key) == "" {
			return failf(apiKeyVariable, "the API key is white space only")
		}
		c.APIKey = Secret(key)
		return nil
	}
	if c.APIKeyFile == "" {
		return failf("", "codat.api_key_file: no API key is given; name a file that holds it, or set %s", apiKeyVariable)
	}
	var err error
	c.APIKey, err = l.readSecret("codat.api_key_file", c.APIKeyFile)
	return err
}

// readToken reads the token of the HTTP server, without which it only serves this
// machine.
func (l *loader) readToken() error {
	h := &l.config.HTTP
	if h.TokenFile == "" {
		if loopback(h.Listen) {
			return nil
		}
		return failf(l.origins["http.listen"], "http.listen: %q is not a loopback address, so http.token_file is needed; or use 127.0.0.1", h.Listen)
	}
	var err error
	h.Token, err = l.readSecret("http.token_file", h.TokenFile)
	return err
}

// readSecret reads the file that a key names and cuts one line break from its
// end. A file that everybody may write to proves nothing and is refused; one that
// everybody may read is how containers mount secrets, and a warning.
func (l *loader) readSecret(key, path string) (Secret, error) {
	fail := func(format string, args ...any) (Secret, error) {
		return "", failf(l.origins[key], "%s: %s", key, fmt.Sprintf(format, args...))
	}
	f, err := os.Open(path)
	if err != nil {
		return fail("%v", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail("%v", err)
	}
	mode := info.Mode().Perm()
	switch {
	case info.IsDir():
		return fail("%s is a directory", path)
	case mode&0o002 != 0:
		return fail("%s may be written by everybody (mode %04o); chmod 600 it and check what it holds", path, mode)
	}
	content, err := io.ReadAll(io.LimitReader(f, largestSecret+1))
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	switch {
	case err != nil:
		return fail("read %s: %v", path, err)
	case len(content) > largestSecret:
		return fail("%s is larger than 64 KiB", path)
	case strings.TrimSpace(text) == "":
		return fail("%s is empty", path)
	}
	if mode&0o004 != 0 {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s may be read by everybody (mode %04o); chmod 600 it", key, path, mode))
	}
	return Secret(text), nil
}
