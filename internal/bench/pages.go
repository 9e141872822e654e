package main

import (
	"context"
	"errors"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

const pageRounds = 15 // walks of each table; a first one warms up

// comparePages records the pages of one company, all of whose operations are known,
// where there is nothing else and where there are millions of others, in turns.
func comparePages(ctx context.Context, c *crowd) (_ []finding, err error) {
	small, err := c.world(ctx, emptyDatabase, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.discard(ctx, small)) }()
	rows := push.RowsOf(history{salt: "known", size: c.looked, newest: c.large.store.Now()}.operations(true)...)
	for _, w := range []*world{small, c.large} {
		if _, err := w.sweep(ctx, rows, recordPage); err != nil {
			return nil, err
		}
		if err := c.analyze(ctx, w); err != nil {
			return nil, err
		}
	}
	ratios, pages := spread{}, spread{}
	for round := range pageRounds + 1 {
		took := [2]time.Duration{}
		for i, w := range []*world{small, c.large} {
			if took[i], err = c.knownWalk(ctx, w, rows); err != nil {
				return nil, err
			}
		}
		if round > 0 {
			ratios.Samples = append(ratios.Samples, took[1].Seconds()/took[0].Seconds())
			pages.Samples = append(pages.Samples, took[1].Seconds()*1000*float64(min(recordPage, c.looked))/float64(c.looked))
		}
	}
	ratios.summarise()
	pages.summarise()
	return []finding{
		finding{Name: "page", Title: "a page of known operations, to its cost in a table of " + number(float64(c.looked)), Value: ratios.Median,
			Note: "from " + number(ratios.Min) + " to " + number(ratios.Max)}.atMost(1.2),
		{Name: "page-ms", Title: "a page of " + number(float64(min(recordPage, c.looked))) + " known operations", Value: pages.Median, Unit: millisecond},
	}, nil
}

// knownWalk sweeps operations of which none has changed.
func (c *crowd) knownWalk(ctx context.Context, w *world, rows []push.Row) (time.Duration, error) {
	began := c.now()
	events, err := w.sweep(ctx, rows, recordPage)
	if err == nil && events > 0 {
		err = errors.New("a known operation made an event")
	}
	return c.now().Sub(began), err
}
