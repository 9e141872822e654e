package poller

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// fakeCodat is a list of operations, newest first, that can be walked and got.
type fakeCodat struct {
	mu        sync.Mutex
	now       func() time.Time
	list      []push.Operation          // of company c
	getOther  map[string]push.Operation // what a get shows instead of the list's row
	gone      map[string]bool           // get: 404
	getFails  map[string]error          // nil: shows a record that is set aside
	unordered bool                      // order not verified
	fail      error                     // of every list
	between   func(page int)            // called after each page
	lists     int
	gets      []string
	asked     []push.ListWalk
}

func (f *fakeCodat) Walk(_ context.Context, w push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		f.mu.Lock()
		f.asked = append(f.asked, w)
		f.mu.Unlock()
		for number := w.FirstPage; ; number++ {
			f.mu.Lock()
			f.lists++
			if f.fail != nil {
				f.mu.Unlock()
				yield(push.Page{}, f.fail)
				return
			}
			from := min((number-1)*w.PageSize, len(f.list))
			to := min(from+w.PageSize, len(f.list))
			page := push.Page{Look: push.Look{Source: push.FromList, StartedAt: f.now(), FinishedAt: f.now()},
				Number: number, Size: w.PageSize, Rows: push.RowsOf(f.list[from:to]...),
				Ordered: !f.unordered, Last: to == len(f.list)}
			between := f.between
			f.mu.Unlock()
			if !yield(page, nil) || page.Last {
				return
			}
			if between != nil {
				between(number)
			}
		}
	}
}

func (f *fakeCodat) Get(_ context.Context, companyID, key string, _ push.Purpose) (push.Page, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets = append(f.gets, key)
	if f.gone[key] {
		return push.Page{}, &push.AskError{Ask: push.Ask{Request: push.GetOperation, CompanyID: companyID}, Kind: push.KindNotFound, Status: 404}
	}
	if err, ok := f.getFails[key]; ok {
		page := push.Page{Look: push.Look{Source: push.FromGet, StartedAt: f.now(), FinishedAt: f.now()}, Number: 1}
		if err == nil {
			page.Quarantined = []push.Quarantined{{CompanyID: companyID, Key: key, Class: "status_missing"}}
		}
		return page, err
	}
	op, ok := f.getOther[key]
	for _, row := range f.list {
		if !ok && row.Key == key {
			op, ok = row, true
		}
	}
	if !ok {
		return push.Page{}, &push.AskError{Ask: push.Ask{Request: push.GetOperation}, Kind: push.KindUnavailable, Status: 503}
	}
	return push.Page{Look: push.Look{Source: push.FromGet, StartedAt: f.now(), FinishedAt: f.now()}, Number: 1,
		Rows: push.RowsOf(op)}, nil
}

// arrive puts n new operations on top of the list.
func (f *fakeCodat) arrive(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		at := f.now()
		f.list = slices.Insert(f.list, 0, push.Operation{CompanyID: "c", Key: fmt.Sprintf("k%04d", len(f.list)),
			Status: push.Success, RequestedOn: at})
	}
}

// fakeStore keeps operations by the rule of package push.
type fakeStore struct {
	mu          sync.Mutex
	company     push.Company
	others      []push.Company
	rows        map[string]push.Known
	firstSeen   map[string]time.Time
	quarantined map[string]string
	began       time.Time // first unfinished discover walk
	newest      time.Time
	progress    time.Time
	due         []push.Due
	duePeriod   time.Duration // as last asked for
	finished    []push.WalkKind
	absent      time.Time
	crash       func(push.Record) error // before a record takes effect
}

// Changed never tells: the fake has one set of companies.
func (s *fakeStore) Changed() <-chan struct{} { return nil }

func (s *fakeStore) Companies(context.Context) ([]push.Company, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]push.Company{s.company}, s.others...), nil
}

func (s *fakeStore) MarkAbsent(_ context.Context, _ push.Company, until time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.absent, s.company.AbsentUntil = until, until
	return nil
}

func (s *fakeStore) OpenWalk(_ context.Context, c push.Company, kind push.WalkKind, at time.Time) (push.Walk, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if kind == push.WalkBaseline && s.company.FirstLookAt.IsZero() {
		s.company.FirstLookAt = at
	}
	if kind != push.WalkDiscover {
		s.company.SweepTickedAt = at
	}
	return push.Walk{CompanyID: c.ID, Kind: kind, StartedAt: at, FirstPage: 1, Floor: s.progress.Add(-push.Overlap)}, nil
}

