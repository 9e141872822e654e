package chaos

import (
	"time"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// growth is how much more memory a daemon may take while it publishes a backlog.
const growth = 64 << 20

// backlogs lets events pile up while NATS is away, and watches the memory of the
// daemon while it publishes them: a million in the nightly form.
func backlogs(t *trial) (v verdict) {
	size := map[bool]int{true: 1_000_000, false: 20_000}[t.n >= 3]
	for i := range t.n {
		v.add(backlog(t, size))
		t.struck(i + 1)
	}
	return v
}

func backlog(t *trial, size int) verdict {
	// Nothing takes hours: what happens to an operation that lies behind the first page, a
	// day old, is seen within the hour, and that is not what the oracle waits for.
	w := newWorld(t, options{sim: codatsim.Config{Companies: codatsim.MakeCompanies(7, 4), History: size / 4, Rate: 6,
		Laws: codatsim.DefaultLaws()[:2]}})
	var v verdict
	d := w.daemon("PUSHWATCH_POLL_PAGE_SIZE=5000", "PUSHWATCH_LOG_LEVEL=info")
	w.within(20*time.Second, func() bool { return w.log.count("msg=running") > 0 })
	w.nats.Set(faultproxy.Refusing)
	waiting := func() int64 { return w.number(`select count(*) from pushwatch.outbox`) }
	piled := w.reaches(size, `select count(*) from pushwatch.outbox`) &&
		w.within(time.Minute, func() bool { return w.number(`select count(*) from pushwatch.company where baselined`) == 4 })
	v.demand(piled, "the histories are not read: %s", w.log.end())
	backlog, before := waiting(), peakMemory(t, d)
	w.nats.Set(faultproxy.Open)
	began := time.Now()
	w.published(size * 99 / 100)
	rate := float64(backlog-waiting()) / time.Since(began).Seconds()
	after := peakMemory(t, d)
	v.figure("%d events waited, %.0f a second were published, peak memory %d MiB before and %d MiB after", backlog, rate, before>>20, after>>20)
	v.demand(after-before < growth, "publishing took %d MiB more", (after-before)>>20)
	v = w.settle(v)
	w.stop(d)
	return v
}
