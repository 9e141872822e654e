package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/publisher"
)

// asProgram makes the test binary be the program.
const asProgram = "TEST_AS_PUSHWATCH"

// result is how a program ended.
type result struct {
	code           int
	stdout, stderr string
}

// program prepares the program with nothing but environ around it.
func program(ctx context.Context, t *testing.T, environ []string, args ...string) *exec.Cmd {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, environ...)
	return cmd
}

// run runs the program to its end.
func run(t *testing.T, environ []string, args ...string) result {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := program(ctx, t, environ, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	require.NoError(t, ctx.Err(), "still running after a minute: %s", stderr.String())
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// refusal is a start that must not happen.
type refusal struct {
	name    string
	file    string // the configuration file's text; empty: none
	environ []string
	args    []string // empty: run
	code    int
	says    []string // what the last line on stderr must hold
}

const sound = "companies: [{id: c}]\n"

// TestWhatCannotWorkIsRefusedWithTheRightCodeAndSaysWhatToDo runs the program
// itself. Every refusal is one line; none holds a secret.
func TestWhatCannotWorkIsRefusedWithTheRightCodeAndSaysWhatToDo(t *testing.T) {
	closed := closedPort(t)
	broker := startBroker(t)
	ready := []string{"CODAT_API_KEY=canary-key", "NATS_URL=" + broker.URL(), "DATABASE_URL=" + server.URL(t)}
	for _, c := range append(configurationRefusals(t), []refusal{
		{name: "a command that does not exist", args: []string{"rnu"}, code: 2, says: []string{`"rnu"`}},
		{name: "a flag that does not exist", args: []string{"run", "--confg", "x"}, code: 2, says: []string{"--confg", "pushwatch run --help"}},
		{name: "an argument too many", args: []string{"run", "now"}, code: 2, says: []string{"pushwatch run --help"}},
		{name: "a form of output that does not exist", args: []string{"check", "-o", "yaml"}, code: 2, says: []string{"text, json"}},
		{name: "a data directory of somebody else", args: []string{"run", "--data-dir", somebodyElses(t)}, file: sound,
			environ: []string{"CODAT_API_KEY=canary-key"}, code: 78, says: []string{"belongs to user", "--data-dir"}},
		{name: "a database that is not there", file: sound, environ: append(ready, "DATABASE_URL=postgres://u:canary-key@"+closed+"/x"),
			code: 69, says: []string{"PostgreSQL", closed, "start it", "DATABASE_URL"}},
		{name: "a broker that is not there", file: sound, environ: append(ready, "NATS_URL=nats://canary-key@"+closed), code: 69, says: []string{"NATS", closed, "start it", "NATS_URL"}},
		{name: "a broker that does not take the token", file: sound, environ: append(ready, "NATS_URL=nats://canary-key@"+strings.TrimPrefix(broker.Address(), "nats://")),
			code: 69, says: []string{"NATS", "Authorization", "token"}},
		{name: "an address that is taken", file: sound, environ: append(ready, "PUSHWATCH_HTTP_LISTEN="+takenPort(t)), code: 69, says: []string{"http.listen", "in use", "another address"}},
		{name: "the default address, wanted by name and taken", file: sound + "http: {listen: " + takenDefault(t) + "}\n", environ: ready,
			code: 69, says: []string{"http.listen", "in use"}},
		{name: "a database URL that is none", file: sound, environ: append(ready, "DATABASE_URL=postgres://u:canary-key@h:port/x"), code: 78, says: []string{"DATABASE_URL: postgres.url: connection string"}},
		{name: "a database URL that is none, in the file", file: sound + "postgres: {url: 'postgres://u:canary-key@h:port/x'}\n", environ: ready[:1], code: 78,
			says: []string{".yaml:2:17: postgres.url: connection string"}},
		{name: "libpq's variables that are none", file: sound, environ: append(ready[:1:1], "PGHOST=localhost", "PGPORT=x"), code: 78, says: []string{"PGHOST or PGSERVICE: connection string"}},
		{name: "a broker's URL that is none", file: sound, environ: append(ready, "NATS_URL=nats://canary-key@h:port"), code: 78, says: []string{"NATS_URL: nats.url: server 1: it is not a URL"}},
		{name: "a second broker's URL that is none", file: sound + "nats: {url: 'nats://127.0.0.1:4222,nats://canary-key@h:port'}\n", environ: ready[:1], code: 78,
			says: []string{".yaml:2:13: nats.url: server 2: it is not a URL"}},
		{name: "credentials that are not there", file: sound, environ: append(ready, "NATS_CREDS=/nowhere/creds"), code: 78, says: []string{"/nowhere/creds"}},
		{name: "a base URL without encryption", file: sound, environ: append(ready, "PUSHWATCH_CODAT_BASE_URL=http://example.com"), code: 78, says: []string{"PUSHWATCH_CODAT_BASE_URL: codat.base_url: http is taken for loopback", "https"}},
		{name: "a base URL with a key", file: sound + "codat: {base_url: 'https://canary-key@api.codat.io'}\n", environ: ready[:1], code: 78,
			says: []string{".yaml:2:19: codat.base_url: it must not hold a user"}},
		{name: "a stream that does not take our subjects", file: sound, environ: append(ready, "PUSHWATCH_NATS_STREAM="+otherStream(t, broker)),
			code: 78, says: []string{"subjects", "nats stream edit"}},
		{name: "a database that may lose commits", file: sound, environ: append(ready, "DATABASE_URL="+databaseWith(t, `alter database %s set synchronous_commit = off`)),
			code: 78, says: []string{"synchronous_commit"}},
		{name: "a schema from the future", file: sound,
			environ: append(ready, "DATABASE_URL="+databaseWith(t, `insert into pushwatch.schema_version (version_id, is_applied) values (999, true)`)),
			code:    78, says: []string{"999", "newer pushwatch"}},
		{name: "pending migrations that may not be applied", file: sound + "postgres: {migrate: verify}\n",
			environ: append(ready, "DATABASE_URL="+server.EmptyURL(t)), code: 78, says: []string{"pushwatch migrate up"}},
	}...) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			args := c.args
			if args == nil {
				args = []string{"run", "--data-dir", filepath.Join(t.TempDir(), "data")}
			}
			if c.file != "" {
				args = append(args, "--config", writeConfig(t, c.file))
			}
			got := run(t, c.environ, args...)
			lines := strings.Split(strings.TrimSpace(got.stderr), "\n")
			last := lines[len(lines)-1]
			assert.Equal(t, c.code, got.code, got.stderr)
			assert.True(t, strings.HasPrefix(last, "pushwatch: "), last)
			for _, word := range c.says {
				assert.Contains(t, last, word)
			}
			assert.NotContains(t, got.stdout+got.stderr, "canary-key")
			assert.NotContains(t, got.stderr, "goroutine ")
		})
	}
}

