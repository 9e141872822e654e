package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/publisher"
)

// The canaries. Passwords hold what a URL must escape; a search for the part
// before it finds every spelling.
const (
	canaryKey   = "canary-key-5f3a9c"
	canaryPG    = "canary-pg-5f3a9c"
	canaryNATS  = "canary-nats-5f3a9c"
	canaryJWT   = "canary-jwt-5f3a9c"
	canaryHTTP  = "canary-http-5f3a9c"
	escaped     = "/x#y?%"
	canarySeed  = "SUAHDGR5X65ZY7RI6CYANQPUJNKPMRUZ773RRRT3QRLLYAB52JZETEABTI" // a real one, used nowhere else
	credentials = "-----BEGIN NATS USER JWT-----\n" + canaryJWT + "\n------END NATS USER JWT------\n\n" +
		"-----BEGIN USER NKEY SEED-----\n" + canarySeed + "\n------END USER NKEY SEED------\n"
)

// spellings are the forms in which a secret might be shown.
func spellings() (all []string) {
	for _, secret := range []string{canaryKey, canaryPG, canaryNATS, canaryJWT, canaryHTTP, canarySeed} {
		all = append(all, secret, hex.EncodeToString([]byte(secret)), url.QueryEscape(secret))
		for _, whole := range []string{secret, secret + escaped, "relay:" + secret + escaped} {
			encoded := base64.StdEncoding.EncodeToString([]byte(whole))
			all = append(all, strings.TrimRight(encoded, "=")[:len(encoded)-6]) // whatever follows it
		}
	}
	return all
}

// requireNone fails where a secret is shown, and does not show it.
func requireNone(t *testing.T, where, text string) {
	t.Helper()
	for i, spelling := range spellings() {
		if at := strings.Index(text, spelling); at >= 0 {
			t.Errorf("spelling %d of a secret is shown by %s: …%s[here]", i, where, text[max(0, at-80):at])
		}
	}
}

// panicOn is the signal at which the program of these tests panics.
const panicOn = syscall.SIGUSR1

// panicWhenAsked makes a program panic at panicOn, in a goroutine of its own, as a
// mistake anywhere would.
func panicWhenAsked() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, panicOn)
	go func() {
		<-asked
		panic("asked for by the test")
	}()
}

// vault is the program's surroundings, each with a secret of its own.
type vault struct {
	dir         string
	databaseURL string // with the password, of the daemon's login
	superuser   string
	natsURL     string
	codatURL    string
	company     string
	refuses     atomic.Bool // Codat refuses the key and quotes it
}

func newVault(t *testing.T) *vault {
	v := &vault{dir: t.TempDir()}
	dir, err := embedded.OpenTempDir(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, dir.Close()) })
	postgres, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir.Path, EndWithUs: true, UnsafeNoFsync: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, postgres.Stop(context.WithoutCancel(t.Context()))) })
	v.superuser = postgres.URL()
	v.askForPasswords(t, filepath.Join(dir.Path, "postgres", "pg_hba.conf"))
	broker := startPasswordBroker(t)
	v.natsURL = "nats://relay:" + url.PathEscape(canaryNATS+escaped) + "@" + broker.Addr().String()
	sim, err := codatsim.New(codatsim.Config{Seed: 7, Companies: codatsim.MakeCompanies(7, 1), Key: canaryKey, History: 30, Rate: 120, DayLimit: 1 << 30})
	require.NoError(t, err)
	v.company = codatsim.MakeCompanies(7, 1)[0].ID
	var requests atomic.Int64
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusBadGateway
		if v.refuses.Load() {
			status = http.StatusUnauthorized
		} else if requests.Add(1)%4 != 0 {
			sim.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/"+canaryKey)
		w.Header().Set("Location", "/?key="+canaryKey)
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":"you sent %s, which is %s","correlationId":"%s"}`, r.Header.Get("Authorization"), canaryKey, canaryKey)
	}))
	t.Cleanup(api.Close)
	v.codatURL = api.URL
	for name, text := range map[string]string{"creds": credentials, "token": canaryHTTP, "key": canaryKey + "\n"} {
		require.NoError(t, os.WriteFile(filepath.Join(v.dir, name), []byte(text), 0o600))
	}
	return v
}

// askForPasswords gives the daemon's login a password and has the server ask for it.
func (v *vault) askForPasswords(t *testing.T, rules string) {
	text, err := os.ReadFile(rules)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(rules, append([]byte("local all daemon scram-sha-256\n"), text...), 0o600))
	conn, err := pgx.Connect(t.Context(), v.superuser)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range []string{`create role daemon login password '` + canaryPG + escaped + `'`, `create database kept owner daemon`, `select pg_reload_conf()`} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	u, err := url.Parse(v.superuser)
	require.NoError(t, err)
	u.User, u.Path = url.UserPassword("daemon", canaryPG+escaped), "/kept"
	v.databaseURL = u.String()
	require.Eventually(t, func() bool { // the server rereads its rules in its own time
		u.User = url.UserPassword("daemon", "wrong")
		c, err := pgx.Connect(t.Context(), u.String())
		if err == nil {
			_ = c.Close(t.Context())
		}
		return err != nil
	}, 10*time.Second, 20*time.Millisecond)
}