func (s *fakeStore) Record(_ context.Context, r push.Record) (push.Recorded, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.crash != nil {
		if err := s.crash(r); err != nil {
			return push.Recorded{}, err
		}
	}
	s.company.Answered = s.company.Answered || r.Page.Source == push.FromList
	discover := r.Walk != nil && r.Walk.Kind == push.WalkDiscover
	if discover && s.began.IsZero() {
		s.began = r.Walk.StartedAt
	}
	out := push.Recorded{Known: true}
	for _, row := range r.Page.Rows {
		var previous *push.Known
		if known, ok := s.rows[row.Key]; ok {
			previous = &known
		}
		out.Known = out.Known && previous != nil && s.firstSeen[row.Key].Before(s.began)
		next := push.Known{Status: row.Status, LookedAt: r.Page.StartedAt}
		switch push.Observe(previous, push.Sight{Status: row.Status, LookedAt: r.Page.StartedAt, Source: r.Page.Source}) {
		case push.First:
			out.First++
			out.Events++
			out.Flags = append(out.Flags, row.Read().Flags...)
			s.rows[row.Key], s.firstSeen[row.Key] = next, r.Page.FinishedAt
		case push.Changed:
			out.Changed++
			out.Events++
			s.rows[row.Key] = next
		case push.Disputed:
			out.Disputed = append(out.Disputed, row.Key)
			previous.DisputedStatus, previous.DisputedAt = row.Status, r.Page.StartedAt
			s.rows[row.Key] = *previous
		case push.Cleared:
			s.rows[row.Key] = next
		}
	}
	for _, item := range r.Page.Quarantined {
		s.quarantined[item.Key] = item.Class
	}
	if r.Walk == nil {
		return out, nil
	}
	if r.Page.Number == 1 {
		s.newest = r.Page.Newest()
	}
	out.Finished = r.Finish == push.Done || r.Finish == push.IfKnown && out.Known
	if out.Finished {
		s.finished = append(s.finished, r.Walk.Kind)
		if r.Walk.Kind != push.WalkSweep {
			s.company.DiscoveredAt, s.progress, s.began = r.Walk.StartedAt, s.newest, time.Time{}
			s.company.Baselined = s.company.Baselined || r.Walk.Kind == push.WalkBaseline
		} else {
			s.company.SweepOpen = false
		}
	}
	return out, nil
}

func (s *fakeStore) Due(_ context.Context, _ []push.Company, _ time.Time, period time.Duration) ([]push.Due, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.duePeriod = period
	return s.due, nil
}

// bench is a poller between fakes, on a clock that moves a second at each look.
type bench struct {
	*testing.T
	codat  *fakeCodat
	store  *fakeStore
	poller *Poller
}

func newBench(t *testing.T, pageSize int) *bench {
	var mu sync.Mutex
	clock := midday
	now := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		clock = clock.Add(time.Second)
		return clock
	}
	b := &bench{T: t,
		codat: &fakeCodat{now: now, getOther: map[string]push.Operation{}, gone: map[string]bool{}},
		store: &fakeStore{company: push.Company{ID: "c"}, rows: map[string]push.Known{},
			firstSeen: map[string]time.Time{}, quarantined: map[string]string{}},
	}
	b.poller = b.newPoller(pageSize, now)
	return b
}

func (b *bench) newPoller(pageSize int, now func() time.Time) *Poller {
	schedule := func(spec string) Schedule {
		s, err := ParseSchedule(spec)
		require.NoError(b, err)
		return s
	}
	p, err := New(Config{Source: b.codat, Assignments: b.store, Recorder: b.store, Now: now, Logger: silent(),
		Plan: Plan{Discover: schedule("*/5 * * * *"), Track: schedule("* * * * *"), Sweep: schedule("0 3 * * *"), PageSize: pageSize},
	})
	require.NoError(b, err)
	return p
}

// discover runs one discover tick and returns how many lists it cost.
func (b *bench) discover() int {
	b.Helper()
	before := b.codat.lists
	_, err := b.poller.Discover(b.Context())
	require.NoError(b, err)
	return b.codat.lists - before
}

// old moves every operation of the list a day back, a minute apart.
func (b *bench) old() {
	for i := range b.codat.list {
		b.codat.list[i].RequestedOn = midday.Add(-24*time.Hour - time.Duration(i)*time.Minute)
	}
}

func (b *bench) requireAllSeen() {
	b.Helper()
	for _, op := range b.codat.list {
		require.Equal(b, op.Status, b.store.rows[op.Key].Status, op.Key)
	}
}
