package config_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
)

// enough is an environment with which everything that is left to default is fine.
var enough = []string{"CODAT_API_KEY=key", "PUSHWATCH_COMPANIES=c-1"}

func write(t *testing.T, name, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	require.NoError(t, os.Chmod(path, mode)) // whatever the umask
	return path
}

func text(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(content)
}

func load(t *testing.T, yaml string, environ ...string) (config.Config, config.Warnings, error) {
	t.Helper()
	return config.Load(config.Flags{File: write(t, "pw.yaml", yaml, 0o600)}, environ)
}

func TestDefaultsAreThoseOfTheSpecification(t *testing.T) {
	c, warnings, err := config.Load(config.Flags{}, enough)
	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.Equal(t, config.Config{
		Codat:     config.Codat{BaseURL: "https://api.codat.io", APIKey: "key"},
		Companies: []config.Company{{ID: "c-1"}},
		Poll: config.Poll{Mode: "cron", Discover: "*/5 * * * *", Track: "* * * * *", Sweep: "0 3 * * *",
			PageSize: 100, Baseline: "silent"},
		Quota:    config.Quota{Reserve: 0.5},
		Postgres: config.Postgres{Migrate: "auto", Pooler: "none"},
		NATS: config.NATS{Stream: "CODAT_PUSH", SubjectPrefix: "codat.push", Manage: "create",
			MaxAge: 720 * time.Hour, Replicas: 1},
		Events:          config.Events{Detail: "full"},
		AuditHorizon:    168 * time.Hour,
		Retention:       config.Retention{Payloads: 720 * time.Hour, Quarantine: 2160 * time.Hour},
		HTTP:            config.HTTP{Listen: "127.0.0.1:8080", AnyPort: true},
		Log:             config.Log{Level: slog.LevelInfo, Format: "auto"},
		ShutdownTimeout: 20 * time.Second,
	}, c)
}

// The file of spec.md, with every value another than the default.
const full = `# pushwatch
codat:
  base_url: http://127.0.0.1:9000      # the simulator
  api_key_file: %KEY%
  allow_http: true
  ca_file: %CA%
companies:
  - id: 8a210b68-6988-11ed-a1eb-0242ac120002
    name: Toft stores
  - { id: 'two', name: "a: b # c" }
  -
    id: 3
poll:
  mode: cron
  discover: "@every 5s"
  track: '*/2 * * * *'
  sweep: >-
    0 4 * * *
  page_size: 500
  baseline: publish
quota:
  reserve: 0.25
postgres: { url: "postgres://u:secret@db/pw", migrate: verify, pooler: transaction }
nats:
  url: nats://token@n1,nats://n2
  credentials_file: /run/creds
  stream: PUSH
  subject_prefix: a.b-c.d_e
  manage: verify
  max_age: 24h
  max_bytes: 1073741824
  replicas: 3
events: { detail: redacted }
audit_horizon: 1h30m
retention: {payloads: 1h, quarantine: 2h, history: 3h}
http: { listen: "0.0.0.0:80", token_file: "%TOKEN%" }
log: { level: debug, format: json }
shutdown_timeout: 5s
`

func TestEveryKeyIsReadFromTheFile(t *testing.T) {
	key := write(t, "key", "Basic a2V5\r\n", 0o600)
	token := write(t, "token", "tok\n", 0o640)
	ca := write(t, "ca", authority(t), 0o644)
	path := write(t, "pw.yaml", strings.NewReplacer("%KEY%", key, "%CA%", ca, "%TOKEN%", token).Replace(full), 0o644)
	c, warnings, err := config.Load(config.Flags{File: path}, nil)
	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.Equal(t, config.Config{
		File:      path,
		Codat:     config.Codat{BaseURL: "http://127.0.0.1:9000", APIKey: "Basic a2V5", APIKeyFile: key, AllowHTTP: true, CAFile: ca, CA: text(t, ca)},
		Companies: []config.Company{{ID: "8a210b68-6988-11ed-a1eb-0242ac120002", Name: "Toft stores"}, {ID: "two", Name: "a: b # c"}, {ID: "3"}},
		Poll: config.Poll{Mode: "cron", Discover: "@every 5s", Track: "*/2 * * * *", Sweep: "0 4 * * *",
			PageSize: 500, Baseline: "publish"},
		Quota:    config.Quota{Reserve: 0.25},
		Postgres: config.Postgres{External: true, URL: "postgres://u:secret@db/pw", Migrate: "verify", Pooler: "transaction"},
		NATS: config.NATS{URL: "nats://token@n1,nats://n2", CredentialsFile: "/run/creds", Stream: "PUSH", SubjectPrefix: "a.b-c.d_e",
			Manage: "verify", MaxAge: 24 * time.Hour, MaxBytes: 1 << 30, Replicas: 3},
		Events:          config.Events{Detail: "redacted"},
		AuditHorizon:    90 * time.Minute,
		Retention:       config.Retention{Payloads: time.Hour, Quarantine: 2 * time.Hour, History: 3 * time.Hour},
		HTTP:            config.HTTP{Listen: "0.0.0.0:80", TokenFile: token, Token: "tok"},
		Log:             config.Log{Level: slog.LevelDebug, Format: "json"},
		ShutdownTimeout: 5 * time.Second,
	}, c)
}

