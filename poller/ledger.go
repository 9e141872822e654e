package poller

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/push"
)

// Book keeps the quota that all replicas share.
type Book interface {
	// UpdateQuota locks the ledger, lets rule read and change it, and makes the
	// result durable before it returns. Day is the UTC day that is meant; zero is
	// today by the database's clock. Rule may run again if the transaction does. It
	// is safe for concurrent use; the caller decides whether to try again.
	UpdateQuota(ctx context.Context, day time.Time, rule func(now time.Time, q *push.Quota)) error
}

// Ledger stands before every request that pushwatch sends and counts it first.
// It is safe for concurrent use.
type Ledger struct {
	Ignored *prometheus.CounterVec // to be registered by the program

	line   *line
	share  func() (reserve float64, companies int)
	log    *slog.Logger
	jitter time.Duration

	mu     sync.Mutex
	places map[string]chan struct{} // by company: requests in flight
	stop   verdict                  // the last refusal; zero while requests go through
	since  time.Time                // when it began
	storm  storm
}

// storm is 429 answers in a row that do not say for how long. Those to requests that
// were under way together are one of them.
type storm struct {
	steps   int
	since   time.Time     // when the pause of the last step began, by the book's clock; zero: there was none
	pause   time.Duration // that it asked for
	pausing bool          // it has not begun yet
}

// NewLedger returns a ledger on book. Share tells, as of now, how much of the day's
// quota is left to others (0 to 0.95), and how many companies are configured.
func NewLedger(book Book, share func() (reserve float64, companies int), log *slog.Logger) *Ledger {
	ignored := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "pushwatch_codat_headers_ignored_total", Help: "Headers of Codat's answers that speak of limits or times and could not be read.",
	}, []string{"header"})
	return &Ledger{Ignored: ignored, line: newLine(book), share: share, log: log,
		jitter: rand.N(time.Minute), places: map[string]chan struct{}{}}
}

func (l *Ledger) rules() rules {
	reserve, companies := l.share()
	return rules{reserve: reserve, companies: companies, jitter: l.jitter}
}

// Admit waits for one of the company's places and for the minute's bucket,
// counts the request and permits it. Every grant must be settled. An AskError of
// KindQuota says that nothing may be sent before its Until.
//
// If we crash after it, a request is counted that was never sent.
func (l *Ledger) Admit(ctx context.Context, ask push.Ask) (push.Grant, error) {
	if err := ctx.Err(); err != nil { // select would toss a coin, and a request be counted for nobody
		return push.Grant{}, err
	}
	place := l.place(ask.CompanyID)
	select {
	case place <- struct{}{}:
	case <-ctx.Done():
		return push.Grant{}, ctx.Err()
	}
	grant, err := l.charge(ctx, ask)
	if err != nil {
		<-place
	}
	return grant, err
}

func (l *Ledger) charge(ctx context.Context, ask push.Ask) (push.Grant, error) {
	rules := l.rules()
	var said verdict
	var now, day time.Time
	err := l.line.do(ctx, time.Time{}, func(at time.Time, q *push.Quota) time.Duration {
		said, now, day = rules.admit(at, q, ask), at, q.Day
		return said.wait
	})
	switch {
	case err != nil:
		return push.Grant{}, err
	case said.granted:
		l.note(verdict{}, now)
		return push.Grant{Ask: ask, Day: day, At: now}, nil
	}
	if said.kind != push.KindQuota || ask.Purpose != push.ForSweep && ask.Purpose != push.ForBaseline {
		l.note(said, now)
	}
	return push.Grant{}, &push.AskError{Ask: ask, Kind: push.KindQuota, Message: said.reason, Until: said.until}
}

// Settle learns from the answer of a granted request and gives its place back.
// An answer belongs to the day of its Date header: when that is another day than
// the one that was charged, the charge moves there. A date further than a day
// from ours is no date.
func (l *Ledger) Settle(ctx context.Context, grant push.Grant, a push.Answer) error {
	defer func() { <-l.place(grant.Ask.CompanyID) }()
	for _, header := range a.Unreadable {
		l.Ignored.WithLabelValues(header).Inc()
	}
	day := grant.Day
	if told := a.Date.UTC().Truncate(24 * time.Hour); told.Sub(grant.Day).Abs() <= 24*time.Hour {
		day = told
	}
	moved := !day.Equal(grant.Day)
	walks := grant.Ask.Purpose == push.ForBaseline || grant.Ask.Purpose == push.ForSweep
	rules, backoff := l.rules(), l.backoff(grant.At, a)
	var paused time.Time
	err := l.line.do(ctx, day, func(now time.Time, q *push.Quota) time.Duration {
		paused = now
		rules.settle(now, q, grant.Ask, a, backoff)
		if moved {
			charge(q, 1, walks)
			rules.await(now, q, a.Date)
		}
		return 0
	})
	if backoff > 0 {
		l.paused(paused)
	}
	if err != nil || !moved {
		return err
	}
	// If we crash here, one request is counted on both days.
	return l.line.do(ctx, grant.Day, func(_ time.Time, q *push.Quota) time.Duration {
		charge(q, -1, walks)
		return 0
	})
}

func charge(q *push.Quota, n int, walks bool) {
	q.Used = max(0, q.Used+n)
	if walks {
		q.UsedWalks = max(0, q.UsedWalks+n)
	}
}

// backoff returns how long a 429 that does not say pauses: exponential, with full
// jitter, at most five minutes. What was asked before the last pause began tells nothing
// about it: neither that it was too short nor that it may end.
func (l *Ledger) backoff(asked time.Time, a push.Answer) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	says := a.Status != 429 || a.HasRetryAfter
	before := l.storm.pausing || !asked.After(l.storm.since) // one transaction may admit, and then begin the pause
	switch {
	case before && says:
		return 0
	case before:
		return l.storm.pause
	case says:
		l.storm = storm{}
		return 0
	}
	l.storm.steps++
	most := min(longestBackoff, 2*time.Second<<min(l.storm.steps, 10))
	l.storm.pause, l.storm.pausing = time.Second+rand.N(most), true
	return l.storm.pause
}

// paused notes that a pause has begun for all: until then requests were admitted.
func (l *Ledger) paused(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.storm.since, l.storm.pausing = at, false
}

func (l *Ledger) place(companyID string) chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	place, ok := l.places[companyID]
	if !ok {
		place = make(chan struct{}, perCompany)
		l.places[companyID] = place
	}
	return place
}

// note keeps the state for Health and logs when it changes.
func (l *Ledger) note(said verdict, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if said.reason == l.stop.reason {
		l.stop = said
		return
	}
	l.stop, l.since = said, now
	if said.reason == "" {
		l.log.Info("asking Codat again")
		return
	}
	l.log.Warn("not asking Codat", "reason", said.reason, "until", said.until)
}

// Health reports whether requests go through; if not, why, and since when.
func (l *Ledger) Health() (ok bool, reason string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stop.reason == "" {
		return true, "", l.since
	}
	return false, l.stop.reason + ", until " + l.stop.until.UTC().Format(time.RFC3339), l.since
}
