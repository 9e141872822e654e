package store_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// holder returns the name of a process on another machine, which is never known
// to be dead.
func holder(name string) store.Holder { return store.Holder(name + "/other+machine/1/1") }

func TestALeaseHasOneHolderUntilItExpires(t *testing.T) {
	r := newRig(t, store.Config{})
	name := store.CompanyLease(companyID)
	other := r.Leases(holder("b"), nil)
	other.Want([]string{name})
	require.NoError(t, other.Renew(t.Context()))
	assert.Empty(t, other.Held(name))

	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() - interval '1 s'`))
	require.NoError(t, other.Renew(t.Context()))
	held := other.Held(name)
	require.Len(t, held, 1)
	assert.Greater(t, held[0].Token, r.company.Fence.Token, "the token grows with the holder")

	_, err := r.Record(t.Context(), r.complete(push.Record{Page: push.Page{Operations: []push.Operation{r.op("k", push.Pending)}}}))
	require.ErrorIs(t, err, store.ErrFenced, "a write of the old holder is refused")
	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.operation`))
	require.NoError(t, r.leases.Renew(t.Context()))
	assert.Empty(t, r.leases.Held(name), "the old holder learns it at its next renewal")
}

func TestAReleasedLeaseIsFreeAtOnce(t *testing.T) {
	r := newRig(t, store.Config{})
	name := store.CompanyLease(companyID)
	require.NoError(t, r.leases.Release(t.Context()))
	assert.Empty(t, r.leases.Held(name))
	other := r.Leases(holder("b"), nil)
	other.Want([]string{name})
	require.NoError(t, other.Renew(t.Context()))
	assert.Len(t, other.Held(name), 1)
}

func TestARenewalWaitsForNoFencedWriteAndATakeoverDoes(t *testing.T) {
	r := newRig(t, store.Config{})
	conn, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	tx, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), `select 1 from pushwatch.lease where name = $1 for key share`, r.company.Fence.Lease)
	require.NoError(t, err)
	require.NoError(t, r.leases.Renew(t.Context()))

	_, err = tx.Exec(t.Context(), `select 1`)
	require.NoError(t, err)
	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() - interval '1 s'`))
	other := r.Leases(holder("b"), nil)
	other.Want([]string{r.company.Fence.Lease})
	taken := make(chan error, 1)
	go func() { taken <- other.Renew(context.WithoutCancel(t.Context())) }()
	require.Eventually(t, func() bool {
		return query[int64](r, `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`) > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.Empty(t, taken)
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, <-taken)
	assert.Len(t, other.Held(r.company.Fence.Lease), 1)
}

// The child below takes the leases and dies with them; the next process of this
// machine need not wait for the term.
func TestLeasesOfADeadProcessOfThisMachineAreTakenOverAtOnce(t *testing.T) {
	const url = "STORE_TEST_LEASE_URL"
	if databaseURL := os.Getenv(url); databaseURL != "" {
		s, err := store.Open(t.Context(), store.Config{URL: databaseURL})
		require.NoError(t, err)
		leases := s.Leases(store.NewHolder(), nil)
		leases.Want([]string{"company/x"})
		require.NoError(t, leases.Renew(t.Context()))
		require.Len(t, leases.Held("company/x"), 1)
		os.Exit(0) // without giving it back
	}
	r := newRig(t, store.Config{})
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), url+"="+r.url)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.True(t, query[bool](r, `select expires_at > now() and holder is not null from pushwatch.lease where name = 'company/x'`))
	leases := r.Leases(store.NewHolder(), nil)
	leases.Want([]string{"company/x"})
	require.NoError(t, leases.Renew(t.Context()))
	assert.Len(t, leases.Held("company/x"), 1)
}

func TestAHolderNamesHostBootAndProcess(t *testing.T) {
	name := string(store.NewHolder())
	assert.Len(t, strings.Split(name, "/"), 4)
	assert.Contains(t, name, fmt.Sprint(os.Getpid()))
}

func TestRunGivesLeasesBackWhenItEnds(t *testing.T) {
	r := newRig(t, store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, r.leases.Run(ctx))
	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.lease where holder is not null`))
}
