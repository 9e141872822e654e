package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
)

const fuzzCanary = "s3cr3t-canary"

// FuzzLoad: whatever stands in the file and in a variable, Load returns a checked
// configuration, which variables alone can say again, or an Error of one line that
// points into the file and holds no secret.
func FuzzLoad(f *testing.F) {
	f.Add(full, "PUSHWATCH_POLL_TRACK=* * * * *")
	f.Fuzz(func(t *testing.T, file, variable string) {
		if strings.Contains(variable, "_FILE") || strings.Contains(file, "_file") || strings.Contains(variable, "PUSHWATCH_CONFIG") {
			return // would read a file of this machine
		}
		path := filepath.Join(t.TempDir(), "pw.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		environ := []string{"CODAT_API_KEY=" + fuzzCanary, "DATABASE_URL=" + fuzzCanary, "NATS_URL=" + fuzzCanary, variable}
		c, _, err := config.Load(config.Flags{File: path}, environ)
		if err != nil {
			checkError(t, err, path, file)
			return
		}
		if len(c.Companies) == 0 || c.Poll.PageSize < 1 || c.NATS.MaxAge <= 0 || c.Quota.Reserve > 0.95 || c.ShutdownTimeout <= 0 {
			t.Fatalf("taken: %+v", c)
		}
		spelled, ok := asVariables(c)
		if !ok {
			return
		}
		again, _, err := config.Load(config.Flags{}, spelled)
		require.NoError(t, err, "%q", spelled)
		again.File, again.HTTP.AnyPort = c.File, c.HTTP.AnyPort
		require.Equal(t, c, again)
	})
}

func checkError(t *testing.T, err error, path, file string) {
	var configuration *config.Error
	if !errors.As(err, &configuration) || strings.ContainsFunc(err.Error(), unicode.IsControl) {
		t.Fatalf("%T: %q", err, err)
	}
	if strings.Contains(err.Error(), fuzzCanary) {
		t.Fatalf("a secret is shown: %q", err)
	}
	place := regexp.MustCompile(`^` + regexp.QuoteMeta(path) + `:(\d+):(\d+): `).FindStringSubmatch(err.Error())
	if place == nil {
		return
	}
	line, _ := strconv.Atoi(place[1])
	if lines := strings.Count(file, "\n") + strings.Count(file, "\r") + 1; line < 1 || line > lines {
		t.Fatalf("line %d of a file of %d: %q", line, lines, err)
	}
}

// asVariables spells a configuration as an environment; ok is false where a
// variable cannot say it: a comma in a company, an equals sign in an id.
func asVariables(c config.Config) (environ []string, ok bool) {
	var companies []string
	for _, company := range c.Companies {
		if strings.ContainsAny(company.ID, ",=") || strings.Contains(company.Name, ",") {
			return nil, false
		}
		companies = append(companies, company.ID+"="+company.Name)
	}
	environ = []string{"CODAT_API_KEY=" + c.Codat.APIKey.Reveal(), "PUSHWATCH_COMPANIES=" + strings.Join(companies, ",")}
	for name, text := range map[string]string{
		"CODAT_BASE_URL": c.Codat.BaseURL, "CODAT_ALLOW_HTTP": strconv.FormatBool(c.Codat.AllowHTTP),
		"DATA_DIR": c.DataDir, "POLL_MODE": c.Poll.Mode, "POLL_DISCOVER": c.Poll.Discover, "POLL_TRACK": c.Poll.Track,
		"POLL_SWEEP": c.Poll.Sweep, "POLL_PAGE_SIZE": strconv.Itoa(c.Poll.PageSize), "POLL_BASELINE": c.Poll.Baseline,
		"QUOTA_RESERVE": strconv.FormatFloat(c.Quota.Reserve, 'g', -1, 64),
		"POSTGRES_URL":  c.Postgres.URL.Reveal(), "POSTGRES_MIGRATE": c.Postgres.Migrate, "POSTGRES_POOLER": c.Postgres.Pooler,
		"NATS_URL": c.NATS.URL.Reveal(), "NATS_CREDENTIALS_FILE": c.NATS.CredentialsFile, "NATS_STREAM": c.NATS.Stream, "NATS_SUBJECT_PREFIX": c.NATS.SubjectPrefix,
		"NATS_MANAGE": c.NATS.Manage, "NATS_MAX_AGE": c.NATS.MaxAge.String(), "NATS_MAX_BYTES": strconv.FormatInt(c.NATS.MaxBytes, 10),
		"NATS_REPLICAS": strconv.Itoa(c.NATS.Replicas), "EVENTS_DETAIL": c.Events.Detail, "AUDIT_HORIZON": c.AuditHorizon.String(),
		"RETENTION_PAYLOADS": c.Retention.Payloads.String(), "RETENTION_QUARANTINE": c.Retention.Quarantine.String(),
		"RETENTION_HISTORY": c.Retention.History.String(), "HTTP_LISTEN": c.HTTP.Listen,
		"LOG_LEVEL": strings.ToLower(c.Log.Level.String()), "LOG_FORMAT": c.Log.Format, "SHUTDOWN_TIMEOUT": c.ShutdownTimeout.String(),
	} {
		environ = append(environ, "PUSHWATCH_"+name+"="+text)
	}
	return environ, true
}
