package poller

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// Discover lists every assigned company once, and goes on with baselines and
// sweeps that were interrupted.
func (p *Poller) Discover(ctx context.Context) (Result, error) {
	return p.discoverWhere(ctx, func(push.Company, time.Time) bool { return true })
}

// discoverMissed lists the companies whose discover tick was missed, or never ran.
func (p *Poller) discoverMissed(ctx context.Context) (Result, error) {
	return p.discoverWhere(ctx, func(c push.Company, now time.Time) bool {
		return c.DiscoveredAt.IsZero() || p.plan.Load().Discover.Missed(c.DiscoveredAt, now)
	})
}

func (p *Poller) discoverWhere(ctx context.Context, due func(push.Company, time.Time) bool) (Result, error) {
	companies, err := p.present(ctx)
	if err != nil {
		return Result{}, err
	}
	now := p.config.Now()
	var known, unfinished []push.Company
	for _, c := range companies {
		// Before the first answer is kept a discover would find nothing known, and read
		// the whole history beside the baseline, which brings the newest first anyway.
		if c.Answered && due(c, now) {
			known = append(known, c)
		}
		if !c.Baselined || c.SweepOpen {
			unfinished = append(unfinished, c)
		}
	}
	// Side by side: a slow list of one company must not hold up the history of another.
	var histories Result
	var err2 error
	var group sync.WaitGroup
	group.Go(func() {
		histories, err2 = p.each(ctx, whole, unfinished, func(ctx context.Context, c push.Company) (int, error) {
			if !c.Baselined {
				return p.walk(ctx, c, push.WalkBaseline)
			}
			return p.walk(ctx, c, push.WalkSweep)
		})
	})
	result, err := p.each(ctx, discover, known, func(ctx context.Context, c push.Company) (int, error) {
		return p.walk(ctx, c, push.WalkDiscover)
	})
	group.Wait()
	result.Companies += histories.Companies
	result.Skipped += histories.Skipped
	result.Events += histories.Events
	result.Errors += histories.Errors
	return result, errors.Join(err, err2)
}

// Sweep walks the whole history of every assigned company.
func (p *Poller) Sweep(ctx context.Context) (Result, error) {
	return p.sweepWhere(ctx, func(push.Company, time.Time) bool { return true })
}

// sweepMissed sweeps the companies whose last sweep tick was missed. The baseline
// counts as a sweep: it walks the whole history too.
func (p *Poller) sweepMissed(ctx context.Context) (Result, error) {
	return p.sweepWhere(ctx, func(c push.Company, now time.Time) bool {
		last := c.FirstLookAt // of a baseline that an older release began
		if c.SweepTickedAt.After(last) {
			last = c.SweepTickedAt
		}
		return p.plan.Load().Sweep.Missed(last, now)
	})
}

func (p *Poller) sweepWhere(ctx context.Context, due func(push.Company, time.Time) bool) (Result, error) {
	companies, err := p.present(ctx)
	if err != nil {
		return Result{}, err
	}
	now := p.config.Now()
	var ready []push.Company
	for _, c := range companies {
		if c.Baselined && due(c, now) {
			ready = append(ready, c)
		}
	}
	return p.each(ctx, whole, ready, func(ctx context.Context, c push.Company) (int, error) {
		return p.walk(ctx, c, push.WalkSweep)
	})
}

// present returns the assigned companies that Codat is not known to have lost.
func (p *Poller) present(ctx context.Context) ([]push.Company, error) {
	companies, err := p.config.Assignments.Companies(ctx)
	if err != nil {
		return nil, err
	}
	now := p.config.Now()
	var present []push.Company
	for _, c := range companies {
		if !now.Before(c.AbsentUntil) {
			present = append(present, c)
		}
	}
	return present, nil
}

// walk lists a company until its walk ends and returns how many events were
// committed. If we crash between two pages, what was recorded stays, and the walk
// stays unfinished.
func (p *Poller) walk(ctx context.Context, c push.Company, kind push.WalkKind) (events int, err error) {
	w := &walking{poller: p, company: c}
	w.walk, err = p.config.Recorder.OpenWalk(ctx, c, kind, p.config.Now())
	if err != nil {
		return 0, err
	}
	ask := push.ListWalk{CompanyID: c.ID, FirstPage: w.walk.FirstPage, PageSize: p.plan.Load().PageSize}
	switch kind {
	case push.WalkDiscover:
		ask.Purpose = push.ForDiscover
	case push.WalkBaseline:
		ask.Purpose, ask.PageSize = push.ForBaseline, largestPage
	case push.WalkSweep:
		ask.Purpose, ask.PageSize = push.ForSweep, largestPage
	}
	if kind != push.WalkDiscover && w.walk.PageSize > 0 {
		ask.PageSize = w.walk.PageSize // page numbers count in pages of this size
		ask.GrowTo = largestPage       // it may have been interrupted where a bad record made pages small
	}
	w.purpose = ask.Purpose
	pages := p.ahead
	if kind == push.WalkDiscover { // which mostly ends with its first page
		pages = p.config.Source.Walk
	}
	for page, err := range pages(ctx, ask) {
		if err != nil {
			return w.events, p.missing(ctx, c, err)
		}
		finished, err := w.keep(ctx, page)
		if err != nil {
			return w.events, err
		}
		if finished {
			p.seen(c.ID, w.walk.StartedAt)
			return w.events, nil
		}
	}
	return w.events, fmt.Errorf("%s walk of company %s: ended unfinished, to be read again", kind, c.ID)
}

