package store_test

import (
	"context"
	"sync"
	"testing"

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
	assert.ErrorContains(t, err, "run 'pushwatch migrate up', or set postgres.migrate: auto")
	_, err = store.Open(t.Context(), store.Config{URL: url, LookOnly: true})
	require.ErrorAs(t, err, &setup)
	assert.ErrorContains(t, err, "run 'pushwatch migrate up', or start 'pushwatch run'")
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
