package chaos

import (
	"fmt"
	"os"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// partitions separates the daemon from PostgreSQL, NATS, Codat, and pairs of them,
// in four ways, for a second to a minute.
func partitions(t *trial) verdict {
	w := newWorld(t, options{})
	sides := [][]*faultproxy.Proxy{{w.postgres}, {w.nats}, {w.codat}, {w.postgres, w.nats}, {w.nats, w.codat}, {w.codat, w.postgres}}
	ways := []faultproxy.Mode{faultproxy.BlackHole, faultproxy.Refusing, faultproxy.HalfOpen, faultproxy.Slow}
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	v.Recovery = nil
	before := openFiles(t, d)
	for i := range t.n {
		side, way := sides[i%len(sides)], ways[(i/len(sides))%len(ways)]
		for _, p := range side {
			p.Set(way)
		}
		lasting := min(time.Second+time.Duration(t.random.ExpFloat64()*float64(3*time.Second)), time.Minute)
		t.wait(lasting)
		for _, p := range side {
			p.Set(faultproxy.Open)
			if t.random.IntN(2) == 0 {
				p.Cut() // what was on its way is lost with the connection
			}
		}
		w.recovers(&v, time.Now(), time.Minute)
		t.struck(i + 1)
	}
	v = w.settle(v)
	leaked := func() int { return openFiles(t, d) - before }
	w.within(20*time.Second, func() bool { return leaked() < 20 })
	v.figure("%d more open files than before", leaked())
	v.demand(leaked() < 20, "%d open files are left behind", leaked())
	w.stop(d)
	return v
}

// openFiles returns how many files and connections a daemon has open.
func openFiles(t *trial, d *daemon) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", d.Process.Pid))
	require.NoError(t, err)
	return len(entries)
}
