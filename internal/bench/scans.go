package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// scanRows may be read in a row: of a smaller table that is as good as any plan, and
// before a day of published events is dropped the ten thousand newest are counted.
const scanRows = 10_000

// findScans asks PostgreSQL which tables were read from their beginning to their end
// while the traffic ran, and while everything was done that a daemon does beside it: so
// no statement can be forgotten.
func findScans(ctx context.Context, c *crowd) (_ []finding, err error) {
	if err := c.housekeeping(ctx); err != nil {
		return nil, err
	}
	conn, err := c.connect(ctx, c.large.database())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	// A session counts for others within a second, or when it is asked to.
	if _, err := conn.Exec(ctx, `select pg_catalog.pg_sleep(2)`); err != nil {
		return nil, err
	}
	const q = `
select s.relname, s.seq_scan, s.seq_tup_read / s.seq_scan
from pg_catalog.pg_stat_user_tables s
where s.schemaname = 'pushwatch' and s.seq_scan > 0 and s.seq_tup_read / s.seq_scan > $1::bigint
order by s.relname`
	rows, err := conn.Query(ctx, q, scanRows)
	if err != nil {
		return nil, err
	}
	var names []string
	var name string
	var scans, tuples int64
	_, err = pgx.ForEachRow(rows, []any{&name, &scans, &tuples}, func() error {
		names = append(names, fmt.Sprintf("%s: %d times, %d rows each", name, scans, tuples))
		return nil
	})
	if err := errors.Join(err, c.countMade(ctx, conn)); err != nil { // which reads tables to their end
		return nil, err
	}
	return []finding{finding{Name: "scans", Title: "tables of which more than " + number(scanRows) + " rows were read in a row, on average",
		Value: float64(len(names)), Note: strings.Join(names, "; ")}.atMost(0)}, nil
}

// countMade fails unless all events are in the stream, and kept, and none waits.
func (c *crowd) countMade(ctx context.Context, conn *pgx.Conn) error {
	var kept, waiting int
	const q = `select (select count(*) from pushwatch.sent), (select count(*) from pushwatch.outbox)`
	if err := conn.QueryRow(ctx, q).Scan(&kept, &waiting); err != nil {
		return err
	}
	is, err := c.large.stream.Identify(ctx)
	if err == nil && (kept != c.made || waiting != 0 || is.State.Msgs != uint64(c.made)) {
		err = fmt.Errorf("%d events were made: %d are kept, %d wait, %d are in the stream", c.made, kept, waiting, is.State.Msgs)
	}
	return err
}

// housekeeping is what a daemon does beside looks and relay.
func (c *crowd) housekeeping(ctx context.Context) error {
	w := c.large
	_, _, backlog := w.store.Backlog(ctx)
	_, companies := w.fleet.Companies(ctx)
	return errors.Join(backlog, companies, w.leases.Renew(ctx), w.store.RollSent(ctx, horizon))
}