// missing turns a 404 on the list into an hour's absence of the company.
func (p *Poller) missing(ctx context.Context, c push.Company, err error) error {
	var ask *push.AskError
	if !errors.As(err, &ask) || ask.Kind != push.KindNotFound || ask.Ask.Request != push.ListOperations {
		return err
	}
	return errors.Join(err, p.config.Assignments.MarkAbsent(ctx, c, p.config.Now().Add(absence)))
}

func (p *Poller) seen(companyID string, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at.After(p.looked[companyID]) {
		p.looked[companyID] = at
	}
}

// walking is the state of one walk between its pages.
type walking struct {
	poller  *Poller
	company push.Company
	walk    push.Walk
	purpose push.Purpose
	events  int
	pages   int
	overlap bool // the page before this one ended the walk but for one page of overlap
	open    bool // a contradiction was left undecided: the walk must not finish
}

// keep records a page and reports whether it ended the walk.
//
// The end is on the first page, in verified order, on which every record is known
// and whose oldest row lies below the floor; after more than one page, one page
// later. A page with a contradiction never ends a walk by being known, and a
// contradiction that nobody could decide keeps the walk from finishing at all, so
// that the next one reads it again.
func (w *walking) keep(ctx context.Context, page push.Page) (finished bool, err error) {
	rows, contradicted := page.Distinct()
	page.Rows = rows
	if err := w.decide(ctx, contradicted); err != nil {
		return false, err
	}
	w.pages++
	mayEnd := len(contradicted) == 0 && w.walk.MayEndAt(page)
	finish := push.GoOn
	switch {
	case w.open:
	case page.Last, w.overlap && len(contradicted) == 0:
		finish = push.Done
	case mayEnd && w.pages == 1:
		finish = push.IfKnown
	}
	recorded, err := w.poller.record(ctx, push.Record{Company: w.company, Page: page, Walk: &w.walk, Finish: finish})
	if err != nil {
		return false, err
	}
	w.events += recorded.Events
	w.events += w.poller.settle(ctx, w.company, recorded.Disputed, w.purpose)
	w.overlap = mayEnd && recorded.Known
	return recorded.Finished, nil
}

// decide asks for the operations that a page showed with two statuses.
func (w *walking) decide(ctx context.Context, keys []string) error {
	for _, key := range keys {
		recorded, err := w.poller.get(ctx, w.company, key, w.purpose)
		w.events += recorded.Events
		var ask *push.AskError
		switch {
		case err == nil:
		case errors.As(err, &ask) && ask.Kind == push.KindNotFound:
			if err := w.setAside(ctx, key); err != nil {
				return err
			}
		case errors.As(err, &ask):
			w.open = true
		default:
			return err
		}
	}
	return nil
}

// setAside quarantines an operation that the list shows twice, with two statuses,
// and that get_operation does not know.
func (w *walking) setAside(ctx context.Context, key string) error {
	hash := sha256.Sum256([]byte(w.company.ID + "\x00" + key))
	now := w.poller.config.Now()
	_, err := w.poller.record(ctx, push.Record{Company: w.company, Page: push.Page{
		Look: push.Look{Source: push.FromGet, StartedAt: now, FinishedAt: now}, Number: 1,
		Quarantined: []push.Quarantined{{CompanyID: w.company.ID, Key: key, Class: "contradicted_gone", Hash: hash[:],
			Detail: "status: the list shows two, and get_operation knows no such operation"}},
	}})
	return err
}

// record keeps a look and wakes whoever waits for events.
func (p *Poller) record(ctx context.Context, r push.Record) (push.Recorded, error) {
	p.compareClocks(r.Page.ServerAhead)
	recorded, err := p.keep(ctx, r)
	if err != nil {
		return recorded, err
	}
	p.config.Metrics.committed.Add(float64(recorded.Events))
	p.config.Metrics.changes(recorded.Edges, r.Page.FinishedAt)
	p.config.Metrics.page(r.Page)
	p.config.Metrics.flagged(recorded.Flags)
	if recorded.Events > 0 {
		p.config.OnEvents()
	}
	return recorded, nil
}

const (
	tolerance = 2 * time.Second // how far Codat's clock may be from ours before it is told
	skewEvery = time.Hour       // how often that is told
)

// compareClocks tells, seldom, that Codat's clock and ours differ for certain.
// Nothing breaks by it; but one of the two is wrong, and people compare times. That
// they agree is never certain: a slow answer proves little.
func (p *Poller) compareClocks(ahead time.Duration) {
	if ahead.Abs() <= tolerance {
		return
	}
	now := p.config.Now()
	p.mu.Lock()
	news := p.skewed.IsZero() || now.Sub(p.skewed) >= skewEvery
	if news {
		p.skewed = now
	}
	p.mu.Unlock()
	if news {
		p.config.Logger.Warn("Codat's clock and ours differ", "codat_ahead", ahead)
	}
}

// get asks for one operation and records what it shows.
func (p *Poller) get(ctx context.Context, c push.Company, key string, purpose push.Purpose) (push.Recorded, error) {
	page, err := p.config.Source.Get(ctx, c.ID, key, purpose)
	if err != nil {
		return push.Recorded{}, err
	}
	return p.record(ctx, push.Record{Company: c, Page: page})
}

// settle asks for disputed operations in the same run. One that cannot be asked
// stays disputed for the track ticks: it never holds up the page.
func (p *Poller) settle(ctx context.Context, c push.Company, keys []string, purpose push.Purpose) (events int) {
	for _, key := range keys {
		recorded, err := p.get(ctx, c, key, purpose)
		if err != nil {
			p.config.Logger.Debug("dispute left open", "company", c.ID, "error", err)
			continue
		}
		events += recorded.Events
	}
	return events
}