func TestEveryKeyIsReadFromItsVariable(t *testing.T) {
	key, token, ca := write(t, "key", "k", 0o600), write(t, "token", "tok", 0o600), write(t, "ca", authority(t), 0o600)
	c, _, err := config.Load(config.Flags{}, []string{
		"PUSHWATCH_CODAT_BASE_URL=http://127.0.0.1:9000", "PUSHWATCH_CODAT_API_KEY_FILE=" + key, "PUSHWATCH_CODAT_ALLOW_HTTP=true",
		"PUSHWATCH_CODAT_CA_FILE=" + ca,
		"PUSHWATCH_COMPANIES=a=One, b ,c=x=y", "PUSHWATCH_DATA_DIR=/data",
		"PUSHWATCH_POLL_MODE=cron", "PUSHWATCH_POLL_DISCOVER=@every 5s", "PUSHWATCH_POLL_TRACK=*/2 * * * *",
		"PUSHWATCH_POLL_SWEEP=0 4 * * *", "PUSHWATCH_POLL_PAGE_SIZE=5000", "PUSHWATCH_POLL_BASELINE=publish",
		"PUSHWATCH_QUOTA_RESERVE=0.95", "PUSHWATCH_POSTGRES_URL=postgres://x", "PUSHWATCH_POSTGRES_MIGRATE=verify",
		"PUSHWATCH_POSTGRES_POOLER=transaction", "PUSHWATCH_NATS_URL=nats://x", "PUSHWATCH_NATS_CREDENTIALS_FILE=/c",
		"PUSHWATCH_NATS_STREAM=S", "PUSHWATCH_NATS_SUBJECT_PREFIX=p", "PUSHWATCH_NATS_MANAGE=update", "PUSHWATCH_NATS_MAX_AGE=1h",
		"PUSHWATCH_NATS_MAX_BYTES=5", "PUSHWATCH_NATS_REPLICAS=5", "PUSHWATCH_EVENTS_DETAIL=redacted", "PUSHWATCH_AUDIT_HORIZON=2h",
		"PUSHWATCH_RETENTION_PAYLOADS=0", "PUSHWATCH_RETENTION_QUARANTINE=1h", "PUSHWATCH_RETENTION_HISTORY=8760h",
		"PUSHWATCH_HTTP_LISTEN=:0", "PUSHWATCH_HTTP_TOKEN_FILE=" + token, "PUSHWATCH_LOG_LEVEL=error", "PUSHWATCH_LOG_FORMAT=text",
		"PUSHWATCH_SHUTDOWN_TIMEOUT=1s",
	})
	require.NoError(t, err)
	assert.Equal(t, config.Config{
		DataDir:   "/data",
		Codat:     config.Codat{BaseURL: "http://127.0.0.1:9000", APIKey: "k", APIKeyFile: key, AllowHTTP: true, CAFile: ca, CA: text(t, ca)},
		Companies: []config.Company{{ID: "a", Name: "One"}, {ID: "b"}, {ID: "c", Name: "x=y"}},
		Poll: config.Poll{Mode: "cron", Discover: "@every 5s", Track: "*/2 * * * *", Sweep: "0 4 * * *",
			PageSize: 5000, Baseline: "publish"},
		Quota:    config.Quota{Reserve: 0.95},
		Postgres: config.Postgres{External: true, URL: "postgres://x", Migrate: "verify", Pooler: "transaction"},
		NATS: config.NATS{URL: "nats://x", CredentialsFile: "/c", Stream: "S", SubjectPrefix: "p",
			Manage: "update", MaxAge: time.Hour, MaxBytes: 5, Replicas: 5},
		Events:          config.Events{Detail: "redacted"},
		AuditHorizon:    2 * time.Hour,
		Retention:       config.Retention{Quarantine: time.Hour, History: 8760 * time.Hour},
		HTTP:            config.HTTP{Listen: ":0", TokenFile: token, Token: "tok"},
		Log:             config.Log{Level: slog.LevelError, Format: "text"},
		ShutdownTimeout: time.Second,
	}, c)
}

