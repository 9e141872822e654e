package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

// libpq returns the variables that lead to the database of address.
func libpq(t *testing.T, address string) []string {
	c, err := pgx.ParseConfig(address)
	require.NoError(t, err)
	return []string{"PGHOST=" + c.Host, fmt.Sprintf("PGPORT=%d", c.Port), "PGUSER=" + c.User, "PGDATABASE=" + c.Database, "PGSSLMODE=disable"}
}

// lookers are the commands that only look.
var lookers = []string{"status", "show nothing", "quarantine list", "audit", "replay --dry-run", "tail", "migrate status"}

// TestCommandsReachADatabaseOfLibpqsVariablesBesideAnEmbeddedBroker: only the
// embedded PostgreSQL ignores PG*.
func TestCommandsReachADatabaseOfLibpqsVariablesBesideAnEmbeddedBroker(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	databaseURL := w.databaseURL
	environ := w.environ(append(libpq(t, databaseURL), "DATABASE_URL=", "NATS_URL=")...)
	dir, daemon := w.embeddedIn(t, environ...)
	w.databaseURL = databaseURL
	w.changes(t, 20)
	op := w.sim.Truth()[0]
	for _, args := range []string{"status", "check", "audit", "show " + op.Key, "quarantine list", "replay --dry-run", "migrate status",
		"options " + op.CompanyID + " " + op.ConnectionID + " invoices"} {
		got := run(t, environ, append(strings.Fields(args), "--data-dir", dir)...)
		assert.Zero(t, got.code, "%s: %s%s", args, got.stdout, got.stderr)
		assert.NotContains(t, got.stderr, "is not counted", args)
	}
	require.NoError(t, daemon.Process.Signal(os.Interrupt))
	require.NoError(t, daemon.Wait())
}

// TestALookNeverMigrates: what is pending stays so, and what is said of it depends
// on whether a daemon would be let to apply it.
func TestALookNeverMigrates(t *testing.T) {
	broker := startBroker(t)
	environ := []string{"DATABASE_URL=" + server.EmptyURL(t), "NATS_URL=" + broker.URL()}
	for _, args := range []string{"status", "show nothing", "quarantine list", "audit", "replay --dry-run"} {
		auto := run(t, environ, strings.Fields(args)...)
		assert.Equal(t, exitConfig, auto.code, "%s: %s", args, auto.stderr)
		assert.Contains(t, auto.stderr, "run 'pushwatch migrate up', or start 'pushwatch run'", args)
		verify := run(t, append(environ, "PUSHWATCH_POSTGRES_MIGRATE=verify"), strings.Fields(args)...)
		assert.Equal(t, exitConfig, verify.code, args)
		assert.Contains(t, verify.stderr, "or set postgres.migrate: auto", args)
	}
	listed := run(t, environ, "migrate", "status", "-o", "csv")
	assert.NotContains(t, listed.stdout, ",applied")
	assert.Contains(t, listed.stdout, ",pending")
}

// TestALookMakesNoDataDirectory: a mistyped one is refused and not made, nor is
// anything in one that is there for another purpose.
func TestALookMakesNoDataDirectory(t *testing.T) {
	there := t.TempDir()
	for _, dir := range []string{there, filepath.Join(there, "typo", "data")} {
		for _, args := range append(lookers, "quarantine retry e1", "quarantine drop --yes e1") {
			got := run(t, []string{"CODAT_API_KEY=key", "PUSHWATCH_COMPANIES=c"}, append(strings.Fields(args), "--data-dir", dir)...)
			assert.Equal(t, exitConfig, got.code, "%s: %s", args, got.stderr)
			assert.Contains(t, got.stderr, "pushwatch: no pushwatch has run on "+dir+": start 'pushwatch run'", args)
			assert.Contains(t, got.stderr, "DATABASE_URL", args)
		}
	}
	external := run(t, []string{"DATABASE_URL=" + server.URL(t)}, "audit", "--data-dir", there)
	assert.Equal(t, exitConfig, external.code, external.stderr)
	assert.Contains(t, external.stderr, "or set NATS_URL")
	entries, err := os.ReadDir(there)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

// enterable returns a directory that PostgreSQL's user may enter, unlike t.TempDir.
func enterable(t *testing.T) string {
	base, err := os.MkdirTemp("", "pushwatch-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o711))
	return base
}

// TestALookStartsTheServersOfADataDirectoryThatWasUsed, and migrate up may make one.
func TestALookStartsTheServersOfADataDirectoryThatWasUsed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(enterable(t), "data")
	made := run(t, nil, "migrate", "up", "--data-dir", dir)
	require.Zero(t, made.code, made.stderr)
	looked := run(t, nil, "status", "--data-dir", dir)
	assert.Zero(t, looked.code, looked.stderr)
	assert.Contains(t, looked.stdout, "0 unfinished")
	audited := run(t, nil, "audit", "--data-dir", dir)
	assert.Equal(t, exitConfig, audited.code, audited.stderr)
	assert.Contains(t, audited.stderr, "stream CODAT_PUSH does not exist: 'pushwatch run' makes it")
}
