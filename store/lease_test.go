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
	"github.com/jackc/pgx/v5/pgconn"
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

	_, err := r.Record(t.Context(), r.complete(push.Record{Page: push.Page{Rows: push.RowsOf(r.op("k", push.Pending))}}))
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

func TestARenewalWaitsForNoFencedWriteAndATakeoverHappensAfterIt(t *testing.T) {
	r := newRig(t, store.Config{})
	name := r.company.Fence.Lease
	conn, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	write, err := conn.Begin(t.Context())
	require.NoError(t, err)
	// Locked as a fenced write locks it.
	_, err = write.Exec(t.Context(), `select 1 from pushwatch.lease where name = $1 for key share`, name)
	require.NoError(t, err)
	require.NoError(t, r.leases.Renew(t.Context()))

	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() - interval '1 s'`))
	other := r.Leases(holder("b"), nil)
	other.Want([]string{name, store.CompanyLease("free")})
	require.NoError(t, other.Renew(t.Context()), "what is locked is passed over, so that the rest is renewed")
	assert.Empty(t, other.Held(name))
	assert.Len(t, other.Held(store.CompanyLease("free")), 1)
	require.NoError(t, write.Rollback(t.Context()))
	require.NoError(t, other.Renew(t.Context()))
	assert.Len(t, other.Held(name), 1)
}

// A process that is stopped between two statements keeps the locks of its
// transaction, that of its lease among them.
func TestTheServerEndsATransactionWhoseProcessWasStopped(t *testing.T) {
	r := newRig(t, store.Config{})
	for name, want := range map[string]string{"idle_in_transaction_session_timeout": "10s", "lock_timeout": "8s"} {
		got, err := r.TransactionSetting(t.Context(), name)
		require.NoError(t, err)
		assert.Equal(t, want, got)
	}
	assert.Equal(t, "0", query[string](r, `select current_setting('idle_in_transaction_session_timeout')`), "for the transaction alone")
}

// TestStoppedProcessesDoNotHandALockOn: of two that were stopped, one holds the gate
// and one waits for it. When the server ends the first one's transaction, the second
// one's is over: a process that lives gets the lock.
func TestStoppedProcessesDoNotHandALockOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, store.Config{})
	stopped := func() func() error {
		conn, err := pgconn.Connect(t.Context(), r.url)
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		require.NoError(t, conn.Exec(t.Context(), store.BeginGate).Close())
		return func() error { return conn.Exec(t.Context(), `select from pushwatch.quota_gate for update`).Close() }
	}
	holds, waits := stopped(), stopped()
	require.NoError(t, holds())
	ended := make(chan error, 1)
	go func() { ended <- waits() }()
	require.Eventually(t, func() bool {
		return query[int](r, `select count(*)::int from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 1
	}, time.Minute, time.Millisecond)
	require.NoError(t, r.UpdateQuota(t.Context(), time.Time{}, func(time.Time, *push.Quota) {}))
	var refused *pgconn.PgError
	require.ErrorAs(t, <-ended, &refused)
	assert.Equal(t, "55P03", refused.Code)
}

func TestProcessesShareAlikeAndASurplusIsGivenBack(t *testing.T) {
	r := newRig(t, store.Config{})
	require.NoError(t, r.leases.Release(t.Context()))
	names := append([]string{"company/1", "company/2", "company/3", "company/4", "company/5"}, store.RelayLeases()...)
	a, b := r.Leases(holder("a"), nil), r.Leases(holder("b"), nil)
	for _, l := range []*store.Leases{a, b} {
		l.Want(names)
	}
	renew := func(leases ...*store.Leases) {
		for _, l := range leases {
			require.NoError(t, l.Renew(t.Context()))
		}
	}
	renew(a)
	assert.Len(t, a.Held(names...), len(names), "alone it holds all")
	changed := a.Changed()
	renew(b)
	assert.Empty(t, b.Held(names...), "nothing is taken from a living process")
	renew(a, b)
	assert.Len(t, a.Held(names[:5]...), 3)
	assert.Len(t, b.Held(names[:5]...), 2)
	assert.Len(t, a.Held(names[5:]...), 32)
	assert.Len(t, b.Held(names[5:]...), 32)
	select {
	case <-changed:
	default:
		t.Fatal("the change was not told")
	}
	changed = a.Changed()
	renew(a, b)
	select {
	case <-changed:
		t.Fatal("a change was told where there was none")
	default:
	}

	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() - interval '1 s' where holder like 'b/%'`))
	renew(a)
	assert.Len(t, a.Held(names...), len(names), "the end of a process is taken up by the others")
}

func TestRunTakesUpWhatADeadProcessHeldAsSoonAsItsTermEnds(t *testing.T) {
	r := newRig(t, store.Config{})
	require.NoError(t, r.leases.Release(t.Context()))
	dead, alive := r.Leases(holder("dead"), nil), r.Leases(holder("alive"), nil)
	for _, l := range []*store.Leases{dead, alive} {
		l.Want([]string{"company/1", "company/2"})
		require.NoError(t, l.Renew(t.Context()))
	}
	require.NoError(t, dead.Renew(t.Context()))
	require.NoError(t, alive.Renew(t.Context()))
	require.Len(t, alive.Held("company/1", "company/2"), 1)

	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- alive.Run(ctx) }()
	changed := alive.Changed()
	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() where holder like 'dead/%'`))
	select {
	case <-changed: // a renewal alone would come seconds later; how many, no test can tell on a busy machine
	case <-time.After(30 * time.Second):
		t.Fatal("the end of the process was not noticed")
	}
	assert.Len(t, alive.Held("company/1", "company/2"), 2)
	cancel()
	require.NoError(t, <-ended)
}

// TestTheNextLookIsAtTheEndOfAProcessThatDoesNotRenew, and at the usual time after
// that, whether the look at the end succeeds or not.
func TestTheNextLookIsAtTheEndOfAProcessThatDoesNotRenew(t *testing.T) {
	r := newRig(t, store.Config{})
	peer, l := r.Leases(holder("peer"), nil), r.Leases(holder("l"), nil)
	require.NoError(t, peer.Renew(t.Context()))
	require.NoError(t, l.Renew(t.Context()))
	pause, longest := l.Pause()
	assert.Equal(t, longest, pause)
	require.Eventually(t, func() bool { // on a slow machine it has ended when it is read
		require.NoError(t, r.exec(`update pushwatch.lease set expires_at = clock_timestamp() + interval '300 ms' where holder like 'peer/%'`))
		require.NoError(t, l.Renew(t.Context()))
		pause, _ = l.Pause()
		return pause <= 300*time.Millisecond
	}, time.Minute, time.Millisecond)
	assert.Positive(t, pause)
	pause, _ = l.Pause()
	assert.Equal(t, longest, pause)
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

func TestLeasesThatCannotBeRenewedAreTold(t *testing.T) {
	r := newRig(t, store.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.leases.Run(ctx) }()
	healthy := func(want bool) (reason string) {
		require.Eventually(t, func() (ok bool) {
			ok, reason, _ = r.leases.Health()
			return ok == want
		}, 20*time.Second, 10*time.Millisecond)
		return reason
	}
	healthy(true)
	before := r.Now()
	require.NoError(t, r.exec(`alter table pushwatch.lease rename to lease_away`))
	assert.Contains(t, healthy(false), "leases cannot be renewed: ")
	_, _, since := r.leases.Health()
	assert.WithinRange(t, since, before, r.Now())
	require.NoError(t, r.exec(`alter table pushwatch.lease_away rename to lease`))
	healthy(true)
	cancel()
	require.NoError(t, <-ended)
}
