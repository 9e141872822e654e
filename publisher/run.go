package publisher

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/internal/fault"
)

const (
	firstBackoff   = 100 * time.Millisecond
	longestBackoff = 5 * time.Second
	repeatLog      = 5 * time.Minute // how often trouble that stays the same is logged
	changeLog      = 10 * time.Second
)

// Run publishes until ctx ends, and then returns nil, after what is under way
// has been acknowledged and recorded, or given up after the timeouts of
// [Config]. It never ends by itself: every failure is repeated, ever more slowly.
//
// There is no catching up at the start: what an earlier process left is pending
// like anything else.
func (r *Relay) Run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		result, err := r.RunOnce(ctx)
		if ctx.Err() != nil {
			break // what went wrong was the end
		}
		r.health.report(ctx, r.log, r.now(), err)
		if err != nil && fault.Off(fault.Retry) {
			return err
		}
		failures = inARow(failures, result, err)
		switch {
		case failures > 0:
			pause(ctx, backoff(failures), nil)
		case !result.progressed():
			pause(ctx, r.poll, r.wake)
		}
	}
	return nil
}

// inARow returns how many runs have failed in a row, after another one. Where
// some events fail and others do not, those need not wait long.
func inARow(failures int, result Result, err error) int {
	switch {
	case err == nil:
		return 0
	case result.progressed():
		return 1
	}
	return failures + 1
}

// Wake makes [Relay.Run] look at the outbox soon. It never blocks; calls while
// one is outstanding are one.
func (r *Relay) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// backoff returns how long to wait after so many failures in a row: full jitter
// under a cap, so that many relays do not come back at once.
func backoff(failures int) time.Duration {
	return 1 + rand.N(min(longestBackoff, firstBackoff<<min(failures-1, 10)))
}

func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-wake:
	}
}

// health is what the last runs said. The mutex protects all of it: Run writes,
// anybody reads.
type health struct {
	mu     sync.Mutex
	ok     bool
	reason string
	since  time.Time // of ok

	logged   string // the reason last logged
	loggedAt time.Time
}

func (h *health) start(now time.Time) { h.reason, h.since = "not run yet", now }

// report takes the outcome of a run, and logs it when it is news: a change
// between well and ill at once, another reason after a while, the same one
// rarely.
func (h *health) report(ctx context.Context, log *slog.Logger, now time.Time, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was, since := h.ok, h.since
	h.ok, h.reason = err == nil, ""
	if was != h.ok {
		h.since = now
	}
	if err == nil {
		if h.logged != "" {
			log.InfoContext(ctx, "events are being published again", "after", now.Sub(since).Round(time.Millisecond))
		}
		h.logged = ""
		return
	}
	h.reason = err.Error()
	quiet := now.Sub(h.loggedAt)
	if h.logged == "" || h.logged != h.reason && quiet >= changeLog || quiet >= repeatLog {
		log.WarnContext(ctx, "events cannot be published, trying again", "error", err, "since", h.since)
		h.logged, h.loggedAt = h.reason, now
	}
}

// Health reports whether the last run of [Relay.Run] went well, why not, and
// since when it is so.
func (r *Relay) Health() (ok bool, reason string, since time.Time) {
	r.health.mu.Lock()
	defer r.health.mu.Unlock()
	return r.health.ok, r.health.reason, r.health.since
}
