package poller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

const (
	listInstead = 5 // due operations on the first page from which one list is cheaper than gets
	getsAtOnce  = 4 // of one company
	giveUp      = 3 // failures that may be the server's, after which a company waits for the next tick
	trackSlack  = 5 * time.Second
)

// Track asks for unfinished and disputed operations that are due, the youngest
// first, and last those whose last get has failed.
func (p *Poller) Track(ctx context.Context) (Result, error) {
	return p.trackWhere(ctx, func(string) bool { return true })
}

func (p *Poller) trackWhere(ctx context.Context, wanted func(companyID string) bool) (Result, error) {
	companies, err := p.present(ctx)
	if err != nil {
		return Result{}, err
	}
	companies = slices.DeleteFunc(companies, func(c push.Company) bool { return !wanted(c.ID) })
	if len(companies) == 0 {
		return Result{}, nil
	}
	now := p.config.Now()
	// What the last tick asked for was seen a little after it, and so a little less
	// than a period ago: without the slack it would be asked at every other tick.
	period := p.plan.Load().Track.Period(now)
	due, err := p.config.Recorder.Due(ctx, companies, now, period-min(period/10, trackSlack))
	if err != nil {
		return Result{}, err
	}
	due = p.unshown.sort(due, companies, now, period)
	byID := make(map[string]push.Company, len(companies))
	for _, c := range companies {
		byID[c.ID] = c
	}
	asked := map[string][]push.Due{}
	var order []push.Company // by their youngest
	for _, d := range due {
		if _, ok := asked[d.CompanyID]; !ok {
			order = append(order, byID[d.CompanyID])
		}
		asked[d.CompanyID] = append(asked[d.CompanyID], d)
	}
	return p.each(ctx, track, order, func(ctx context.Context, c push.Company) (int, error) {
		return p.follow(ctx, c, asked[c.ID])
	})
}

// follow asks for the due operations of one company: those on its first page
// with one list where five or more are, every other with a get of its own.
func (p *Poller) follow(ctx context.Context, c push.Company, due []push.Due) (int, error) {
	onPage := 0
	for _, d := range due {
		if d.OnFirstPage && !d.Disputed {
			onPage++
		}
	}
	var f following
	shown := map[string]bool{}
	if onPage >= listInstead {
		events, seen, err := p.firstPage(ctx, c)
		if f.note(events, p.missing(ctx, c, err)); absent(err) {
			return events, f.err
		}
		shown = seen
	}
	slots := make(chan struct{}, getsAtOnce)
	var group sync.WaitGroup
	for _, d := range due {
		if shown[d.Key] && !d.Disputed {
			continue
		}
		slots <- struct{}{}
		if !f.goesOn() { // asked here, in their order: whoever has his turn before the last failure is asked
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			events, err := guarded(ctx, c, func(ctx context.Context, c push.Company) (int, error) {
				return p.getDue(ctx, c, d.Key)
			})
			p.unshown.note(c.ID, d.Key, p.config.Now(), err)
			if absent(err) || errors.Is(err, errSetAside) {
				err = nil // told by the quarantine, or gone at Codat: no failure of the run
			}
			f.note(events, err)
		})
	}
	group.Wait()
	return f.events, f.err
}

// getDue asks for one operation and records what it shows.
func (p *Poller) getDue(ctx context.Context, c push.Company, key string) (events int, err error) {
	page, err := p.config.Source.Get(ctx, c.ID, key, push.ForTrack)
	if err != nil {
		return 0, err
	}
	recorded, err := p.record(ctx, push.Record{Company: c, Page: page})
	if err == nil && len(page.Rows) == 0 {
		err = errSetAside
	}
	return recorded.Events, err
}

// following is what the requests for one company have brought so far.
type following struct {
	mu       sync.Mutex // guards all below
	events   int
	failures int
	over     bool  // the rest would fail too
	err      error // the first
}

func (f *following) goesOn() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.over
}

// note takes in what a request has brought. A failure over one operation keeps no
// other from being asked, one that may be the server's does after some.
func (f *following) note(events int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events += events
	if err == nil {
		return
	}
	if f.err == nil {
		f.err = err
	}
	switch blame(err) {
	case everybody:
		f.over = true
	case server:
		f.failures++
		f.over = f.over || f.failures == giveUp
	}
}

// firstPage lists a company's first page and returns the keys that it showed
// with one status.
func (p *Poller) firstPage(ctx context.Context, c push.Company) (events int, shown map[string]bool, err error) {
	shown = map[string]bool{}
	ask := push.ListWalk{CompanyID: c.ID, Purpose: push.ForTrack, FirstPage: 1, PageSize: p.plan.Load().PageSize}
	for page, err := range p.config.Source.Walk(ctx, ask) {
		if err != nil {
			return 0, shown, err
		}
		page.Rows, _ = page.Distinct()
		recorded, err := p.record(ctx, push.Record{Company: c, Page: page})
		if err != nil {
			return 0, shown, err
		}
		for _, row := range page.Rows {
			shown[row.Key] = true
		}
		return recorded.Events + p.settle(ctx, c, recorded.Disputed, push.ForTrack), shown, nil
	}
	return 0, shown, nil
}
