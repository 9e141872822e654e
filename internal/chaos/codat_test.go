package chaos

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

// storms answers 429 with every form of Retry-After to three replicas that share
// one quota: what was admitted before may still arrive, but until the pause is over
// nothing is admitted.
func storms(t *trial) verdict {
	const replicas = 3
	w := newWorld(t, options{})
	var v verdict
	all := make([]*daemon, replicas)
	for i := range all {
		all[i] = w.daemon()
	}
	w.recovers(&v, all[0].started, 30*time.Second)
	v.Recovery = nil
	for i := range t.n {
		s := newStorm(i)
		w.spoil.Store(&s.spoil)
		if !w.within(20*time.Second, s.struck) {
			v.demand(false, "storm %d: nobody asked; the gate is shut for another %d ms", i,
				w.number(`select coalesce(ceil(1000 * extract(epoch from greatest(blocked_until, next_slot) - clock_timestamp())), 0)::bigint from pushwatch.quota_gate`))
			break
		}
		if s.forLong {
			v.demand(w.within(5*time.Second, func() bool { return w.blockedUntilReset() }), "storm %d (%s): the pause does not end at the next reset", i, s.header)
		}
		if s.pause > 0 || s.forLong {
			shut, admitted := w.gate()
			v.demand(shut && admitted == 0, "storm %d (Retry-After %q): a pause began: %t; %d requests were admitted in it", i, s.header, shut, admitted)
		}
		w.spoil.Store(nil)
		if s.forLong {
			w.database(func(ctx context.Context, conn *pgx.Conn) error { // an operator's hand: nobody waits for midnight here
				_, err := conn.Exec(ctx, `update pushwatch.quota_gate set blocked_until = null, blocked_by = null`)
				return err
			})
		}
		w.recovers(&v, time.Now(), 30*time.Second)
		if len(v.Broken) > 3 {
			break
		}
		t.struck(i + 1)
	}
	v = w.settle(v)
	for _, d := range all {
		w.stop(d)
	}
	return v
}

// gate looks at the ledger until a pause has passed, or for a second, and reports
// whether there was one, and how many requests were admitted in it.
func (w *world) gate() (shut bool, admitted int64) {
	const q = `
select clock_timestamp(), coalesce(blocked_until, '-infinity'), used from pushwatch.quota_gate, pushwatch.quota_day
where day = (now() at time zone 'UTC')::date`
	var until pgtype.Timestamptz // of the look before
	var used int64
	began, most := time.Now(), 15*time.Second
	w.database(func(ctx context.Context, conn *pgx.Conn) error {
		for time.Since(began) < most {
			var now time.Time
			var next pgtype.Timestamptz
			var count int64
			if err := conn.QueryRow(ctx, q).Scan(&now, &next, &count); err != nil {
				return err
			}
			paused := until.InfinityModifier == pgtype.Finite && now.Before(until.Time)
			switch {
			case paused && !shut:
				shut, began, most = true, time.Now(), time.Second
				fallthrough
			case paused:
				admitted += count - used
			case shut:
				return nil
			}
			until, used = next, count
			w.wait(10 * time.Millisecond)
		}
		return nil
	})
	return shut, admitted
}

// blockedUntilReset reports whether all requests wait for 00:00 UTC, and at most a
// minute more.
func (w *world) blockedUntilReset() bool {
	return w.number(`select count(*) from pushwatch.quota_gate
where blocked_until >= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '1 day'
  and blocked_until <= date_trunc('day', now() at time zone 'UTC') at time zone 'UTC' + interval '1 day 1 minute'`) == 1
}

// storm answers 429 to everything.
type storm struct {
	header  string
	pause   time.Duration // that is asked for, or the shortest that is taken without
	forLong bool
	spoil   spoiler

	mu    sync.Mutex
	first time.Time
	count int
}

func newStorm(i int) *storm {
	s := &storm{}
	switch i % 6 {
	case 0, 1:
		s.header, s.pause = "1", time.Second
	case 2: // a date is whole seconds, by the server's own clock
		s.header, s.pause = "date", time.Second
	case 3:
		s.header, s.pause = "soon", time.Second // unreadable: the back-off begins at a second
	case 4:
		s.header, s.pause = "-5", 0 // no pause at all
	case 5:
		s.header, s.forLong = "31536000", true
	}
	s.spoil = func(w http.ResponseWriter, _ *http.Request) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := time.Now()
		if s.first.IsZero() {
			s.first = now
		} else if s.pause == 0 && now.Sub(s.first) > 0 {
			return false
		}
		s.count++
		header := s.header
		if header == "date" {
			header = now.UTC().Add(2 * time.Second).Format(http.TimeFormat)
		}
		w.Header().Set("Retry-After", header)
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	}
	return s
}

