package poller

import (
	"bytes"
	"context"
	"iter"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// step is one call that a poller makes: companies, due, open, list, get, record
// or wake; the last without a company.
type step struct {
	call, company string
	purpose       push.Purpose // of list and get
}

// staged is a running poller between the fakes. Every call it makes is noted, and
// then goes through before, which may fail, panic or block it.
type staged struct {
	*bench
	log bytes.Buffer // to be read when the poller has ended

	mu      sync.Mutex
	before  func(context.Context, step) error
	steps   map[step]int
	changed chan struct{} // closed when another company is assigned
}

// run starts the poller; stop ends it and waits for it.
func (s *staged) run() (stop func()) {
	ctx, cancel := context.WithCancel(s.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.poller.Run(ctx) }()
	return func() {
		s.Helper()
		require.Empty(s, ended, "the poller ended by itself")
		cancel()
		require.NoError(s, <-ended)
	}
}

// during makes before happen to every call from now on; nil: nothing.
func (s *staged) during(before func(context.Context, step) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

func (s *staged) step(ctx context.Context, at step) error {
	s.mu.Lock()
	s.steps[at]++
	before := s.before
	s.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, at)
}

func (s *staged) count(at step) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.steps[at]
}

// lists returns how often a company was listed, by purpose.
func (s *staged) lists(company string) map[push.Purpose]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	lists := map[push.Purpose]int{}
	for at, n := range s.steps {
		if at.call == "list" && at.company == company {
			lists[at.purpose] = n
		}
	}
	return lists
}

// runs returns how many runs of a job ended with result.
func (s *staged) runs(name job, result string) int {
	return int(testutil.ToFloat64(s.poller.config.Metrics.runs.WithLabelValues(string(name), result)))
}

func (s *staged) Walk(ctx context.Context, w push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		if err := s.step(ctx, step{"list", w.CompanyID, w.Purpose}); err != nil {
			yield(push.Page{}, err)
			return
		}
		s.codat.Walk(ctx, w)(yield)
	}
}

func (s *staged) Get(ctx context.Context, companyID, key string, purpose push.Purpose) (push.Page, error) {
	if err := s.step(ctx, step{"get", companyID, purpose}); err != nil {
		return push.Page{}, err
	}
	return s.codat.Get(ctx, companyID, key, purpose)
}

func (s *staged) Companies(ctx context.Context) ([]push.Company, error) {
	if err := s.step(ctx, step{call: "companies"}); err != nil {
		return nil, err
	}
	return s.store.Companies(ctx)
}

func (s *staged) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// assign gives the poller one more company.
func (s *staged) assign(c push.Company) {
	s.store.mu.Lock()
	others := append(s.store.others, c)
	s.store.mu.Unlock()
	s.reassign(others...)
}

// reassign gives the poller other companies beside c.
func (s *staged) reassign(others ...push.Company) {
	s.store.mu.Lock()
	s.store.others = others
	s.store.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *staged) MarkAbsent(ctx context.Context, c push.Company, until time.Time) error {
	return s.store.MarkAbsent(ctx, c, until)
}

func (s *staged) OpenWalk(ctx context.Context, c push.Company, kind push.WalkKind, at time.Time) (push.Walk, error) {
	if err := s.step(ctx, step{call: "open", company: c.ID}); err != nil {
		return push.Walk{}, err
	}
	return s.store.OpenWalk(ctx, c, kind, at)
}

func (s *staged) Record(ctx context.Context, r push.Record) (push.Recorded, error) {
	if err := s.step(ctx, step{call: "record", company: r.Company.ID}); err != nil {
		return push.Recorded{}, err
	}
	return s.store.Record(ctx, r)
}

func (s *staged) Due(ctx context.Context, companies []push.Company, now time.Time, period time.Duration) ([]push.Due, error) {
	if err := s.step(ctx, step{call: "due"}); err != nil {
		return nil, err
	}
	return s.store.Due(ctx, companies, now, period)
}
