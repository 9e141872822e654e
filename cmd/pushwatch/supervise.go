package main

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/fault"
)

const (
	probeEvery       = time.Second
	postgresPatience = 10 * time.Second // unanswered probes before PostgreSQL counts as wedged
	natsPatience     = 3 * time.Second  // a stream that is just being made fails a probe too
	firstRetry       = time.Second      // doubled after each restart that did not help
	longestRetry     = 30 * time.Second
	steady           = time.Minute // how long a server must be well for that to be forgotten
)

// guard watches one embedded server and starts it again when it ended, or when its
// probes failed for longer than its patience. It never gives up.
type guard struct {
	check    string // of /readyz
	patience time.Duration
	ended    func() <-chan struct{} // nil: only the probe tells
	probe    func(context.Context) error
	restart  func(context.Context) error // the old server may be gone already
	log      *slog.Logger

	mu     sync.Mutex // guards reason and since
	reason string     // "" while the server is well
	since  time.Time
}

// run watches until ctx ends.
func (g *guard) run(ctx context.Context) error {
	retry := firstRetry
	var last time.Time // of the last restart
	var err error      // of the last restart, or why there has to be one
	for {
		if err == nil {
			err = g.watchOnce(ctx)
		}
		if ctx.Err() != nil {
			return nil
		}
		if time.Since(last) > steady+longestRetry {
			retry = firstRetry
		} else if !pause(ctx, retry-time.Since(last)) {
			return nil
		} else {
			retry = min(2*retry, longestRetry)
		}
		g.log.Error("embedded server is started again", "check", g.check, "error", err)
		err = g.restart(ctx)
		last = time.Now()
		if err != nil {
			g.trouble("restart: " + err.Error())
			g.log.Error("embedded server does not start", "check", g.check, "error", err, "next_try_in", retry)
		}
	}
}

// watchOnce returns why the server has to be started again, or when ctx ends.
func (g *guard) watchOnce(ctx context.Context) error {
	var failing time.Time
	for {
		err := g.probeOnce(ctx)
		if err == nil {
			failing = time.Time{}
			g.well()
		} else if ctx.Err() == nil {
			g.trouble(err.Error())
			if failing.IsZero() {
				failing = time.Now()
			}
			if g.gone() || time.Since(failing) >= g.patience {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-g.ending():
		case <-time.After(probeEvery):
		}
	}
}

func (g *guard) probeOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeDatabase)
	defer cancel()
	return g.probe(ctx)
}

func (g *guard) ending() <-chan struct{} {
	if g.ended == nil {
		return nil
	}
	return g.ended()
}

func (g *guard) gone() bool {
	select {
	case <-g.ending():
		return true
	default:
		return false
	}
}

func (g *guard) trouble(reason string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.reason == "" {
		g.since = time.Now()
	}
	g.reason = reason
}

func (g *guard) well() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reason = ""
}

// pause waits, and reports whether ctx let it.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// watch is the supervision of the embedded servers.
type watch struct {
	guards []*guard
	stages []*stage
}

// tell puts what is wrong with the embedded servers into the checks of /readyz.
func (w *watch) tell(checks map[string]check) {
	if w == nil {
		return
	}
	for _, g := range w.guards {
		g.mu.Lock()
		if g.reason != "" {
			checks[g.check] = checkOf(false, "embedded server: "+g.reason, g.since)
		}
		g.mu.Unlock()
	}
}

// end waits however long it takes: a restart under way must not race with the stop.
func (w *watch) end() {
	for _, s := range w.stages {
		_ = s.end(context.Background()) // run returns no error
	}
}

// begin watches until end; the servers belong to the guards from now on.
func (w *watch) begin() {
	if fault.Off(fault.Watchdog) {
		return
	}
	for _, g := range w.guards {
		w.stages = append(w.stages, begin(g.run))
	}
}

// guard makes a guard for each embedded server.
func (s *servers) guard(log *slog.Logger) {
	if s.postgres != nil {
		s.watch.guards = append(s.watch.guards, &guard{
			check: "database", patience: postgresPatience, log: log,
			ended: func() <-chan struct{} { return s.postgres.Done() },
			probe: func(ctx context.Context) error { return s.postgres.Probe(ctx) },
			restart: func(ctx context.Context) error {
				again, err := s.postgres.Restart(ctx)
				return replace(&s.postgres, again, err)
			},
		})
	}
	if s.nats != nil {
		s.watch.guards = append(s.watch.guards, &guard{
			check: "stream", patience: natsPatience, log: log,
			probe: func(context.Context) error { return s.nats.Healthy() },
			restart: func(context.Context) error {
				again, err := s.nats.Restart()
				return replace(&s.nats, again, err)
			},
		})
	}
}

// replace keeps the old server when there is no new one, to restart it again.
func replace[T embedded.Postgres | embedded.NATS](server **T, again *T, err error) error {
	if err == nil {
		*server = again
	}
	return err
}