func startPasswordBroker(t *testing.T) *natsserver.Server {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		Username: "relay", Password: canaryNATS + escaped})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	return s
}

// environ is the program's environment; of what is there twice the last one wins.
func (v *vault) environ(more ...string) []string {
	return append([]string{"DATABASE_URL=" + v.databaseURL, "NATS_URL=" + v.natsURL, "PUSHWATCH_CODAT_API_KEY_FILE=" + filepath.Join(v.dir, "key"),
		"PUSHWATCH_HTTP_TOKEN_FILE=" + filepath.Join(v.dir, "token"), "PUSHWATCH_CODAT_BASE_URL=" + v.codatURL, "PUSHWATCH_COMPANIES=" + v.company,
		"PUSHWATCH_POLL_BASELINE=publish", "PUSHWATCH_POLL_DISCOVER=@every 1s", "PUSHWATCH_POLL_TRACK=@every 1s", "PUSHWATCH_LOG_LEVEL=debug",
		"PUSHWATCH_LOG_FORMAT=json"}, more...)
}

var servedAt = regexp.MustCompile(`"msg":"running".*"http":"([^"]*)"`)

// daemon starts the daemon and waits until it runs; it returns where it serves.
func (v *vault) daemon(t *testing.T, log *lockedBuffer, environ []string) (process *os.Process, wait func() error, address string) {
	cmd := program(t.Context(), t, environ, "run", "--http-listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = log, log
	require.NoError(t, cmd.Start())
	var found []string
	require.Eventually(t, func() bool {
		found = servedAt.FindStringSubmatch(log.String())
		return found != nil
	}, time.Minute, 50*time.Millisecond)
	arguments, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid))
	if err == nil { // where there is such a file
		requireNone(t, "the list of processes", string(arguments))
	}
	return cmd.Process, cmd.Wait, found[1]
}

// get asks the daemon as somebody who has the token.
func get(t *testing.T, address, path string) string {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	require.NoError(t, err)
	request.Header.Set("Authorization", "Bearer "+canaryHTTP)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var text bytes.Buffer
	require.NoError(t, response.Write(&text)) // with its headers
	return text.String()
}

// TestNoSecretIsShownAnywhere runs the program with a secret of each kind, at work
// and failing, against a Codat that quotes the key wherever it can, and looks for
// them in everything that leaves the process.
func TestNoSecretIsShownAnywhere(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	t.Run("of a daemon at work", func(t *testing.T) { v.checkWork(t) })
	t.Run("by a start that fails", func(t *testing.T) { v.checkFailures(t) })
	t.Run("while Codat refuses the key", func(t *testing.T) { v.checkRefusal(t) })
	t.Run("by crashes", func(t *testing.T) { v.checkCrashes(t) })
	t.Run("with a file of credentials", func(t *testing.T) { v.checkCredentials(t) })
	t.Run("with embedded servers", func(t *testing.T) { v.checkEmbedded(t) })
}

func (v *vault) checkWork(t *testing.T) {
	var log lockedBuffer
	process, wait, address := v.daemon(t, &log, v.environ())
	require.Eventually(t, func() bool {
		return v.count(t, `select count(*) from reporting.push_transitions where published_at is not null`) >= 40
	},
		time.Minute, 200*time.Millisecond)
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "HTTP 502") }, time.Minute, 200*time.Millisecond, "the quoted key was seen")
	for _, path := range []string{"/metrics", "/readyz", "/livez", "/nowhere"} {
		requireNone(t, path, get(t, address, path))
	}
	for _, command := range []string{"check", "check -o json", "status", "status -o json", "audit", "quarantine list -o csv", "migrate status",
		"replay --dry-run --since 1h", "options " + v.company + " c invoices", "show nothing", "version"} {
		got := run(t, v.environ(), strings.Fields(command)...)
		requireNone(t, command, got.stdout+got.stderr)
	}
	tail := program(t.Context(), t, v.environ(), "tail", "--since", "1h")
	var tailed lockedBuffer
	tail.Stdout, tail.Stderr = &tailed, &tailed
	require.NoError(t, tail.Start())
	require.Eventually(t, func() bool { return strings.Count(tailed.String(), "\n") > 20 }, time.Minute, 50*time.Millisecond)
	require.NoError(t, tail.Process.Signal(os.Interrupt))
	require.NoError(t, tail.Wait())
	requireNone(t, "tail", tailed.String())
	require.NoError(t, process.Signal(os.Interrupt))
	require.NoError(t, wait())
	requireNone(t, "the log", log.String())
	v.checkTables(t)
	v.checkStream(t)
}

