package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/pushwatch/pushwatch/internal/config"
)

// FuzzLoad: whatever stands in the file and in a variable, Load returns a checked
// configuration or an Error of one line, and holds no secret in it.
func FuzzLoad(f *testing.F) {
	f.Add(full, "PUSHWATCH_POLL_TRACK=* * * * *")
	f.Add("log:\n\tlevel: info\n", "PUSHWATCH_LOG_LEVEL=debug")
	f.Add("a: &a [*a]\nb: *a\n", "PUSHWATCH_X=y")
	f.Add("companies:\n- id: a\n- {id: b, name: |\n  x}\n", "PUSHWATCH_COMPANIES=a=b,c")
	f.Add("? a\n: - - - {}\n--- !!x\n%YAML\n...", "=")
	f.Add("poll: {track: 'a', track: \"\\x00\"}\n- >+9\n", "")
	f.Fuzz(func(t *testing.T, file, variable string) {
		path := filepath.Join(t.TempDir(), "pw.yaml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(variable, "_FILE") || strings.Contains(file, "_file") {
			return // would read a file of this machine
		}
		c, _, err := config.Load(config.Flags{File: path}, []string{"CODAT_API_KEY=s3cr3t-canary", variable})
		if err != nil {
			var configuration *config.Error
			if !errors.As(err, &configuration) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
				t.Fatalf("%T: %q", err, err)
			}
			if strings.Contains(err.Error(), "s3cr3t-canary") {
				t.Fatalf("the key is shown: %q", err)
			}
			return
		}
		if len(c.Companies) == 0 || c.Poll.PageSize < 1 || c.NATS.MaxAge <= 0 || c.Quota.Reserve > 0.95 || c.ShutdownTimeout <= 0 {
			t.Fatalf("taken: %+v", c)
		}
	})
}
