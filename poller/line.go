package poller

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// bookTimeout bounds a transaction of the line, behind which every request of the
// process stands.
const bookTimeout = 10 * time.Second

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
	waiting []*wish // in the order in which they came
	asking  []*wish // those of the transaction that is under way
	cancel  context.CancelFunc
	news    chan struct{} // holds a token when a wish has come that was not looked at
}

// wish is what somebody wants of the book.
type wish struct {
	day   time.Time // that is meant, at 00:00 UTC; zero: today by the book's clock
	rule  func(now time.Time, q *push.Quota) (again time.Duration)
	ran   bool          // in the transaction that is under way
	again time.Duration // what the rule returned
	left  bool          // nobody waits for it any more
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
	w.left = true
	l.waiting = slices.DeleteFunc(l.waiting, func(o *wish) bool { return o == w })
	if !slices.ContainsFunc(l.asking, func(o *wish) bool { return !o.left }) && l.cancel != nil {
		l.cancel()
	}
	return why
}

// serve does what is wished until nobody stands in line. While all of them wait for
// time to pass, so does it, or until somebody comes.
func (l *line) serve() {
	for wishes := l.next(); len(wishes) > 0; wishes = l.next() {
		if pause := l.ask(wishes); pause > 0 {
			timer := time.NewTimer(pause)
			select {
			case <-timer.C:
			case <-l.news:
			}
			timer.Stop()
		}
	}
}

// next returns who stands in line. When that is nobody, nobody serves any more.
func (l *line) next() []*wish {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.news:
	default:
	}
	l.serving = len(l.waiting) > 0
	return slices.Clone(l.waiting)
}

// ask does in one transaction what is wished of the day that the first of wishes
// means; the others stay in line. It returns how long none of wishes needs to be
// looked at, 0 when one does or all have ended.
//
// If we crash in it, either all of it is durable or nothing is, and nobody was told.
func (l *line) ask(wishes []*wish) (pause time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), bookTimeout)
	defer cancel()
	l.mu.Lock()
	l.asking, l.cancel = wishes, cancel
	l.mu.Unlock()
	err := l.book.UpdateQuota(ctx, wishes[0].day, func(now time.Time, q *push.Quota) {
		l.mu.Lock()
		defer l.mu.Unlock()
		today := q.Day.Equal(now.Truncate(24 * time.Hour))
		for _, w := range wishes {
			if w.ran = !w.left && (w.day.Equal(q.Day) || w.day.IsZero() && today); w.ran {
				w.again = w.rule(now, q)
			}
		}
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asking, l.cancel = nil, nil
	l.waiting = slices.DeleteFunc(l.waiting, func(w *wish) bool {
		looked := slices.Contains(wishes, w)
		if ended := looked && (err != nil || w.ran && w.again == 0); ended {
			w.done <- err
			return true
		}
		return false
	})
	for i, w := range l.waiting {
		if !w.ran || w.again == 0 { // of another day, or new
			return 0
		}
		if i == 0 || w.again < pause {
			pause = w.again
		}
	}
	return pause
}
