package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
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
// asks in the same world. The tests of this file run behind a pooler in transaction
// mode, and what measures time runs alone.
func TestThreeReplicasOfWhichOneIsKilledEveryTwoSeconds(t *testing.T) {
	const limit, reserve = 4000, 0.2
	var looks looks
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 5), Rate: 180, History: 60, DayLimit: limit, Hook: looks.note})
	w.poolerURL = storetest.Pooler(t, w.databaseURL)
	environ := append([]string{"PUSHWATCH_QUOTA_RESERVE=0.2"}, calm...)

	single := w.daemon(t, environ...)
	w.awaitRequests(t, 30) // the first looks are over
	count := w.requestRate()
	w.awaitRequests(t, w.sim.Stats().Requests+100) // in twenty seconds
	alone := count()
	require.NoError(t, single.Process.Signal(os.Interrupt))
	require.NoError(t, single.Wait())

	replicas := w.replicas(t, 3, environ...)
	var deaths []death
	count = w.requestRate()
	for len(w.sim.Truth()) < 1000 || len(deaths) < 10 {
		elapse(t, 2*time.Second)
		deaths = append(deaths, replicas.killOne())
	}
	together := count()
	w.sim.Freeze()
	report := w.settled(t)
	stats := w.sim.Stats()
	longest := looks.longestAfter(t, deaths)
	t.Logf("%d kills: %s; requests per second: one replica %.1f, three %.1f; charged %d of %d; at once %v; looked at again after at most %s",
		len(deaths), report, alone, together, stats.Charged, limit, stats.MaxConcurrent, longest.Round(time.Millisecond))
	assert.GreaterOrEqual(t, report.Operations, 1000)
	assert.True(t, report.Sound(), report)
	assert.LessOrEqual(t, together, 1.3*alone, "requests a second")
	assert.LessOrEqual(t, stats.Charged, int((1-reserve)*limit))
	assert.Less(t, longest, takeover, "a dead replica's companies are looked at again")
	replicas.stop()
	assert.Zero(t, w.query(t, `select count(*) from pushwatch.lease where holder is not null and name !~ '^replica/'`), "a graceful stop leaves no lease")
	storetest.CheckInvariants(t, w.databaseURL)
}

// TestThreeReplicasSpendOneShareOfTheQuota lets three replicas, of which one is
// killed every two seconds, ask as much as they may of a server that takes its time:
// until the day's share is spent, and no more.
func TestThreeReplicasSpendOneShareOfTheQuota(t *testing.T) {
	t.Parallel()
	const limit, share = 1000, 300
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 3), Rate: 600, History: 20, DayLimit: limit,
		Hook: func(codatsim.Request) { elapse(t, 400*time.Millisecond) }})
	w.poolerURL = storetest.Pooler(t, w.databaseURL)
	replicas := w.replicas(t, 3, "PUSHWATCH_QUOTA_RESERVE=0.7")
	spent := func() int64 {
		return w.query(t, `select coalesce((select used from pushwatch.quota_day order by day desc limit 1), 0)`)
	}
	w.awaitRequests(t, 100)
	const pause = 5
	require.NoError(t, w.sim.Script(codatsim.Rule{Fault: codatsim.TooManySeconds, Seconds: pause, Times: 1}))
	kills := 0
	for ; spent() < share; kills++ {
		elapse(t, 2*time.Second)
		replicas.killOne()
		require.Less(t, kills, 60, "the share is not spent: %d", spent())
	}
	w.awaitSilence(t, 2*time.Second) // what was granted has arrived
	before := w.sim.Stats().Requests
	assert.Never(t, func() bool { return w.sim.Stats().Requests != before }, 4*time.Second, 50*time.Millisecond,
		"requests although the share is spent") // ticks go by
	stats := w.sim.Stats()
	t.Logf("%d kills: charged %d of a share of %d; at once %v; %d answers 429, %d requests before their end",
		kills, stats.Charged, share, stats.MaxConcurrent, stats.ByStatus[429], stats.Early)
	assert.LessOrEqual(t, stats.Charged, share)
	assert.Greater(t, stats.Charged, share/2, "most of what was counted was sent")
	assert.Empty(t, stats.Throttled, "no limit of Codat's was met")
	for company, most := range stats.MaxConcurrent {
		assert.LessOrEqual(t, most, 10, "requests of company %s at once", company)
		assert.Greater(t, most, 2, "too calm to show anything")
	}
	assert.Equal(t, 1, stats.ByStatus[429])
	// The minute's bucket alone would let eighty through in five seconds; a few are on
	// their way before the pause is known.
	assert.LessOrEqual(t, stats.Early, 16)
	replicas.stop()
	storetest.CheckInvariants(t, w.databaseURL)
}

