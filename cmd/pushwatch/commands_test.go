package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

// TestCheckTriesEmbeddedServersWithoutTouchingTheDataDirectory: what is not there
// yet says nothing of what the real servers hold.
func TestCheckTriesEmbeddedServersWithoutTouchingTheDataDirectory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	data := filepath.Join(enterable(t), "data")
	got := run(t, w.environ("DATABASE_URL=", "NATS_URL=", "PUSHWATCH_POSTGRES_MIGRATE=verify", "PUSHWATCH_NATS_MANAGE=verify"),
		"check", "--data-dir", data)
	assert.Zero(t, got.code, got.stdout+got.stderr)
	for _, part := range []string{"postgresql", "nats"} {
		assert.Regexp(t, `(?m)^`+part+` +ok +embedded, started in a throw-away directory: version \d+`, got.stdout)
	}
	assert.NotContains(t, got.stdout, "next start")
	assert.Regexp(t, `(?m)^data directory +ok +`+data, got.stdout)
	assert.NoDirExists(t, data)
}

// TestCheckRefusesADataDirectoryAsRunDoes, in the same words and with the same code.
func TestCheckRefusesADataDirectoryAsRunDoes(t *testing.T) {
	w := newWorld(t, codatsim.Config{})
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	for _, data := range []string{somebodyElses(t), file} {
		environ := w.environ("DATABASE_URL=")
		started := run(t, environ, "run", "--data-dir", data)
		lines := strings.Split(strings.TrimSpace(started.stderr), "\n")
		checked := run(t, environ, "check", "--data-dir", data)
		assert.Equal(t, exitConfig, started.code, started.stderr)
		assert.Equal(t, exitConfig, checked.code, checked.stdout)
		reason := strings.TrimPrefix(lines[len(lines)-1], "pushwatch: ")
		assert.Regexp(t, `(?m)^data directory +FAILED +`+regexp.QuoteMeta(reason)+`$`, checked.stdout)
		assert.Regexp(t, `(?m)^nats +ok`, checked.stdout, "the rest is tried all the same")
	}
}

func TestMigrationsAreListedInEveryForm(t *testing.T) {
	environ := []string{"DATABASE_URL=" + server.EmptyURL(t)}
	before := run(t, environ, "migrate", "status", "-o", "json")
	require.Zero(t, before.code, before.stderr)
	var listed []struct{ Name, State string }
	require.NoError(t, json.Unmarshal([]byte(before.stdout), &listed))
	require.NotEmpty(t, listed)
	assert.Equal(t, "pending", listed[0].State)
	assert.Equal(t, "00001_operations.sql", listed[0].Name)

	up := run(t, append(environ, "PUSHWATCH_POSTGRES_MIGRATE=verify"), "migrate", "up")
	require.Zero(t, up.code, "a person may, whatever the daemon may: %s", up.stderr)
	after := run(t, environ, "migrate", "status", "-o", "csv")
	lines := strings.Split(strings.TrimSpace(after.stdout), "\n")
	assert.Equal(t, "version,migration,state", lines[0])
	require.Len(t, lines, len(listed)+1)
	for _, line := range lines[1:] {
		assert.True(t, strings.HasSuffix(line, ",applied"), line)
	}
}

// TestAMigrationMayTakeLongerThanTheDatabaseMayTakeToBeReached holds the lock of
// migrations for longer, as another process would that has a large index to build.
func TestAMigrationMayTakeLongerThanTheDatabaseMayTakeToBeReached(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	w.databaseURL = server.EmptyURL(t)
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	const lock = 0x70757368
	_, err = conn.Exec(t.Context(), `select pg_advisory_lock($1::bigint)`, lock)
	require.NoError(t, err)
	cmd := w.daemon(t)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "migrating the database") }, time.Minute, 50*time.Millisecond)
	select {
	case <-ended:
		t.Fatal("it did not wait: ", w.log.String())
	case <-time.After(startTimeout + time.Second):
	}
	_, err = conn.Exec(t.Context(), `select pg_advisory_unlock($1::bigint)`, lock)
	require.NoError(t, err)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "msg=running") }, time.Minute, 50*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, <-ended)
}

func TestTheShellIsOfferedWhatMayStandThere(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"run ":                        ":4",
		"run --config ":               "yaml yml :8",
		"quarantine list --data-dir ": ":16",
		"run --log-level ":            "debug info warn error :4",
		"check --output ":             "text json :4",
		"options c ":                  ":4",
		"demo --seed ":                ":4",
		"tail --status ":              "pending success failed timedout stalled gone :4",
		"replay --status ":            "pending success failed timedout :4",
	} {
		got := run(t, nil, append([]string{"__complete"}, strings.Split(args, " ")...)...)
		assert.Equal(t, want, strings.Join(strings.Fields(got.stdout), " "), args)
	}
}

// A demo whose servers do not start fails as run does. The programs are found, and are none.
func TestADemoWithoutAServerEndsAsRunDoes(t *testing.T) {
	bin := enterable(t)
	for name, text := range map[string]string{"postgres": "echo 'postgres (PostgreSQL) 99.9'", "initdb": "exit 1", "pg_ctl": "exit 1"} {
		require.NoError(t, os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	}
	got := run(t, []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, "demo", "--for", "1s")
	assert.Equal(t, exitService, got.code, got.stderr)
	assert.Contains(t, got.stderr, "embedded PostgreSQL: ")
}

// TestTheFleetIsListedAsCSV: one company a row, with exact cells.
func TestTheFleetIsListedAsCSV(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 5000, time.UTC)
	state := fleet{Companies: []companyState{
		{ID: "a", Name: "Toft, stores", DiscoveredAt: &at, Operations: 3, Unfinished: 2, Disputed: 1, Walking: []string{"discover", "sweep"}, Process: "host/7"},
		{ID: "b"}}}
	var out strings.Builder
	require.NoError(t, state.writeCompanies(&out))
	assert.Equal(t, "company_id,company_name,discovered_at,operations,unfinished,disputed,walking,absent_until,process\n"+
		"a,\"Toft, stores\",2026-11-24T12:00:00.000005Z,3,2,1,discover sweep,,host/7\nb,,,0,0,0,,,\n", out.String())
	listed := run(t, []string{"DATABASE_URL=" + server.URL(t)}, "status", "-o", "csv")
	assert.Zero(t, listed.code, listed.stderr)
	assert.Equal(t, 1, strings.Count(listed.stdout, "\n"), "the heads alone")
}

func TestACompanyThatNoProcessHasIsTold(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	later := at.Add(time.Hour)
	left := companyState{ID: "left", AbsentUntil: &later, Walking: []string{"sweep"}}
	assert.Equal(t, "no process looks at it, unknown to Codat, sweep", left.state(at, true))
	assert.Equal(t, "unknown to Codat, sweep", left.state(at, false), "nothing is at work at all")
	left.Process = "host/7"
	assert.Equal(t, "unknown to Codat, sweep", left.state(at, true))

	var out strings.Builder
	state := fleet{At: at, Companies: []companyState{{ID: "left"}}, Processes: []processState{{Name: "host/7", Live: true}}}
	require.NoError(t, state.write(&out))
	assert.Contains(t, out.String(), "no process looks at it")
}

func TestADefaultPortThatGaveWayIsTold(t *testing.T) {
	takenDefault(t)
	var told strings.Builder
	listener, err := listenTelling(t.Context(), "", slog.New(slog.NewTextHandler(&told, nil)))
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	assert.Contains(t, told.String(), `level=WARN msg="the default HTTP port is taken" listen=`+listener.Addr().String())
}