func (v *vault) count(t *testing.T, sql string) (n int64) {
	conn, err := pgx.Connect(t.Context(), v.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if conn.QueryRow(t.Context(), sql).Scan(&n) != nil {
		return 0 // the schema is not there yet
	}
	return n
}

// checkTables reads every table and view that is not PostgreSQL's own, and what
// PostgreSQL tells of the daemon's sessions.
func (v *vault) checkTables(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), v.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `
select format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')`)
	require.NoError(t, err)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Greater(t, len(tables), 15)
	for _, table := range append(tables, "pg_catalog.pg_stat_activity") {
		rows, err := conn.Query(t.Context(), `select row::text from `+table+` as row`) // bytes are in hex
		require.NoError(t, err, table)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err, table)
		requireNone(t, table, strings.Join(texts, "\n"))
	}
}

func (v *vault) checkStream(t *testing.T) {
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: v.natsURL})
	require.NoError(t, err)
	defer nc.Close()
	read := 0
	require.NoError(t, publisher.ReadAll(t.Context(), nc, "CODAT_PUSH", func(m publisher.StoredMessage) error {
		requireNone(t, "the stream", fmt.Sprint(m.Subject, m.ID, m.Header, string(m.Data)))
		read++
		return nil
	}))
	assert.GreaterOrEqual(t, read, 40)
}

// checkFailures starts the program with what is wrong, secrets and all.
func (v *vault) checkFailures(t *testing.T) {
	closed := closedPort(t)
	broken := filepath.Join(v.dir, "broken-creds")
	require.NoError(t, os.WriteFile(broken, []byte(strings.ReplaceAll(credentials, "USER NKEY", "NKEY")), 0o600))
	half := filepath.Join(v.dir, "half.yaml")
	require.NoError(t, os.WriteFile(half, []byte("companies: [{id: c}]\npostgres: {url: '"+v.databaseURL+"'\nnats: {url: "+canaryNATS+"}\n"), 0o600))
	loose := filepath.Join(v.dir, "loose")
	require.NoError(t, os.WriteFile(loose, []byte(canaryKey), 0o600))
	require.NoError(t, os.Chmod(loose, 0o606))
	for name, environ := range map[string][]string{
		"a wrong password of the database":       {"DATABASE_URL=" + strings.Replace(v.databaseURL, "canary-pg-5f3a9c", "canary-pg-5f3a9c-wrong", 1)},
		"a database that is not there":           {"DATABASE_URL=postgres://u:" + canaryPG + "@" + closed + "/x"},
		"a database's address that is none":      {"DATABASE_URL=postgres://u:" + canaryPG + "/x@h:5432/x"},
		"a database's name that is unknown":      {"DATABASE_URL=" + strings.Replace(v.databaseURL, "/kept", "/other", 1)},
		"a database's words that are none":       {"DATABASE_URL=host=h password = " + canaryPG + " sslmode=perhaps"},
		"a wrong password of the broker":         {"NATS_URL=" + strings.Replace(v.natsURL, "canary-nats-5f3a9c", "canary-nats-5f3a9c-wrong", 1)},
		"a broker that is not there":             {"NATS_URL=nats://" + canaryNATS + "@" + closed},
		"a broker's address that is none":        {"NATS_URL=nats://relay:" + canaryNATS + "/x@h:4222"},
		"credentials that are damaged":           {"NATS_CREDS=" + broken, "NATS_URL=nats://" + v.natsURL[strings.LastIndex(v.natsURL, "@")+1:]},
		"an address of Codat that holds a key":   {"PUSHWATCH_CODAT_BASE_URL=https://u:" + canaryKey + "@api.codat.io"},
		"a key with a line break":                {"CODAT_API_KEY=" + canaryKey + "\nx"},
		"a key in base64 that is none":           {"CODAT_API_KEY=Basic " + canaryKey},
		"a file that ends in the middle":         {"PUSHWATCH_CONFIG=" + half},
		"a key file that everybody may write":    {"PUSHWATCH_CODAT_API_KEY_FILE=" + loose},
		"a variable for the key that is unknown": {"PUSHWATCH_CODAT_API_KEY=" + canaryKey},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, command := range []string{"run", "check", "status"} {
				got := run(t, v.environ(environ...), command)
				requireNone(t, command, got.stdout+got.stderr)
				if command == "run" {
					assert.Contains(t, []int{exitService, exitConfig}, got.code, got.stderr)
				}
			}
		})
	}
}

