package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

const (
	largestSecret = 64 << 10
	largestCA     = 1 << 20 // more than any system's own list
)

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

// readCA reads the certificates that vouch for Codat in place of the system's.
func (l *loader) readCA() error {
	const key = "codat.ca_file"
	c := &l.config.Codat
	if c.CAFile == "" || l.args.WithoutAPIKey {
		return nil
	}
	content, _, err := l.readTrusted(key, c.CAFile, largestCA)
	if err != nil {
		return err
	}
	if problem := notCertificates(content); problem != "" {
		return failf(l.origins[key], "%s: %s %s; wanted certificates in PEM, from -----BEGIN CERTIFICATE-----", key, c.CAFile, problem)
	}
	c.CA = string(content)
	return nil
}

// notCertificates says why content is no list of certificates; text between them,
// as bundles have it, is passed over.
func notCertificates(content []byte) string {
	found := 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return "holds something else than certificates"
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return "holds a damaged certificate"
		}
		found++
	}
	if found == 0 {
		return "holds no certificate"
	}
	return ""
}

// readSecret reads the file that a key names and cuts one line break from its
// end. One that everybody may read is how containers mount secrets, and a warning.
func (l *loader) readSecret(key, path string) (Secret, error) {
	content, mode, err := l.readTrusted(key, path, largestSecret)
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if strings.TrimSpace(text) == "" {
		return "", failf(l.origins[key], "%s: %s is empty", key, path)
	}
	if mode&0o004 != 0 {
		l.warnings = append(l.warnings, fmt.Sprintf("%s: %s may be read by everybody (mode %04o); chmod 600 it", key, path, mode))
	}
	return Secret(text), nil
}

// readTrusted reads the file that a key names, at most most bytes of it. A file
// that everybody may write to proves nothing and is refused.
func (l *loader) readTrusted(key, path string, most int64) (content []byte, mode fs.FileMode, err error) {
	fail := func(format string, args ...any) ([]byte, fs.FileMode, error) {
		return nil, 0, failf(l.origins[key], "%s: %s", key, fmt.Sprintf(format, args...))
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
	mode = info.Mode().Perm()
	switch {
	case info.IsDir():
		return fail("%s is a directory", path)
	case mode&0o002 != 0:
		return fail("%s may be written by everybody (mode %04o); chmod o-w it and check what it holds", path, mode)
	}
	content, err = io.ReadAll(io.LimitReader(f, most+1))
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	switch {
	case err != nil:
		return fail("read %s: %v", path, err)
	case int64(len(content)) > most:
		return fail("%s is larger than %d KiB", path, most>>10)
	}
	return content, mode, nil
}
