package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// killsAtRandom kills the daemon under load again and again, also between the pages
// of its walks, and measures how soon after its start one publishes.
func killsAtRandom(t *trial) verdict {
	w := newWorld(t, options{sim: codatsim.Config{Rate: 120}})
	w.environ = []string{smallPages}
	var v verdict
	for i := range t.n {
		d := w.daemon()
		t.wait(t.between(50*time.Millisecond, 900*time.Millisecond))
		d.kill()
		if at, ok := w.firstSince(d.started); ok {
			v.Recovery = append(v.Recovery, at.Sub(d.started))
		}
		t.struck(i + 1)
	}
	last := w.daemon()
	w.recovers(&v, last.started, 30*time.Second)
	v = w.settle(v)
	v.demand(quantile(v.Recovery, 0.99) < inTime(3*time.Second), "p99 from a start to its first event is not under 3 s")
	w.stop(last)
	v.demand(w.log.count(key) == 0, "the API key is in the log")
	return v
}

// killsAtPoints lets the daemon die at each point of package fault in turn.
func killsAtPoints(t *trial) verdict {
	w := newWorld(t, options{databaseURL: server.EmptyURL(t.T)})
	w.environ = []string{smallPages}
	var v verdict
	died := map[string]int{}
	for i := range t.n {
		point := fault.Points[i%len(fault.Points)]
		if point == fault.Migrating {
			died[point] += w.diesMigrating(1 + t.random.IntN(6))
			continue
		}
		nth := 1 + t.random.IntN(6)
		if point == fault.RenewingLease {
			nth = 1 // the next one is seconds away
		}
		d := w.daemon(fmt.Sprintf("FAULTS_POINT=%s:%d", point, nth))
		if w.dies(d, 10*time.Second) {
			died[point]++
		}
		t.struck(i + 1)
	}
	for _, point := range fault.Points {
		v.demand(died[point] > 0, "no daemon died at %s", point)
	}
	last := w.daemon()
	v = w.settle(v)
	w.stop(last)
	return v
}

// dies waits for a daemon to die by itself and reports whether it did.
func (w *world) dies(d *daemon, limit time.Duration) bool {
	timer := time.AfterFunc(limit, func() { _ = d.Process.Kill() })
	_ = d.Wait() // says that it was killed
	return timer.Stop()
}

// diesMigrating lets "migrate up" on an empty database die behind its nth
// migration and another one finish.
func (w *world) diesMigrating(n int) int {
	environ := []string{"DATABASE_URL=" + server.EmptyURL(w.T)}
	first := w.command(append(environ, fmt.Sprintf("FAULTS_POINT=%s:%d", fault.Migrating, n)), "migrate", "up")
	died := w.dies(first, 20*time.Second)
	require.NoError(w, w.command(environ, "migrate", "up").Wait())
	if died {
		return 1
	}
	return 0
}

// killsOfReplicas kills one of four replicas again and again, while another lives,
// and measures how soon somebody looks at the companies of the dead.
func killsOfReplicas(t *trial) verdict {
	const replicas = 4
	w := newWorld(t, options{})
	var v verdict
	alive := make([]*daemon, replicas)
	for i := range alive {
		alive[i] = w.daemon()
	}
	require.True(t, w.within(30*time.Second, func() bool { return w.number(`select count(*) from reporting.push_operations`) > 20 }))
	for i := range t.n {
		victim := t.random.IntN(replicas)
		alive[victim].kill()
		dead := time.Now()
		if i%10 == 0 { // all its companies, the surviving three have to look at
			w.recoversEverywhere(&v, dead)
		} else {
			t.wait(t.between(100*time.Millisecond, 600*time.Millisecond))
		}
		alive[victim] = w.daemon()
		t.struck(i + 1)
	}
	v = w.settle(v)
	for _, d := range alive {
		w.stop(d)
	}
	return v
}