func (v *vault) checkRefusal(t *testing.T) {
	v.refuses.Store(true)
	defer v.refuses.Store(false)
	var log lockedBuffer
	process, wait, address := v.daemon(t, &log, v.environ())
	require.Eventually(t, func() bool { return strings.Contains(get(t, address, "/readyz"), "unauthorised") }, time.Minute, 100*time.Millisecond)
	requireNone(t, "/readyz", get(t, address, "/readyz"))
	requireNone(t, "/metrics", get(t, address, "/metrics"))
	checked := run(t, v.environ(), "check")
	assert.Contains(t, checked.stdout, "401")
	requireNone(t, "check", checked.stdout+checked.stderr)
	require.NoError(t, process.Signal(os.Interrupt))
	require.NoError(t, wait())
	requireNone(t, "the log", log.String())
	_, err := v.exec(t, `update pushwatch.quota_gate set blocked_until = null, blocked_by = null`)
	require.NoError(t, err)
}

func (v *vault) exec(t *testing.T, sql string) (int64, error) {
	conn, err := pgx.Connect(t.Context(), v.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	done, err := conn.Exec(t.Context(), sql)
	return done.RowsAffected(), err
}

// checkCrashes looks at what the runtime prints of all goroutines: for SIGQUIT, and
// for a panic in the middle of the work.
func (v *vault) checkCrashes(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		says   string
	}{{"SIGQUIT", syscall.SIGQUIT, "SIGQUIT: quit"}, {"a panic", panicOn, "panic: asked for"}} {
		var log lockedBuffer
		process, wait, _ := v.daemon(t, &log, v.environ("GOTRACEBACK=all"))
		require.NoError(t, process.Signal(c.signal))
		require.Error(t, wait(), c.name)
		assert.Contains(t, log.String(), c.says)
		assert.Greater(t, strings.Count(log.String(), "goroutine "), 10, c.name)
		requireNone(t, c.name, log.String())
	}
}

// checkCredentials works with a file of credentials, at a server that takes any.
func (v *vault) checkCredentials(t *testing.T) {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	environ := v.environ("NATS_URL=nats://"+s.Addr().String(), "NATS_CREDS="+filepath.Join(v.dir, "creds"), "PUSHWATCH_LOG_FORMAT=text")
	cmd := program(t.Context(), t, environ, "check")
	out, _ := cmd.CombinedOutput() // Codat may have answered with a 502
	assert.Regexp(t, `nats +ok`, string(out))
	requireNone(t, "check", string(out))
	var log lockedBuffer
	started := program(t.Context(), t, environ, "run", "--http-listen", "127.0.0.1:0")
	started.Stdout, started.Stderr = &log, &log
	require.NoError(t, started.Start())
	require.Eventually(t, func() bool { return strings.Contains(log.String(), "msg=running") }, time.Minute, 50*time.Millisecond)
	require.NoError(t, started.Process.Signal(os.Interrupt))
	require.NoError(t, started.Wait())
	requireNone(t, "the log", log.String())
}

// checkEmbedded: the token that pushwatch makes for its own NATS server is in the
// two files that are made for it, for this user alone, and nowhere else.
func (v *vault) checkEmbedded(t *testing.T) {
	parent, err := os.MkdirTemp("", "pushwatch-canary-") // where PostgreSQL's user may enter
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(parent)) })
	require.NoError(t, os.Chmod(parent, 0o755))
	data := filepath.Join(parent, "data")
	environ := v.environ("DATABASE_URL=", "NATS_URL=", "PUSHWATCH_DATA_DIR="+data)
	var log lockedBuffer
	process, wait, address := v.daemon(t, &log, environ)
	text, err := os.ReadFile(filepath.Join(data, "nats", "token"))
	require.NoError(t, err)
	token := strings.TrimSpace(string(text))
	require.Greater(t, len(token), 20)
	shown := get(t, address, "/metrics") + get(t, address, "/readyz")
	for _, command := range []string{"status -o json", "check", "audit"} {
		got := run(t, environ, strings.Fields(command)...)
		shown += got.stdout + got.stderr
	}
	require.NoError(t, process.Signal(os.Interrupt))
	require.NoError(t, wait())
	shown += log.String()
	requireNone(t, "the program", shown)
	assert.False(t, strings.Contains(shown, token), "the token is shown")
	for _, name := range []string{"connect.env", filepath.Join("nats", "token")} {
		info, err := os.Stat(filepath.Join(data, name))
		require.NoError(t, err)
		assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), name)
	}
	serverLog, err := os.ReadFile(filepath.Join(data, "postgres.log"))
	require.NoError(t, err)
	assert.False(t, strings.Contains(string(serverLog), token))
	requireNone(t, "postgres.log", string(serverLog))
}
