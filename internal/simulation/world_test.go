package simulation

import (
	"cmp"
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing/synctest"
	"time"
)

// world is one run: everything that happens in it follows from its seed. It lives
// in a synctest bubble, so its time is virtual, and it knows when every goroutine
// has come to rest. Only then does it go one step on: one question that a process
// has asked of database, broker or Codat takes effect, or one answer arrives, or a
// moment passes. The dice say which.
//
// Its fields belong to the goroutine that runs it, except those that mu protects.
type world struct {
	seed    uint64
	dice    *rand.Rand
	weather weather
	began   time.Time
	storm   time.Time     // when the faults end
	calm    bool          // there are no more faults
	renewed bool          // the database is a fresh one, or an older copy, beside a stream that tells more
	copied  bool          // there is a copy of the database, which may take its place
	rested  bool          // everything was down for a while
	closed  bool          // nothing is started
	slept   time.Duration // by machines, all together

	mu      sync.Mutex // protects the three below, and dead of every process
	waiting []*call
	sorted  bool // waiting is
	step    int
	nudge   chan struct{} // holds a token when a call has arrived

	agenda agenda
	codat  *codat
	data   *database
	broker *broker
	oracle *oracle

	replicas  []*replica
	processes []*process // all there ever were

	recording bool
	history   []line
	complaint string        // the first broken promise; ends the run
	healed    time.Duration // from the last fault until all was sound
	room      []*call       // for ready
	asked     time.Time     // when run last asked whether it is over
}

// line is one thing that happened.
type line struct {
	at             time.Duration
	who, what, how string
}

func (l line) String() string {
	if l.how != "" {
		l.how = ": " + l.how
	}
	return fmt.Sprintf("%10.4fs  %-15s %s%s", l.at.Seconds(), l.who, l.what, l.how)
}

// note records what happened, where somebody will read it.
func (w *world) note(who, what, how string) {
	if w.recording {
		w.history = append(w.history, line{w.now().Sub(w.began), who, what, how})
	}
}

// say spells out for the history, where there is one.
func (w *world) say(format string, args ...any) string {
	if !w.recording {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// tale returns the last lines of the history.
func (w *world) tale(last int) string {
	var b strings.Builder
	for _, l := range w.history[max(0, len(w.history)-last):] {
		fmt.Fprintln(&b, l)
	}
	return b.String()
}

// complain ends the run: a promise is broken.
func (w *world) complain(format string, args ...any) {
	if w.complaint == "" {
		w.complaint = fmt.Sprintf(format, args...)
		w.note("ORACLE", w.complaint, "")
	}
}

func (w *world) now() time.Time { return time.Now().UTC() }

// since returns a moment as the history shows it.
func (w *world) since(at time.Time) string {
	return strconv.FormatFloat(at.Sub(w.began).Seconds(), 'f', 6, 64) + "s"
}

// chance is true with probability p.
func (w *world) chance(p float64) bool { return p > 0 && w.dice.Float64() < p }

// between draws a duration.
func (w *world) between(least, most time.Duration) time.Duration {
	return least + time.Duration(w.dice.Int64N(int64(most-least)))
}

// plan is what the world does at a moment of its own choice.
type plan struct {
	at   time.Time
	turn int // among those of one moment
	do   func()
}

// agenda is a heap of plans, the next one first.
type agenda struct {
	plans []plan
	turns int
}

func (a *agenda) Len() int { return len(a.plans) }
func (a *agenda) Less(i, j int) bool {
	return cmp.Or(a.plans[i].at.Compare(a.plans[j].at), cmp.Compare(a.plans[i].turn, a.plans[j].turn)) < 0
}
func (a *agenda) Swap(i, j int) { a.plans[i], a.plans[j] = a.plans[j], a.plans[i] }
func (a *agenda) Push(x any)    { a.plans = append(a.plans, x.(plan)) }
func (a *agenda) Pop() any {
	last := a.plans[len(a.plans)-1]
	a.plans = a.plans[:len(a.plans)-1]
	return last
}

// after plans something.
func (w *world) after(d time.Duration, do func()) {
	w.agenda.turns++
	heap.Push(&w.agenda, plan{w.now().Add(d), w.agenda.turns, do})
}

// run goes on until end, which may move, or until a promise is broken, or until over, asked
// now and then, says so.
func (w *world) run(end *time.Time, over func() bool) {
	for w.complaint == "" && w.now().Before(*end) {
		until := *end
		synctest.Wait()
		select {
		case <-w.nudge:
		default:
		}
		if w.begin() {
			continue
		}
		if now := w.now(); over != nil && now.Sub(w.asked) > time.Second {
			if w.asked = now; over() {
				return
			}
		}
		ready := w.ready()
		if len(ready) == 0 {
			w.idle(until)
			continue
		}
		c := ready[w.dice.IntN(len(ready))]
		time.Sleep(w.between(50*time.Microsecond, 5*time.Millisecond))
		synctest.Wait() // whoever a timer has woken at this very moment
		w.advance(c)
	}
}

// begin does the next thing that is on the agenda for now.
func (w *world) begin() bool {
	if len(w.agenda.plans) == 0 || w.agenda.plans[0].at.After(w.now()) {
		return false
	}
	heap.Pop(&w.agenda).(plan).do()
	return true
}

// ready returns the calls that may go on now, in an order that depends on nothing
// but the seed.
func (w *world) ready() []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.step++
	w.sort()
	ready, now := w.room[:0], w.now()
	for i, c := range w.waiting {
		if i > 0 && w.waiting[i-1].order(c) == 0 {
			continue // goes with the one before
		}
		if c.to == nobody {
			w.pause(c, now)
		}
		if !c.notFor.After(now) && !c.process.pausedUntil.After(now) {
			ready = append(ready, c)
		}
	}
	w.room = ready
	return ready
}

// sort is called with mu held.
func (w *world) sort() {
	if !w.sorted {
		slices.SortFunc(w.waiting, (*call).order)
		w.sorted = true
	}
}

// idle lets time pass until something may happen.
func (w *world) idle(until time.Time) {
	now := w.now()
	if len(w.agenda.plans) > 0 && w.agenda.plans[0].at.Before(until) {
		until = w.agenda.plans[0].at
	}
	w.mu.Lock() // a timeout may end, and let somebody call, without any answer of ours
	for _, c := range w.waiting {
		at := c.notFor
		if c.process.pausedUntil.After(at) {
			at = c.process.pausedUntil
		}
		if at.After(now) && at.Before(until) {
			until = at
		}
	}
	w.mu.Unlock()
	timer := time.NewTimer(until.Sub(now))
	defer timer.Stop()
	select {
	case <-w.nudge:
	case <-timer.C:
	}
}
