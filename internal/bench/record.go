package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/pushwatch/pushwatch/push"
)

const (
	recordPage = 2000 // operations of a page
	sameWalks  = 3    // of a company that has not changed: one is too short to measure
)

// measureRecord records one company's list three times, as a sweep's pages: when
// all of it is new, when a tenth has changed, and when nothing has.
func measureRecord(ctx context.Context, r *rig) (_ samples, err error) {
	w, err := r.world(ctx, emptyDatabase, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	h := history{salt: "record", size: r.events, newest: w.store.Now()}
	before, after := push.RowsOf(h.operations(false)...), push.RowsOf(h.operations(true)...)
	result := samples{}
	for _, step := range []struct {
		name   string
		rows   []push.Row
		walks  int
		events int
	}{
		{"record-new", before, 1, h.size},
		{"record-changed", after, 1, h.changed()},
		{"record-same", after, sameWalks, 0},
	} {
		events := 0
		took, err := r.timed(step.name, func() error {
			for range step.walks {
				n, err := w.sweep(ctx, step.rows, recordPage)
				events += n
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if events != step.events {
			return nil, fmt.Errorf("%s: %d events were recorded, should be %d", step.name, events, step.events)
		}
		result[step.name] = rateOf(step.walks*h.size, took)
		// As autovacuum does on its next round.
		if err := r.analyze(ctx, w); err != nil {
			return nil, err
		}
	}
	events := h.size + h.changed()
	return result, w.expect(ctx, counts{operations: h.size, transitions: events, waiting: events})
}

// sweep records a list as a sweep of it, and returns how many events that made.
func (w *world) sweep(ctx context.Context, rows []push.Row, size int) (events int, err error) {
	walk, err := w.store.OpenWalk(ctx, w.company, push.WalkSweep, w.store.Now())
	if err != nil {
		return 0, err
	}
	number, read := 0, 0
	for chunk := range slices.Chunk(rows, size) {
		number++
		read += len(chunk)
		now := w.store.Now()
		page := push.Page{Look: push.Look{Source: push.FromList, StartedAt: now, FinishedAt: now},
			Number: number, Size: size, Rows: chunk, Ordered: true, Last: read == len(rows)}
		finish := push.GoOn
		if page.Last {
			finish = push.Done
		}
		recorded, err := w.store.Record(ctx, push.Record{Company: w.company, Page: page, Walk: &walk, Finish: finish})
		if err != nil {
			return events, err
		}
		events += recorded.Events
	}
	return events, nil
}

// analyze gives the planner what autovacuum would give it within a minute.
func (r *rig) analyze(ctx context.Context, w *world) (err error) {
	conn, err := r.connect(ctx, w.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	_, err = conn.Exec(ctx, `analyze`)
	return err
}
