package store_test

import (
	"context"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/store"
)

func TestMigrationsRunOnceHoweverManyProcessesStart(t *testing.T) {
	url := server.EmptyURL(t)
	var group sync.WaitGroup
	errs := make(chan error, 4)
	for range 4 {
		group.Go(func() {
			s, err := store.Open(context.WithoutCancel(t.Context()), store.Config{URL: url})
			if err == nil {
				s.Close()
			}
			errs <- err
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	all, err := store.Migrate(t.Context(), store.Config{URL: url}, false)
	require.NoError(t, err)
	for _, m := range all {
		assert.True(t, m.Applied, m.Name)
	}
}

func TestVerifyRefusesPendingMigrationsAndSaysWhatToType(t *testing.T) {
	url := server.EmptyURL(t)
	_, err := store.Open(t.Context(), store.Config{URL: url, VerifyOnly: true})
	var setup *store.SetupError
	require.ErrorAs(t, err, &setup)
	assert.Contains(t, err.Error(), "pushwatch migrate up")
	all, err := store.Migrate(t.Context(), store.Config{URL: url}, false)
	require.NoError(t, err)
	assert.False(t, all[0].Applied)
}

func TestASchemaNewerThanTheProgramIsRefused(t *testing.T) {
	r := newRig(t, store.Config{})
	require.NoError(t, r.exec(`insert into pushwatch.schema_version (version_id, is_applied) values (9999, true)`))
	_, err := store.Open(t.Context(), store.Config{URL: r.url})
	var setup *store.SetupError
	require.ErrorAs(t, err, &setup)
	assert.Contains(t, err.Error(), "9999")
}

func TestAServerThatLosesCommitsIsRefused(t *testing.T) {
	url := server.EmptyURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	_, err = store.Open(t.Context(), store.Config{URL: url})
	var setup *store.SetupError
	require.ErrorAs(t, err, &setup)
	assert.Contains(t, err.Error(), "synchronous_commit")
}

func TestTheReportingRoleReadsTheViewsAndNothingElse(t *testing.T) {
	r := newRig(t, store.Config{})
	for sql, allowed := range map[string]bool{
		`select count(*) from reporting.push_operations`:  true,
		`select count(*) from reporting.push_transitions`: true,
		`select count(*) from pushwatch.operation`:        false,
		`select count(*) from pushwatch.outbox`:           false,
		`create table reporting.t (n int)`:                false,
	} {
		err := r.exec(`set role pushwatch_reporting; ` + sql)
		if allowed {
			assert.NoError(t, err, sql)
		} else {
			assert.ErrorContains(t, err, "permission denied", sql)
		}
	}
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