func (s *storm) struck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count > 0
}

// bodies answers with what is no answer, each kind n times.
func bodies(t *trial) verdict {
	w := newWorld(t, options{sim: codatsim.Config{Companies: codatsim.MakeCompanies(7, 8), Rate: 60}})
	kinds := []string{"503", "slow", "cut", "short", "bomb", "endless"}
	struck := make([]atomic.Int64, len(kinds))
	bomb := gzipBomb(t)
	var turn atomic.Int64
	spoil := spoiler(func(rw http.ResponseWriter, r *http.Request) bool {
		i := turn.Add(1)
		if i%2 == 0 {
			return false
		}
		kind := int(i/2) % len(kinds)
		if int(struck[kind].Add(1)) > t.n {
			return false
		}
		return spoilBody(rw, r, kinds[kind], bomb)
	})
	w.spoil.Store(&spoil)
	var v verdict
	d := w.daemon()
	done := func() (least int) {
		least = t.n
		for i := range struck {
			least = min(least, int(struck[i].Load()))
		}
		return least
	}
	ok := w.within(time.Duration(t.n)*3*time.Second+time.Minute, func() bool {
		t.struck(done())
		return done() >= t.n
	})
	v.demand(ok, "only %d of each body were asked for", done())
	w.spoil.Store(nil)
	w.recovers(&v, time.Now(), time.Minute)
	peak := peakMemory(t, d)
	v.figure("peak memory %d MiB", peak>>20)
	v.demand(peak < 400<<20, "%d MiB of memory were used", peak>>20)
	v = w.settle(v)
	w.stop(d)
	return v
}

// spoilBody answers with a body of a kind.
func spoilBody(w http.ResponseWriter, r *http.Request, kind string, bomb []byte) bool {
	part := []byte(`{"results":[{"pushOperationKey":"0`)
	w.Header().Set("Content-Type", "application/json")
	switch kind {
	case "503":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "slow":
		for range 10 {
			_, _ = w.Write(part[:3]) // to a client that may be gone
			_ = http.NewResponseController(w).Flush()
			select {
			case <-time.After(100 * time.Millisecond):
			case <-r.Context().Done():
				return true
			}
		}
	case "cut":
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(part)
		panic(http.ErrAbortHandler)
	case "short":
		_, _ = w.Write(part)
	case "bomb":
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	case "endless":
		chunk := bytes.Repeat([]byte(" "), 1<<16)
		for range 1 << 13 { // half a gibibyte, unless somebody stops listening
			if _, err := w.Write(chunk); err != nil {
				return true
			}
		}
	}
	return true
}

// gzipBomb returns half a gibibyte of nothing, compressed.
func gzipBomb(t *trial) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	zeros := make([]byte, 1<<20)
	for range 512 {
		_ = must(z.Write(zeros))(t)
	}
	require.NoError(t, z.Close())
	return b.Bytes()
}

// peakMemory returns the most memory that a daemon had, in bytes.
func peakMemory(t *trial, d *daemon) int64 {
	status := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Process.Pid)))(t))
	_, rest, _ := strings.Cut(status, "VmHWM:")
	kB, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	return must(strconv.ParseInt(kB, 10, 64))(t) << 10
}

// drift lets bursts arrive at quiet companies while their pages are read, with
// pages that lie, and kills the daemon between the pages of some walks. A world
// takes sixty bursts: the five minutes that every walk goes back would be read
// over and over in an older one, at the minute's 960 requests.
func drift(t *trial) (v verdict) {
	for done := 0; done < t.n && v.sound(); done += 60 {
		v.add(driftOnce(t, done, min(60, t.n-done)))
	}
	return v
}