// recoversEverywhere waits until every company was looked at since a moment, and
// notes how long that took: at most a lease's term and a second.
func (w *world) recoversEverywhere(v *verdict, since time.Time) {
	limit := inTime(16 * time.Second)
	ok := w.within(limit, func() bool {
		return w.number(`select count(*) from pushwatch.company where coalesce(discovered_at, first_look_at) < $1`, since) == 0
	})
	v.demand(ok, "a dead replica's companies were not looked at again within %s", limit)
	v.Recovery = append(v.Recovery, time.Since(since))
}

// killsOfEverything kills a daemon with its NATS server inside and a PostgreSQL
// that outlives it.
func killsOfEverything(t *trial) verdict {
	w := newWorld(t, options{embedded: true})
	base, err := os.MkdirTemp("", "pushwatch-chaos-data-") // not t.TempDir: PostgreSQL's user could not enter it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o711))
	dir := filepath.Join(base, "data")
	w.environ = []string{"PUSHWATCH_DATA_DIR=" + dir}
	var v verdict
	d := w.daemon()
	require.True(t, w.isUp(dir), w.log.end()) // from now on each one that is killed leaves a PostgreSQL
	for i := range t.n {
		d.kill()
		d = w.daemon()
		t.wait(t.between(20*time.Millisecond, 1500*time.Millisecond))
		t.struck(i + 1)
	}
	d.kill()
	last, asked := w.daemon(), w.sim.Stats().Requests
	up := w.within(40*time.Second, func() bool { return w.sim.Stats().Requests > asked }) && w.isUp(dir)
	v.demand(up, "the program does not come up again: %s", w.log.end())
	if up {
		v.Recovery = append(v.Recovery, time.Since(last.started))
		v = w.settle(v)
		w.stop(last)
		_, _, running, err := embedded.Running(dir)
		v.demand(err == nil && !running, "a server is left behind")
	}
	return v
}

// isUp waits until the servers inside a data directory answer, and reports whether
// they do; the oracle looks into them from then on.
func (w *world) isUp(dir string) bool {
	return w.within(40*time.Second, func() (running bool) {
		var err error
		w.databaseURL, w.natsURL, running, err = embedded.Running(dir)
		return err == nil && running && w.answers()
	})
}

// answers reports whether the database can be asked and holds operations.
func (w *world) answers() bool {
	conn, err := pgx.Connect(w.Context(), w.databaseURL)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close(w.Context()) }()
	var n int
	return conn.QueryRow(w.Context(), `select count(*) from reporting.push_operations`).Scan(&n) == nil && n > 0
}

// terminations stops the daemon gracefully at random moments.
func terminations(t *trial) verdict {
	w := newWorld(t, options{})
	var v verdict
	var took []time.Duration
	for i := range t.n {
		connections := w.postgres.Accepted()
		d := w.daemon()
		w.within(20*time.Second, func() bool { return w.postgres.Accepted() > connections }) // before main nobody listens to a signal
		t.wait(t.between(0, 800*time.Millisecond))
		_ = d.Process.Signal(syscall.SIGTERM)
		began := time.Now()
		err := d.Wait()
		took = append(took, time.Since(began))
		v.demand(err == nil, "stop %d: %v", i, err)
		held := w.number(`select count(*) from pushwatch.lease where holder is not null and name !~ '^replica/'`)
		v.demand(held == 0, "stop %d leaves %d leases", i, held)
		if len(v.Broken) > 10 {
			break
		}
		t.struck(i + 1)
	}
	v.figure("stop p50 %s, p99 %s", quantile(took, 0.5).Round(time.Millisecond), quantile(took, 0.99).Round(time.Millisecond))
	v.demand(quantile(took, 0.99) < inTime(10*time.Second), "p99 of a stop is not under 10 s")
	last := w.daemon()
	w.recovers(&v, last.started, 10*time.Second)
	v = w.settle(v)
	w.stop(last)
	return v
}
