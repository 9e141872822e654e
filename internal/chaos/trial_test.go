package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// trial is one run of a row.
type trial struct {
	*testing.T
	row      row
	n        int    // strikes
	off      string // the mechanism that is left out, "" for none
	random   *rand.Rand
	started  time.Time
	patience time.Duration // how long the system may take to be whole again
	told     time.Time     // of the last line of progress
	drift    sync.Mutex    // protects random where requests draw from it
}

func newTrial(t *testing.T, r row, n int, off string) *trial {
	tr := &trial{T: t, row: r, n: n, off: off, random: rand.New(rand.NewPCG(1, uint64(len(r.id))<<8|uint64(n))),
		started: time.Now(), patience: time.Minute}
	if off != "" {
		tr.patience = 15 * time.Second
	}
	return tr
}

// judged runs a row and tells how it goes.
func judged(t *testing.T, r row, n int, off string) verdict {
	tr := newTrial(t, r, n, off)
	tr.say("begins, %d times", n)
	v := r.run(tr)
	tr.report(v)
	return v
}

func (t *trial) say(format string, args ...any) {
	what := t.row.title
	if t.off != "" {
		what = "without " + t.off
	}
	t.told = time.Now()
	fmt.Fprintf(os.Stderr, "%-4s %-38s %6s  %s\n", t.row.id, what, time.Since(t.started).Round(time.Second), fmt.Sprintf(format, args...))
}

// struck tells that the fault has struck for the ith time, from 1.
func (t *trial) struck(i int) {
	if time.Since(t.told) >= 10*time.Second && i < t.n {
		t.say("%d of %d", i, t.n)
	}
}

// wait lets time pass, less when the trial is over.
func (t *trial) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}

// inTime returns how long something may take that the matrix gives d: as long in
// the nightly form, and more in the two that are to pass beside anything.
func inTime(d time.Duration) time.Duration {
	if forms[*formFlag] == nightly {
		return d
	}
	return d + 7*time.Second
}

// between returns a random duration.
func (t *trial) between(least, most time.Duration) time.Duration {
	return least + time.Duration(t.random.Int64N(int64(most-least)))
}

// within reports whether ok becomes true in time.
func (t *trial) within(d time.Duration, ok func() bool) bool {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			return ok()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}

// verdict is what the oracle found, and what the row found beside it.
type verdict struct {
	Operations, Changes, Published int

	Lost       int // operations whose stored status is not the truth's, transitions without a message
	Duplicated int
	OutOfOrder int
	Phantom    int // events that nothing at Codat, or no transition, accounts for
	Orphans    int // broken invariants of the database
	Quota      int // requests beyond what the quota allows

	Recovery []time.Duration // from the end of a fault to the next event, or as recoversEverywhere says
	Figures  []string        // what else was measured
	Broken   []string        // what else the row promises and is not so
}

// sound reports whether there is no damage.
func (v verdict) sound() bool {
	return v.Lost+v.Duplicated+v.OutOfOrder+v.Phantom+v.Orphans+v.Quota == 0 && len(v.Broken) == 0
}

// add adds what another world's oracle found.
func (v *verdict) add(other verdict) {
	v.Operations, v.Changes, v.Published = v.Operations+other.Operations, v.Changes+other.Changes, v.Published+other.Published
	v.Lost, v.Duplicated, v.OutOfOrder = v.Lost+other.Lost, v.Duplicated+other.Duplicated, v.OutOfOrder+other.OutOfOrder
	v.Phantom, v.Orphans, v.Quota = v.Phantom+other.Phantom, v.Orphans+other.Orphans, v.Quota+other.Quota
	v.Recovery = append(v.Recovery, other.Recovery...)
	v.Figures = append(v.Figures, other.Figures...)
	v.Broken = append(v.Broken, other.Broken...)
}

func (v verdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "operations %d, changes %d, published %d, lost %d, duplicated %d, out of order %d, phantom %d, orphans %d, quota exceeded %d",
		v.Operations, v.Changes, v.Published, v.Lost, v.Duplicated, v.OutOfOrder, v.Phantom, v.Orphans, v.Quota)
	if len(v.Recovery) > 0 {
		fmt.Fprintf(&b, ", recovery %s", v.recovery())
	}
	for _, figure := range v.Figures {
		fmt.Fprintf(&b, ", %s", figure)
	}
	for _, broken := range v.Broken {
		fmt.Fprintf(&b, "; BROKEN: %s", broken)
	}
	return b.String()
}

// recovery returns median, 99th percentile and number of the recovery times.
func (v verdict) recovery() string {
	if len(v.Recovery) == 0 {
		return ""
	}
	return fmt.Sprintf("p50 %s, p99 %s (%d)", quantile(v.Recovery, 0.5).Round(time.Millisecond),
		quantile(v.Recovery, 0.99).Round(time.Millisecond), len(v.Recovery))
}

// quantile returns the smallest value that a share q of the values does not exceed.
func quantile(values []time.Duration, q float64) time.Duration {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// demand notes what the row promises beside the oracle's zeros.
func (v *verdict) demand(ok bool, format string, args ...any) {
	if !ok {
		v.Broken = append(v.Broken, fmt.Sprintf(format, args...))
	}
}

func (v *verdict) figure(format string, args ...any) {
	v.Figures = append(v.Figures, fmt.Sprintf(format, args...))
}

// report tells how a trial ended, and keeps it for the table.
func (t *trial) report(v verdict) {
	outcome := "zeros"
	if !v.sound() {
		outcome = "DAMAGE"
	}
	if t.off != "" {
		outcome = map[bool]string{true: "NOT NOTICED", false: "noticed"}[v.sound()]
	}
	t.say("%s: %s", outcome, v)
	results.Lock()
	defer results.Unlock()
	results.of = append(results.of, result{t.row, t.n, t.off, v, time.Since(t.started)})
}

type result struct {
	row  row
	n    int
	off  string
	v    verdict
	took time.Duration
}

var results struct {
	sync.Mutex
	of []result
}

// writeTable writes the results as Markdown, in the order of the matrix: one line
// a row, with what its mutation check found.
func writeTable() {
	if *tableFlag == "" {
		return
	}
	place := func(r result) int { return slices.IndexFunc(rows, func(of row) bool { return of.id == r.row.id }) }
	slices.SortFunc(results.of, func(a, b result) int { return cmp.Or(place(a)-place(b), strings.Compare(a.off, b.off)) })
	var b strings.Builder
	b.WriteString("| row | fault | times | operations | changes | lost | duplicated | out of order | phantom | orphans | quota exceeded | recovery p50, p99 | also | took |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range results.of {
		title := r.row.title
		if r.off != "" {
			title = "*without " + r.off + "*"
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %d | %d | %d | %d | %d | %d | %s | %s | %s |\n", r.row.id, title, r.n,
			r.v.Operations, r.v.Changes, r.v.Lost, r.v.Duplicated, r.v.OutOfOrder, r.v.Phantom, r.v.Orphans, r.v.Quota,
			r.v.recovery(), strings.Join(append(r.v.Figures, r.v.Broken...), "; "), r.took.Round(time.Second))
	}
	if err := os.WriteFile(*tableFlag, []byte(b.String()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
