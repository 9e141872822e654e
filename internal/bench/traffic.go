package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

const (
	trafficPage  = 2000
	mostWaiting  = 20_000 // events in the outbox before the next page has to wait
	trafficLook  = 5 * time.Second
	oldPartition = 14 // days: older than the horizon
)

// shape is how large the tables of published and of waiting events are.
type shape struct {
	outbox, sent int64 // bytes, with indexes
	dead         int64 // rows of the outbox that vacuum has not removed
}

// sustain makes events as fast as they are published, for minutes: each operation is
// new and finished two pages later. The outbox must stay as small as it was soon after
// the beginning, and the days of published events come and go.
func sustain(ctx context.Context, c *crowd) (_ []finding, err error) {
	conn, err := c.connect(ctx, c.large.database())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := c.large.drain(ctx, c.looked); err != nil { // what comparePages made
		return nil, err
	}
	if _, err := conn.Exec(ctx, `select pg_catalog.pg_stat_reset()`); err != nil { // for findScans
		return nil, err
	}
	if err := c.agePartition(ctx, conn); err != nil {
		return nil, err
	}
	relaying := begin(ctx, c.large.relay.Run)
	looking, looks := context.WithCancel(ctx)
	defer looks()
	var shapes []shape
	watching := begin(looking, func(ctx context.Context) (err error) {
		shapes, err = watchShape(ctx, conn)
		return err
	})
	began := c.now()
	made, err := c.makeTraffic(ctx)
	took := c.now().Sub(began)
	if err := errors.Join(err, watching.stop(), relaying.stop()); err != nil {
		return nil, err
	}
	if err := c.large.store.RollSent(ctx, horizon); err != nil {
		return nil, err
	}
	c.made = c.looked + made
	var days, old int
	const q = `
select count(*), count(*) filter (where inhrelid = to_regclass($1::text)) from pg_catalog.pg_inherits where inhparent = 'pushwatch.sent'::regclass`
	if err := conn.QueryRow(ctx, q, "pushwatch.sent_"+c.oldDay().Format("20060102")).Scan(&days, &old); err != nil {
		return nil, err
	}
	early, late := mostOf(shapes[:(len(shapes)+1)/2]), mostOf(shapes[len(shapes)/2:])
	last := shapes[len(shapes)-1]
	return []finding{
		{Name: "traffic", Title: "events made, published and recorded", Value: float64(made), Note: fmt.Sprintf("in %s", took.Round(time.Second))},
		{Name: "traffic-rate", Title: "the same", Value: rateOf(made, took), Unit: eventRate},
		{Name: "outbox", Title: "largest outbox, with indexes", Value: mebibytes(uint64(max(early.outbox, late.outbox))), Unit: mebibyte,
			Note: fmt.Sprintf("at most %s rows waited", number(mostWaiting+trafficPage))},
		finding{Name: "outbox-growth", Title: "largest outbox of the second half, to that of the first", Value: float64(late.outbox) / float64(early.outbox)}.atMost(1.25),
		{Name: "dead", Title: "most rows of the outbox that waited for vacuum", Value: float64(max(early.dead, late.dead))},
		{Name: "sent", Title: "a published event, kept for healing", Value: float64(last.sent) / float64(c.made), Unit: "bytes"},
		{Name: "days", Title: "partitions of published events", Value: float64(days)},
		finding{Name: "old-days", Title: "of them, one of " + number(oldPartition) + " days ago, behind ten thousand events or more", Value: float64(old)}.atMost(0),
	}, nil
}

// agePartition makes a day of published events that has reached the horizon.
func (c *crowd) agePartition(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `select pushwatch.add_sent_day($1::date)`, c.oldDay().Format(time.DateOnly))
	return err
}

func (c *crowd) oldDay() time.Time { return c.large.store.Now().AddDate(0, 0, -oldPartition) }

// makeTraffic records pages until the time is over, never more than the outbox should
// hold, and until all of its events are published. It returns how many those are.
func (c *crowd) makeTraffic(ctx context.Context) (made int, err error) {
	h := history{salt: "traffic", newest: c.large.store.Now()}
	before, err := c.large.published()
	if err != nil {
		return 0, err
	}
	end := c.now().Add(c.traffic)
	for page := 0; c.now().Before(end); page++ {
		var operations []push.Operation
		for i := range trafficPage {
			operations = append(operations, h.operation(page*trafficPage+i, true))
			if page > 1 {
				operations = append(operations, h.operation((page-2)*trafficPage+i, false))
			}
		}
		events, err := c.large.sweep(ctx, push.RowsOf(operations...), len(operations))
		if err != nil {
			return made, err
		}
		made += events
		if err := c.large.until(ctx, before+made-mostWaiting); err != nil {
			return made, err
		}
	}
	return made, c.large.until(ctx, before+made)
}

// watchShape looks at the tables now and then until ctx ends, and once more.
func watchShape(ctx context.Context, conn *pgx.Conn) (shapes []shape, err error) {
	const q = `
select pg_catalog.pg_total_relation_size('pushwatch.outbox'),
       (select sum(pg_catalog.pg_total_relation_size(inhrelid)) from pg_catalog.pg_inherits where inhparent = 'pushwatch.sent'::regclass),
       coalesce((select n_dead_tup from pg_catalog.pg_stat_user_tables where relid = 'pushwatch.outbox'::regclass), 0)`
	ticker := time.NewTicker(trafficLook)
	defer ticker.Stop()
	for over := false; ; {
		var s shape
		if err := conn.QueryRow(context.WithoutCancel(ctx), q).Scan(&s.outbox, &s.sent, &s.dead); err != nil {
			return shapes, err
		}
		shapes = append(shapes, s)
		if over {
			return shapes, nil
		}
		select {
		case <-ctx.Done():
			over = true
		case <-ticker.C:
		}
	}
}

func mostOf(shapes []shape) (most shape) {
	for _, s := range shapes {
		most.outbox, most.dead = max(most.outbox, s.outbox), max(most.dead, s.dead)
	}
	return most
}