func TestPrecedence(t *testing.T) {
	key := write(t, "key", "from file", 0o600)
	other := write(t, "other", "from another file", 0o600)
	yaml := "codat: {api_key_file: " + key + "}\ncompanies: [{id: file}]\n" +
		"postgres: {url: file}\nnats: {url: file, credentials_file: file}\nlog: {level: warn}\nhttp: {listen: '127.0.0.1:1'}\n"
	for _, c := range []struct {
		name    string
		flags   config.Flags
		environ []string
		read    func(config.Config) string
		want    string
	}{
		{"the file beats the default", config.Flags{}, nil, func(c config.Config) string { return c.Log.Level.String() }, "WARN"},
		{"a variable beats the file", config.Flags{}, []string{"PUSHWATCH_LOG_LEVEL=error"}, func(c config.Config) string { return c.Log.Level.String() }, "ERROR"},
		{"a flag beats the variable", config.Flags{LogLevel: "debug"}, []string{"PUSHWATCH_LOG_LEVEL=error"}, func(c config.Config) string { return c.Log.Level.String() }, "DEBUG"},
		{"an empty variable is unset", config.Flags{}, []string{"PUSHWATCH_LOG_LEVEL="}, func(c config.Config) string { return c.Log.Level.String() }, "WARN"},
		{"the flag beats the variable of the address too", config.Flags{HTTPListen: "127.0.0.1:3"}, []string{"PUSHWATCH_HTTP_LISTEN=127.0.0.1:2"}, func(c config.Config) string { return c.HTTP.Listen }, "127.0.0.1:3"},
		{"the flag beats the variable of the data directory", config.Flags{DataDir: "/flag"}, []string{"PUSHWATCH_DATA_DIR=/env"}, func(c config.Config) string { return c.DataDir }, "/flag"},
		{"the file's database", config.Flags{}, nil, func(c config.Config) string { return c.Postgres.URL.Reveal() }, "file"},
		{"DATABASE_URL beats the file", config.Flags{}, []string{"DATABASE_URL=custom"}, func(c config.Config) string { return c.Postgres.URL.Reveal() }, "custom"},
		{"PUSHWATCH_POSTGRES_URL beats DATABASE_URL", config.Flags{}, []string{"PUSHWATCH_POSTGRES_URL=own", "DATABASE_URL=custom"}, func(c config.Config) string { return c.Postgres.URL.Reveal() }, "own"},
		{"NATS_URL beats the file", config.Flags{}, []string{"NATS_URL=custom"}, func(c config.Config) string { return c.NATS.URL.Reveal() }, "custom"},
		{"PUSHWATCH_NATS_URL beats NATS_URL", config.Flags{}, []string{"NATS_URL=custom", "PUSHWATCH_NATS_URL=own"}, func(c config.Config) string { return c.NATS.URL.Reveal() }, "own"},
		{"NATS_CREDS beats the file", config.Flags{}, []string{"NATS_CREDS=custom"}, func(c config.Config) string { return c.NATS.CredentialsFile }, "custom"},
		{"PUSHWATCH_NATS_CREDENTIALS_FILE beats NATS_CREDS", config.Flags{}, []string{"NATS_CREDS=custom", "PUSHWATCH_NATS_CREDENTIALS_FILE=own"}, func(c config.Config) string { return c.NATS.CredentialsFile }, "own"},
		{"the key file", config.Flags{}, nil, func(c config.Config) string { return c.Codat.APIKey.Reveal() }, "from file"},
		{"a variable names another key file", config.Flags{}, []string{"PUSHWATCH_CODAT_API_KEY_FILE=" + other}, func(c config.Config) string { return c.Codat.APIKey.Reveal() }, "from another file"},
		{"CODAT_API_KEY beats every key file, and none is read", config.Flags{}, []string{"CODAT_API_KEY=variable", "PUSHWATCH_CODAT_API_KEY_FILE=/does/not/exist"}, func(c config.Config) string { return c.Codat.APIKey.Reveal() }, "variable"},
		{"the file's companies", config.Flags{}, nil, func(c config.Config) string { return c.Companies[0].ID }, "file"},
		{"the variable replaces the file's companies", config.Flags{}, []string{"PUSHWATCH_COMPANIES=env"}, func(c config.Config) string { return c.Companies[0].ID }, "env"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.flags.File = write(t, "pw.yaml", yaml, 0o600)
			got, _, err := config.Load(c.flags, c.environ)
			require.NoError(t, err)
			assert.Equal(t, c.want, c.read(got))
			assert.Len(t, got.Companies, 1)
			assert.False(t, got.HTTP.AnyPort, "an address that was set is wanted")
		})
	}
	t.Run("--config beats PUSHWATCH_CONFIG", func(t *testing.T) {
		byFlag, byVariable := write(t, "a.yaml", "shutdown_timeout: 1s", 0o600), write(t, "b.yaml", "shutdown_timeout: 2s", 0o600)
		environ := append([]string{"PUSHWATCH_CONFIG=" + byVariable}, enough...)
		c, _, err := config.Load(config.Flags{}, environ)
		require.NoError(t, err)
		assert.Equal(t, 2*time.Second, c.ShutdownTimeout)
		assert.Equal(t, byVariable, c.File)
		c, _, err = config.Load(config.Flags{File: byFlag}, environ)
		require.NoError(t, err)
		assert.Equal(t, time.Second, c.ShutdownTimeout)
		assert.Equal(t, byFlag, c.File)
	})
}

