package main

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// calm is a load that one replica answers without reaching the minute's limit.
var calm = []string{"PUSHWATCH_POLL_DISCOVER=@every 2s", "PUSHWATCH_POLL_TRACK=@every 2s", "PUSHWATCH_POLL_PAGE_SIZE=1000"}

// TestThreeReplicasOfWhichOneIsKilledEveryTwoSeconds shares 1,000 operations among
// three replicas on one quota, and compares what they ask with what one replica
// asks in the same world. Both tests run behind a pooler in transaction mode.
func TestThreeReplicasOfWhichOneIsKilledEveryTwoSeconds(t *testing.T) {
	const limit, reserve = 4000, 0.2
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 5), Rate: 180, History: 60, DayLimit: limit})
	w.poolerURL = storetest.Pooler(t, w.databaseURL)
	environ := append([]string{"PUSHWATCH_QUOTA_RESERVE=0.2"}, calm...)

	single := w.daemon(t, environ...)
	w.awaitRequests(t, 30) // the first looks are over
	alone := w.requestRate(t, 20*time.Second)
	require.NoError(t, single.Process.Signal(os.Interrupt))
	require.NoError(t, single.Wait())

	replicas := []*exec.Cmd{w.daemon(t, environ...), w.daemon(t, environ...), w.daemon(t, environ...)}
	random := rand.New(rand.NewPCG(3, 4))
	kills := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(2 * time.Second)
		defer ticker.Stop()
		for len(w.sim.Truth()) < 1000 || kills < 10 {
			<-ticker.C
			victim := random.IntN(len(replicas))
			_ = replicas[victim].Process.Kill()
			_ = replicas[victim].Wait()
			replicas[victim] = w.daemon(t, environ...)
			kills++
		}
	}()
	together := w.requestRate(t, 30*time.Second)
	<-done
	w.sim.Freeze()
	report := w.settled(t)
	stats := w.sim.Stats()
	t.Logf("%d kills: %s; requests per second: one replica %.1f, three %.1f; charged %d of %d; at once %v",
		kills, report, alone, together, stats.Charged, limit, stats.MaxConcurrent)
	assert.GreaterOrEqual(t, report.Operations, 1000)
	assert.True(t, report.Sound(), report)
	assert.LessOrEqual(t, together, 1.3*alone, "requests a second")
	assert.LessOrEqual(t, stats.Charged, int((1-reserve)*limit))
	for company, most := range stats.MaxConcurrent {
		assert.LessOrEqual(t, most, 10, "requests of company %s at once", company)
	}
	for _, replica := range replicas {
		require.NoError(t, replica.Process.Signal(os.Interrupt))
		require.NoError(t, replica.Wait())
	}
	assert.Zero(t, w.query(t, `select count(*) from pushwatch.lease where holder is not null and name !~ '^replica/'`), "a graceful stop leaves no lease")
	storetest.CheckInvariants(t, w.databaseURL)
}

// TestAStoppedReplicaIsFencedWhenItComesBack stops a replica in the middle of a
// look, for longer than its lease. Stopped is not dead: nobody can know, so its
// companies are free when its term ends; what it writes afterwards is refused.
func TestAStoppedReplicaIsFencedWhenItComesBack(t *testing.T) {
	const company = 0
	var held atomic.Pointer[chan struct{}] // requests of the company wait for it
	var asked atomic.Int64                 // requests of the company
	companies := codatsim.MakeCompanies(7, 2)
	w := newWorld(t, codatsim.Config{Companies: companies, Hook: func(r codatsim.Request) {
		if r.CompanyID != companies[company].ID {
			return
		}
		asked.Add(1)
		if gate := held.Swap(nil); gate != nil {
			<-*gate
		}
	}})
	w.poolerURL = storetest.Pooler(t, w.databaseURL)
	slow := []string{"PUSHWATCH_POLL_DISCOVER=@every 5s", "PUSHWATCH_POLL_TRACK=@every 5s"}
	first := w.daemon(t, slow...)
	w.awaitRequests(t, 10)
	gate := make(chan struct{})
	held.Store(&gate)
	require.Eventually(t, func() bool { return held.Load() == nil }, 20*time.Second, 10*time.Millisecond, "no request to hold")
	// Stopped inside a transaction, its session would be ended by the server, and the
	// late write would fail for that.
	require.Eventually(t, func() bool {
		return w.query(t, `select count(*) from pg_stat_activity
where application_name = 'pooled' and datname = current_database() and state <> 'idle'`) == 0
	}, 20*time.Second, 5*time.Millisecond)
	require.NoError(t, first.Process.Signal(syscall.SIGSTOP))
	stopped := time.Now()
	before := asked.Load()
	second := w.daemon(t, slow...)
	require.Eventually(t, func() bool { return asked.Load() > before }, time.Minute, 10*time.Millisecond)
	waited := time.Since(stopped)
	t.Logf("the company was looked at again %s after its replica had stopped", waited.Round(time.Millisecond))
	close(gate) // the answer reaches the stopped process
	require.NoError(t, first.Process.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), store.ErrFenced.Error()) }, 30*time.Second, 50*time.Millisecond,
		"the late write was not seen to be refused")
	w.sim.Freeze()
	report := w.settled(t)
	t.Log(report)
	assert.True(t, report.Sound(), report)
	assert.Less(t, waited, 16*time.Second+starting, "lease term and 1 s, and the second replica's own start")
	for _, replica := range []*exec.Cmd{first, second} {
		require.NoError(t, replica.Process.Signal(os.Interrupt))
		require.NoError(t, replica.Wait())
	}
	storetest.CheckInvariants(t, w.databaseURL)
}

// starting is slack for a machine that is busy with other tests.
const starting = 10 * time.Second

// awaitRequests waits until the simulator was asked n times.
func (w *world) awaitRequests(t *testing.T, n int) {
	require.Eventually(t, func() bool { return w.sim.Stats().Requests >= n }, time.Minute, 50*time.Millisecond)
}

// requestRate counts requests for a while and returns how many came a second.
func (w *world) requestRate(t *testing.T, during time.Duration) float64 {
	before, started := w.sim.Stats().Requests, time.Now()
	select {
	case <-time.After(during):
	case <-t.Context().Done():
	}
	return float64(w.sim.Stats().Requests-before) / time.Since(started).Seconds()
}

// query returns one number from the database.
func (w *world) query(t *testing.T, sql string) (n int64) {
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}