func driftOnce(t *trial, before, bursts int) verdict {
	const atOnce = 4
	companies := codatsim.MakeCompanies(7, 20)
	var d atomic.Pointer[daemon]
	var kill atomic.Bool
	var drifts sync.Map // companies whose next walk drifts
	var w *world
	w = newWorld(t, options{sim: codatsim.Config{Companies: companies, Rate: 0.01, History: 12, Hook: func(r codatsim.Request) {
		if r.Kind != codatsim.List || r.Page != 2 {
			return
		}
		if kill.CompareAndSwap(true, false) {
			_ = d.Load().Process.Kill() // before the second page is answered
			return
		}
		if _, ok := drifts.LoadAndDelete(r.CompanyID); ok {
			_, _ = w.sim.Arrive(r.CompanyID, t.drifting()) // an error: frozen, at the end
		}
	}}})
	w.environ = []string{smallPages, "PUSHWATCH_POLL_SWEEP=0 0 1 1 *", "PUSHWATCH_POLL_DISCOVER=@every 2s"} // no sweep comes to the rescue
	require.NoError(t, w.sim.SetFaults(
		codatsim.Rule{Fault: codatsim.MissingRow, Chance: 0.05}, codatsim.Rule{Fault: codatsim.RepeatRow, Chance: 0.1},
		codatsim.Rule{Fault: codatsim.LyingTotals, Chance: 0.2}, codatsim.Rule{Fault: codatsim.EmptyPage, Chance: 0.02}))
	var v verdict
	d.Store(w.daemon())
	baselined := w.within(60*time.Second, func() bool {
		return w.number(`select count(*) from pushwatch.company where baselined`) == int64(len(companies))
	})
	v.demand(baselined, "the first looks do not end: %s", w.log.end())
	for i := 0; i < bursts && len(v.Broken) == 0; i += atOnce {
		killed := i%8 == 0
		kill.Store(killed)
		struck := make([]string, atOnce)
		for j := range struck {
			struck[j] = companies[(i+j)%len(companies)].ID
			drifts.Store(struck[j], true)
			w.burst(struck[j], 8+(i+j)%7)
		}
		began := time.Now()
		looked := func() bool {
			if killed && exited(d.Load()) {
				_ = d.Load().Wait() // says that it was killed
				d.Store(w.daemon())
				killed = false
			}
			return w.number(`select count(*) from pushwatch.company where company_id = any($2) and discovered_at < $1`, began, struck) == 0
		}
		v.demand(w.within(time.Minute, looked), "a company was not looked at: %s", w.log.end())
		t.struck(before + i + atOnce)
	}
	require.NoError(t, w.sim.SetFaults())
	if killed := exited(d.Load()); killed {
		_ = d.Load().Wait()
		d.Store(w.daemon())
	}
	v = w.settle(v)
	w.stop(d.Load())
	return v
}

// burst lets n operations arrive, one after the other within two seconds.
func (w *world) burst(companyID string, n int) {
	w.Helper()
	now := time.Now()
	for i := range n {
		_ = must(w.sim.Add(codatsim.Operation{CompanyID: companyID, RequestedOn: now.Add(time.Duration(i-n) * 150 * time.Millisecond),
			Steps: []codatsim.Step{{At: now.Add(time.Duration(1+i%4) * time.Second), Status: codatsim.Success}}}))(w.trial)
	}
}

// drifting returns how many operations arrive between two pages: one to one more
// than a page holds.
func (t *trial) drifting() int {
	t.drift.Lock()
	defer t.drift.Unlock()
	return 1 + t.random.IntN(6)
}

// exited reports whether a killed daemon has ended.
func exited(d *daemon) bool {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.Process.Pid))
	return err != nil || strings.Contains(string(status), ") Z ")
}

// lies shows terminal operations as they were, keys with two statuses, and lets
// statuses flap for real.
func lies(t *trial) verdict {
	laws := codatsim.DefaultLaws()
	for i := range laws {
		laws[i].Cancelled, laws[i].Processing = 0.2, 0.2
	}
	w := newWorld(t, options{sim: codatsim.Config{Laws: laws, Speed: 4}})
	require.NoError(t, w.sim.SetFaults(
		codatsim.Rule{Fault: codatsim.StaleRow, Request: codatsim.List, Chance: 0.3, Finished: true}, codatsim.Rule{Fault: codatsim.TwoStatuses, Chance: 0.2}))
	var v verdict
	d := w.daemon()
	flapped := 0
	ok := w.within(time.Duration(t.n)*time.Second/2+time.Minute, func() bool {
		struck := w.sim.Stats().Struck
		n := struck[codatsim.StaleRow] + struck[codatsim.TwoStatuses] + flapped
		t.struck(n)
		truth := w.sim.Truth()
		o := truth[t.random.IntN(len(truth))]
		if o.Status == codatsim.Success || o.Status == codatsim.Failed {
			require.NoError(t, w.sim.Set(o.CompanyID, o.Key, codatsim.Pending, o.Status, codatsim.Pending))
			flapped++
		}
		return n >= t.n
	})
	struck := w.sim.Stats().Struck
	v.figure("%d stale rows, %d contradictions, %d flaps", struck[codatsim.StaleRow], struck[codatsim.TwoStatuses], flapped)
	v.demand(ok, "too few lies were told")
	require.NoError(t, w.sim.SetFaults())
	v = w.settle(v)
	w.stop(d)
	return v
}
