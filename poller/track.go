package poller

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pushwatch/pushwatch/push"
)

const (
	listInstead = 5 // due operations on the first page from which one list is cheaper than gets
	getsAtOnce  = 4 // of one company
	trackSlack  = 5 * time.Second
)

// Track asks for unfinished and disputed operations that are due, the youngest
// first.
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
	events := 0
	shown := map[string]bool{}
	if onPage >= listInstead {
		var err error
		if events, shown, err = p.firstPage(ctx, c); err != nil {
			return events, p.missing(ctx, c, err)
		}
	}
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(getsAtOnce)
	for _, d := range due {
		if shown[d.Key] && !d.Disputed {
			continue
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil // another get of the company has failed for all
			}
			n, err := guarded(ctx, c, func(ctx context.Context, c push.Company) (int, error) {
				recorded, err := p.get(ctx, c, d.Key, push.ForTrack)
				return recorded.Events, err
			})
			mu.Lock()
			events += n
			mu.Unlock()
			if ask := (*push.AskError)(nil); errors.As(err, &ask) && ask.Kind == push.KindNotFound {
				return nil // gone at Codat: asked again later, at most once an hour
			}
			return err
		})
	}
	return events, group.Wait()
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
		page.Operations, _ = page.Distinct()
		recorded, err := p.record(ctx, push.Record{Company: c, Page: page})
		if err != nil {
			return 0, shown, err
		}
		for _, op := range page.Operations {
			shown[op.Key] = true
		}
		return recorded.Events + p.settle(ctx, c, recorded.Disputed, push.ForTrack), shown, nil
	}
	return 0, shown, nil
}
