package store_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// alterDatabase gives a setting to all later sessions of a database.
func alterDatabase(t *testing.T, address, setting string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), fmt.Sprintf(`do $$ begin execute format('alter database %%I set %s', current_database()); end $$`, setting))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestAServerThatLosesCommitsIsRefused(t *testing.T) {
	url := server.EmptyURL(t)
	alterDatabase(t, url, "synchronous_commit = off")
	_, err := store.Open(t.Context(), store.Config{URL: url})
	var setup *store.SetupError
	require.ErrorAs(t, err, &setup)
	assert.Contains(t, err.Error(), "synchronous_commit")
}

// TestStatementsAreNotCompiled unless somebody says so, or a pooler stands between,
// which may refuse a connection that asks for it.
func TestStatementsAreNotCompiled(t *testing.T) {
	address := server.URL(t)
	alterDatabase(t, address, "jit = on")
	asked, err := url.Parse(address)
	require.NoError(t, err)
	values := asked.Query()
	values.Set("jit", "on")
	asked.RawQuery = values.Encode()
	for want, config := range map[string][]store.Config{
		"off": {{URL: address}},
		"on":  {{URL: asked.String()}, {URL: storetest.Pooler(t, address), TransactionPooler: true}},
	} {
		for _, c := range config {
			got, err := server.Open(t, c).TransactionSetting(t.Context(), "jit")
			require.NoError(t, err)
			assert.Equal(t, want, got)
		}
	}
}

// setupProblem opens a database that is not fit and returns why.
func setupProblem(t *testing.T, url string) string {
	t.Helper()
	_, err := store.Open(t.Context(), store.Config{URL: url})
	var setup *store.SetupError
	require.ErrorAs(t, err, &setup)
	_, err = store.Probe(t.Context(), store.Config{URL: url})
	require.EqualError(t, err, setup.Error(), "check says what the start says")
	return setup.Problem
}

func TestADatabaseOfAnotherEncodingIsRefused(t *testing.T) {
	conn, err := pgx.Connect(t.Context(), server.EmptyURL(t))
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.Exec(t.Context(), `create database ascii encoding 'SQL_ASCII' template template0 lc_collate 'C' lc_ctype 'C'`)
	require.NoError(t, err)
	config := conn.Config()
	url := fmt.Sprintf("postgres://%s@/ascii?host=%s&sslmode=disable", config.User, config.Host)
	assert.Equal(t, "database encoding is SQL_ASCII; create it with encoding UTF8", setupProblem(t, url))
}

func TestAStandbyIsRefused(t *testing.T) {
	dir, err := embedded.OpenTempDir(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, dir.Close()) })
	primary, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir.Path, EndWithUs: true, UnsafeNoFsync: true})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir.Path, "postgres", "standby.signal"), nil, 0o644))
	standby, err := primary.Restart(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, standby.Stop(context.WithoutCancel(t.Context()))) })
	assert.Equal(t, "server is a standby and read only; give the address of the primary", setupProblem(t, standby.URL()))
}

func TestServersOfOldVersionsAreRefused(t *testing.T) {
	assert.Equal(t, "server is version 130008; 14 or newer is needed", store.ServerProblem("130008"))
	assert.Equal(t, "server is version ; 14 or newer is needed", store.ServerProblem(""))
	assert.Empty(t, store.ServerProblem("140000"))
	assert.Empty(t, store.ServerProblem("180001"))
}

func TestConnectionsThatMayBeUnencryptedAreKnownByTheirHost(t *testing.T) {
	for url, host := range map[string]string{
		"postgres://u@db.example.com/x":                                   "db.example.com",
		"postgres://u@db.example.com/x?sslmode=disable":                   "db.example.com",
		"postgres://u@db.example.com/x?sslmode=allow":                     "db.example.com",
		"postgres://u@db.example.com/x?sslmode=prefer":                    "db.example.com",
		"host=192.0.2.1 user=u":                                           "192.0.2.1",
		"postgres://u@[2001:db8::1]/x":                                    "2001:db8::1",
		"postgres://u@127.0.0.1,db.example.com/x":                         "db.example.com",
		"postgres://u@localhost.example.com/x":                            "localhost.example.com",
		"postgres://u@db.example.com/x?sslmode=require":                   "",
		"postgres://u@db.example.com,db2.example.com/x?sslmode=verify-ca": "",
		"postgres://u@db.example.com/x?sslmode=verify-full":               "",
		"postgres://u@127.0.0.1/x":                                        "",
		"postgres://u@[::1]/x?sslmode=disable":                            "",
		"postgres://u@LOCALHOST/x?sslmode=disable":                        "",
		"postgres://u@/x?host=/run/postgresql":                            "",
	} {
		got, err := store.InTheClear(url)
		require.NoError(t, err, url)
		assert.Equal(t, host, got, url)
	}
}

func TestWhatShouldBeMendedOnAServerIsToldAtTheStart(t *testing.T) {
	var logged bytes.Buffer
	server.Open(t, store.Config{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	assert.Contains(t, logged.String(), "fsync or full_page_writes is off", "so are the tests' servers")
	probed, err := store.Probe(t.Context(), store.Config{URL: server.URL(t)})
	require.NoError(t, err)
	assert.Equal(t, []string{"fsync or full_page_writes is off: a power cut may lose or damage data"}, probed.Warnings)
}

func TestUnreachableServerIsAnErrorWithoutThePassword(t *testing.T) {
	for _, url := range []string{"postgres://u:canary@127.0.0.1:1/db?connect_timeout=2", "host=127.0.0.1 port=1 user=u password=canary connect_timeout=2"} {
		_, err := store.Open(t.Context(), store.Config{URL: url})
		require.Error(t, err)
		assert.NotErrorAs(t, err, new(*store.SetupError))
		assert.NotContains(t, err.Error(), "canary")
	}
}

// What cannot be parsed may hold the password anywhere.
func TestAConnectionStringThatIsNoneIsNotQuoted(t *testing.T) {
	for _, url := range []string{
		"postgres://u:canary@127.0.0.1:x/db", "postgres://u:canary/more@h/db", "postgres://u:canary%zz@h/db", "postgres://u@canary@h:x/db",
		"postgres://u:canary@[h/db", "postgres://h/db?password=canary&sslmode=bad", "mysql://u:canary@h/db", "canary",
		"host=h password=canary sslmode=bad", "host=h password = canary sslmode=bad", "host=h password='my canary' port=x",
		"host=h password='canary", `host=h password=my\ canary port=x`, "host=h sslpassword=canary sslmode=bad",
	} {
		_, err := store.Open(t.Context(), store.Config{URL: url})
		require.ErrorAs(t, err, new(*store.SetupError), url)
		assert.Contains(t, err.Error(), "connection string")
		assert.NotContains(t, err.Error(), "canary", url)
	}
}