// TestAnAddressThatIsNoneIsRefusedBeforeAnythingIsStarted, and check tells it where
// it tells of the configuration.
func TestAnAddressThatIsNoneIsRefusedBeforeAnythingIsStarted(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	environ := []string{"CODAT_API_KEY=canary-key", "PUSHWATCH_COMPANIES=c", "NATS_URL=nats://canary-key@h:port", "PUSHWATCH_DATA_DIR=" + data}
	started := run(t, environ, "run")
	assert.Equal(t, exitConfig, started.code, started.stderr)
	assert.NoDirExists(t, data)
	checked := run(t, environ, "check")
	assert.Equal(t, exitConfig, checked.code, checked.stderr)
	assert.Regexp(t, `^configuration +FAILED +NATS_URL: nats\.url: server 1: it is not a URL`, checked.stdout)
}

// configurationRefusals are those of the configuration alone; the package config
// has many more.
func configurationRefusals(t *testing.T) []refusal {
	key := []string{"CODAT_API_KEY=canary-key"}
	loose := filepath.Join(t.TempDir(), "key")
	require.NoError(t, os.WriteFile(loose, []byte("canary-key"), 0o600))
	require.NoError(t, os.Chmod(loose, 0o666)) // whatever the umask
	return []refusal{
		{name: "an unknown key", file: "pol: {}\n" + sound, environ: key, code: 78, says: []string{":1:1", "pol", "poll"}},
		{name: "a key twice", file: sound + sound, environ: key, code: 78, says: []string{":2:1", "companies"}},
		{name: "a cron spec that is none", file: sound + "poll: {discover: often}\n", environ: key, code: 78, says: []string{"poll.discover", `"often"`}},
		{name: "a cron spec that never fires", file: sound + "poll: {sweep: 0 0 30 2 *}\n", environ: key, code: 78, says: []string{"poll.sweep", "never fires"}},
		{name: "half a second", file: sound + "poll: {track: '@every 500ms'}\n", environ: key, code: 78, says: []string{"poll.track", "whole number of seconds"}},
		{name: "a cron spec over which the library's parser panics", file: sound + "poll: {track: TZ=0}\n", environ: key, code: 78, says: []string{"poll.track", "CRON_TZ"}},
		{name: "a mode that is not built yet", file: sound + "poll: {mode: adaptive}\n", environ: key, code: 78, says: []string{"poll.mode", "cron"}},
		{name: "no companies", environ: key, code: 78, says: []string{"companies"}},
		{name: "a company twice", file: "companies: [{id: c}, {id: c}]\n", environ: key, code: 78, says: []string{`"c"`}},
		{name: "no API key", file: sound, code: 78, says: []string{"CODAT_API_KEY"}},
		{name: "a key file that everybody can write to", file: sound + "codat: {api_key_file: " + loose + "}\n", code: 78, says: []string{loose, "chmod"}},
		{name: "a variable that means nothing", file: sound, environ: append(key, "PUSHWATCH_POL_DISCOVER=x"), code: 78,
			says: []string{"PUSHWATCH_POL_DISCOVER", "PUSHWATCH_POLL_DISCOVER"}},
		{name: "a web address for everybody without a token", file: sound + "http: {listen: 0.0.0.0:8080}\n", environ: key, code: 78, says: []string{"http.token_file"}},
		{name: "a file that is not there", args: []string{"run", "--config", "/nowhere/pushwatch.yaml"}, environ: key, code: 78, says: []string{"/nowhere/pushwatch.yaml"}},
	}
}

func writeConfig(t *testing.T, text string) string {
	path := filepath.Join(t.TempDir(), "pushwatch.yaml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// somebodyElses returns a directory that another user made.
func somebodyElses(t *testing.T) string {
	if os.Geteuid() != 0 {
		return "/"
	}
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, 1, 1))
	return dir
}

func closedPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func takenPort(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String()
}

// takenDefault returns the default address, which is taken: by this test or by
// somebody else.
func takenDefault(t *testing.T) string {
	if listener, err := net.Listen("tcp", defaultListen); err == nil {
		t.Cleanup(func() { _ = listener.Close() })
	}
	return defaultListen
}

func startBroker(t *testing.T) *embedded.NATS {
	broker, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(broker.Stop)
	return broker
}

// otherStream makes a stream of somebody else's and returns its name.
func otherStream(t *testing.T, broker *embedded.NATS) string {
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: broker.URL()})
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	require.NoError(t, err)
	return "ORDERS"
}

// databaseWith returns a migrated database after a statement, in which %s stands
// for the database's name.
func databaseWith(t *testing.T, statement string) string {
	address := server.URL(t)
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), strings.ReplaceAll(statement, "%s", conn.Config().Database))
	require.NoError(t, err)
	return address
}