func TestPostgresIsExternalWhenAnythingNamesOne(t *testing.T) {
	for environ, want := range map[string]bool{
		"": false, "DATABASE_URL=postgres://x": true, "PUSHWATCH_POSTGRES_URL=postgres://x": true, "PGHOST=db": true, "PGSERVICE=s": true,
		"PGHOST=": false, "PGPORT=5433": false, "PGUSER=me": false, "PGDATABASE=d": false,
	} {
		c, _, err := config.Load(config.Flags{}, append([]string{environ}, enough...))
		require.NoError(t, err)
		assert.Equal(t, want, c.Postgres.External, environ)
	}
	c, _, err := load(t, "postgres: {url: postgres://x}", enough...)
	require.NoError(t, err)
	assert.True(t, c.Postgres.External)
}

func TestEmptyMeansUnset(t *testing.T) {
	c, _, err := load(t, "codat:\npoll:\n  discover:\n  track: ''\n  page_size: ~\nnats: {url: '', max_age: null}\ncompanies:\nhttp: {}\n", enough...)
	require.NoError(t, err)
	assert.Equal(t, "*/5 * * * *", c.Poll.Discover)
	assert.Equal(t, "* * * * *", c.Poll.Track)
	assert.Equal(t, 100, c.Poll.PageSize)
	assert.Equal(t, 720*time.Hour, c.NATS.MaxAge)
	assert.False(t, c.NATS.External())
	assert.True(t, c.HTTP.AnyPort)
	for _, file := range []string{"", "# nothing\n", "---\n", "---\n...\n", "\ufeff# with a byte order mark\n"} {
		_, _, err := load(t, file, enough...)
		assert.NoError(t, err, "%q", file)
	}
}

func TestWhatKubernetesInjectsIsIgnored(t *testing.T) {
	_, _, err := config.Load(config.Flags{}, append([]string{"PUSHWATCH_SERVICE_HOST=10.0.0.1", "PUSHWATCH_SERVICE_PORT_HTTP=80",
		"PUSHWATCH_PORT=tcp://10.0.0.1:80", "PUSHWATCH_PORT_80_TCP=tcp://10.0.0.1:80", "PUSHWATCH_NOTHING="}, enough...))
	assert.NoError(t, err)
}

func TestCommandsThatNeedLess(t *testing.T) {
	c, _, err := config.Load(config.Flags{WithoutCompanies: true, WithoutAPIKey: true},
		[]string{"DATABASE_URL=postgres://x", "PUSHWATCH_CODAT_API_KEY_FILE=/does/not/exist", "PUSHWATCH_CODAT_CA_FILE=/does/not/exist"})
	require.NoError(t, err)
	assert.Empty(t, c.Companies)
	assert.Empty(t, c.Codat.APIKey)
}

func TestErrorsAreOfOneTypeAndOneLine(t *testing.T) {
	_, _, err := load(t, "a\nb: \x01\n: :\n", enough...)
	var configuration *config.Error
	require.True(t, errors.As(err, &configuration))
	assert.NotContains(t, err.Error(), "\n")
}