// TestAStoppedReplicaIsFencedWhenItComesBack stops a replica in the middle of a
// look, for longer than its lease. Stopped is not dead: nobody can know, so its
// companies are free when its term ends; what it writes afterwards is refused.
func TestAStoppedReplicaIsFencedWhenItComesBack(t *testing.T) {
	type gate struct {
		company string
		opened  chan struct{}
	}
	var held atomic.Pointer[gate] // the next request of its company waits
	var looks looks
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 2), Hook: func(r codatsim.Request) {
		looks.note(r)
		if g := held.Load(); g != nil && g.company == r.CompanyID && held.CompareAndSwap(g, nil) {
			<-g.opened
		}
	}})
	w.poolerURL = storetest.Pooler(t, w.databaseURL)
	replicas := w.replicas(t, 2, "PUSHWATCH_POLL_DISCOVER=@every 5s", "PUSHWATCH_POLL_TRACK=@every 5s")
	require.Eventually(t, func() bool { return len(replicas.companies(0)) == 1 && len(replicas.companies(1)) == 1 }, time.Minute,
		50*time.Millisecond, "the companies are not shared")
	first := replicas.running[0].Process
	g := &gate{replicas.companies(0)[0], make(chan struct{})}
	held.Store(g)
	require.Eventually(t, func() bool { return held.Load() == nil }, 20*time.Second, 10*time.Millisecond, "no request to hold")
	// Stopped inside a transaction, of another request of the same run, its session would
	// be ended by the server, and the late write would fail for that: it goes on and is
	// stopped again until it is in none.
	var stopped death
	require.Eventually(t, func() bool {
		stopped = death{time.Now(), []string{g.company}}
		require.NoError(t, first.Signal(syscall.SIGSTOP))
		if w.query(t, `select count(*) from pg_stat_activity
where application_name = 'pooled' and datname = current_database() and state <> 'idle'`) == 0 {
			return true
		}
		require.NoError(t, first.Signal(syscall.SIGCONT))
		return false
	}, 20*time.Second, 5*time.Millisecond)
	waited := looks.longestAfter(t, []death{stopped})
	t.Logf("the company was looked at again %s after its replica had stopped", waited.Round(time.Millisecond))
	close(g.opened) // the answer reaches the stopped process
	require.NoError(t, first.Signal(syscall.SIGCONT))
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), store.ErrFenced.Error()) }, 30*time.Second, 50*time.Millisecond,
		"the late write was not seen to be refused")
	w.sim.Freeze()
	report := w.settled(t)
	t.Log(report)
	assert.True(t, report.Sound(), report)
	assert.Less(t, waited, takeover)
	replicas.stop()
	storetest.CheckInvariants(t, w.databaseURL)
}

// takeover is the term of a lease and a second.
const takeover = 16 * time.Second

// looks are the requests of each company, as they came.
type looks struct {
	mu sync.Mutex
	at map[string][]time.Time
}

func (l *looks) note(r codatsim.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at == nil {
		l.at = map[string][]time.Time{}
	}
	l.at[r.CompanyID] = append(l.at[r.CompanyID], time.Now())
}

// death is the end of a replica that held companies.
type death struct {
	at        time.Time
	companies []string
}

