package poller

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// bookTimeout bounds a transaction of the line, behind which every request of the
// process stands. It is less than an answer waits to be booked before it is thrown
// away, so that who comes behind one that falls silent is in time for the next.
const bookTimeout = 4 * time.Second

// line is where those stand who want something of the book: one transaction at a
// time does what all of them want, in the order in which they came.
//
// The book is one row for all replicas. Where each request locked it for itself,
// again and again while the minute's bucket was empty, those that waited stood in the
// way of those that had been answered, and on a slow database what Codat had said was
// thrown away, because it could not be booked in time.
//
// Its goroutine ends when nobody stands in line.
type line struct {
	book Book

	mu      sync.Mutex // protects all below, and the wishes
	serving bool
	waiting []*wish            // in the order in which they came
	cancel  context.CancelFunc // of the transaction that is under way, nil for none
	news    chan struct{}      // holds a token when a wish has come
}

// wish is what somebody wants of the book.
type wish struct {
	day   time.Time // that is meant, at 00:00 UTC; zero: today by the book's clock
	rule  func(now time.Time, q *push.Quota) (again time.Duration)
	ran   bool          // in the last transaction; else that was of another day, or there was none
	again time.Duration // what the rule returned
	done  chan error    // how it ended
}

func newLine(book Book) *line { return &line{book: book, news: make(chan struct{}, 1)} }

// do lets rule read and change the book's row of a day, as [Book] says, and once more
// after the time that it returns, until that is 0. Its result is durable when do
// returns nil. When ctx ends first, rule does not run any more; what it did in a
// transaction that others wait for too may take effect.
func (l *line) do(ctx context.Context, day time.Time, rule func(now time.Time, q *push.Quota) (again time.Duration)) error {
	w := &wish{day: day, rule: rule, done: make(chan error, 1)}
	l.join(w)
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return l.leave(w, ctx.Err())
	}
}

func (l *line) join(w *wish) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, w)
	if !l.serving {
		l.serving = true
		go l.serve()
		return
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// leave returns why, or how the wish has ended meanwhile. A transaction that nobody
// waits for is given up.
func (l *line) leave(w *wish, why error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case err := <-w.done:
		return err
	default:
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(o *wish) bool { return o == w })
	if len(l.waiting) == 0 && l.cancel != nil {
		l.cancel()
	}
	return why
}

// serve does what is wished until nobody stands in line. While all of them wait for
// time to pass, so does it, or until somebody comes.
func (l *line) serve() {
	for {
		pause, more := l.ask()
		if !more {
			return
		}
		if pause > 0 {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-l.news:
			}
			timer.Stop()
		}
	}
}

// ask does in one transaction what is wished of one day; the others stay in line. It
// returns how long nobody in line needs to be looked at, and whether anybody stood
// there: if not, nobody serves any more.
//
// If we crash in it, either all of it is durable or nothing is, and nobody was told.
func (l *line) ask() (pause time.Duration, more bool) {
	ctx, cancel := context.WithTimeout(context.Background(), bookTimeout)
	defer cancel()
	wishes, day := l.begin(cancel)
	if len(wishes) == 0 {
		return 0, false
	}
	over := false
	err := l.update(ctx, day, func(now time.Time, q *push.Quota) {
		l.mu.Lock()
		defer l.mu.Unlock()
		switch {
		case over: // an effect that comes late is of those who stood here before
		case errors.Is(ctx.Err(), context.Canceled): // given up: whoever has come since waits for the next one
			wishes = nil
		default:
			wishes = slices.Clone(l.waiting)
		}
		today := q.Day.Equal(now.Truncate(24 * time.Hour))
		for _, w := range wishes {
			if w.ran = w.day.Equal(q.Day) || w.day.IsZero() && today; w.ran {
				w.again = w.rule(now, q)
			}
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	over, l.cancel = true, nil
	l.waiting = slices.DeleteFunc(l.waiting, func(w *wish) bool {
		switch {
		case !slices.Contains(wishes, w), w.ran && w.again > 0, !w.ran && err == nil:
			return false
		}
		w.done <- err
		return true
	})
	for i, w := range l.waiting {
		if !w.ran {
			return 0, true
		}
		if i == 0 || w.again < pause {
			pause = w.again
		}
	}
	return pause, true
}

// begin returns who stands in line, and the day that is to be written: that of the
// first who was not looked at in the last transaction, so that those who wait for time
// to pass keep nobody who means another day.
func (l *line) begin(cancel context.CancelFunc) (wishes []*wish, day time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.news:
	default:
	}
	if l.serving = len(l.waiting) > 0; !l.serving {
		return nil, time.Time{}
	}
	l.cancel = cancel
	first := max(0, slices.IndexFunc(l.waiting, func(w *wish) bool { return !w.ran }))
	day = l.waiting[first].day
	for _, w := range l.waiting {
		w.ran = false
	}
	return slices.Clone(l.waiting), day
}

// update writes the book; a panic is an error, and not the end of the process.
func (l *line) update(ctx context.Context, day time.Time, rule func(now time.Time, q *push.Quota)) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the quota's book: panic: %v\n%s", r, debug.Stack())
		}
	}()
	return l.book.UpdateQuota(ctx, day, rule)
}