// onItsWay is how long after its sender's end a request may still arrive.
const onItsWay = 100 * time.Millisecond

// longestAfter returns how long it took at most until a company was looked at again,
// waiting for looks that have not come yet.
func (l *looks) longestAfter(t *testing.T, deaths []death) (longest time.Duration) {
	t.Helper()
	for _, d := range deaths {
		for _, company := range d.companies {
			next := func() (time.Time, bool) {
				l.mu.Lock()
				defer l.mu.Unlock()
				i, found := slices.BinarySearchFunc(l.at[company], d.at.Add(onItsWay), time.Time.Compare)
				if found || i < len(l.at[company]) {
					return l.at[company][i], true
				}
				return time.Time{}, false
			}
			require.Eventually(t, func() bool { _, ok := next(); return ok }, time.Minute, 5*time.Millisecond, "company %s", company)
			at, _ := next()
			longest = max(longest, at.Sub(d.at))
		}
	}
	return longest
}

// replicas are daemons of one world.
type replicas struct {
	*testing.T
	world   *world
	environ []string
	random  *rand.Rand
	running []*exec.Cmd
}

func (w *world) replicas(t *testing.T, n int, environ ...string) *replicas {
	r := &replicas{T: t, world: w, environ: environ, random: rand.New(rand.NewPCG(3, 4))}
	for range n {
		r.running = append(r.running, w.daemon(t, environ...))
	}
	return r
}

// companies returns the companies that a replica holds, by its process id.
func (r *replicas) companies(i int) []string {
	conn, err := pgx.Connect(r.Context(), r.world.databaseURL)
	require.NoError(r, err)
	defer func() { _ = conn.Close(context.WithoutCancel(r.Context())) }()
	rows, err := conn.Query(r.Context(), `select substr(name, 9) from pushwatch.lease
where name like 'company/%' and split_part(holder, '/', 3) = $1 order by name`, strconv.Itoa(r.running[i].Process.Pid))
	require.NoError(r, err)
	companies, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(r, err)
	return companies
}

// killOne kills one of them at random and starts another in its place.
func (r *replicas) killOne() death {
	victim := r.random.IntN(len(r.running))
	d := death{companies: r.companies(victim)}
	require.NoError(r, r.running[victim].Process.Kill())
	_ = r.running[victim].Wait()
	d.at = time.Now()
	r.running[victim] = r.world.daemon(r.T, r.environ...)
	return d
}

// stop stops them gracefully.
func (r *replicas) stop() {
	for _, replica := range r.running {
		require.NoError(r, replica.Process.Signal(os.Interrupt))
	}
	for _, replica := range r.running {
		require.NoError(r, replica.Wait())
	}
}

// awaitRequests waits until the simulator was asked n times.
func (w *world) awaitRequests(t *testing.T, n int) {
	require.Eventually(t, func() bool { return w.sim.Stats().Requests >= n }, time.Minute, 50*time.Millisecond)
}

// awaitSilence waits until the simulator was not asked for a while.
func (w *world) awaitSilence(t *testing.T, while time.Duration) {
	last, since := w.sim.Stats().Requests, time.Now()
	require.Eventually(t, func() bool {
		if n := w.sim.Stats().Requests; n != last {
			last, since = n, time.Now()
		}
		return time.Since(since) >= while
	}, 5*while, 50*time.Millisecond, "requests go on")
}

// requestRate begins to count requests and returns what tells how many have come a
// second since.
func (w *world) requestRate() func() float64 {
	before, started := w.sim.Stats().Requests, time.Now()
	return func() float64 { return float64(w.sim.Stats().Requests-before) / time.Since(started).Seconds() }
}

// elapse lets real time go by before a process is killed, or a server answers:
// processes know no other. What a test waits for is awaited instead.
func elapse(t *testing.T, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// execute runs statements in the database, past the pooler.
func (w *world) execute(t *testing.T, sql string) {
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
}

// query returns one number from the database.
func (w *world) query(t *testing.T, sql string) (n int64) {
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&n))
	return n
}
