package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const daysAhead = 3

// RollSent makes the day partitions of sent events that are needed soon, and those of
// events that were published without one, and drops those that lie wholly before
// horizon, unless fewer than 10,000 newer events would be left. It may run at any time
// and in several processes. What an error leaves undone, such as behind a dump that
// holds the table, harms nothing until it is run again.
func (s *Store) RollSent(ctx context.Context, horizon time.Duration) error {
	today := s.Now().Truncate(24 * time.Hour)
	var errs []error
	for ahead := range daysAhead {
		errs = append(errs, s.addSentDay(ctx, today.AddDate(0, 0, ahead)))
	}
	return errors.Join(append(errs, s.dropSentDays(ctx, today.Add(-horizon)))...)
}

func partitionOf(day time.Time) string { return "sent_" + day.Format("20060102") }

func (s *Store) addSentDay(ctx context.Context, day time.Time) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	var there bool
	name := partitionOf(day)
	err := s.pool.QueryRow(ctx, `select pg_catalog.to_regclass('pushwatch.' || $1::text) is not null`, name).Scan(&there)
	if err != nil || there {
		return err
	}
	_, err = s.pool.Exec(ctx, `select pushwatch.add_sent_day($1::date)`, day.Format(time.DateOnly))
	if err != nil {
		return fmt.Errorf("add partition %s: %w", name, err)
	}
	return nil
}

func (s *Store) dropSentDays(ctx context.Context, before time.Time) error {
	const q = `
select c.relname from pg_catalog.pg_inherits i
join pg_catalog.pg_class c on c.oid = i.inhrelid
where i.inhparent = 'pushwatch.sent'::pg_catalog.regclass and c.relname <> 'sent_default'`
	listing, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(listing, q)
	if err != nil {
		return fmt.Errorf("list partitions of sent: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list partitions of sent: %w", err)
	}
	for _, name := range names {
		day, err := time.Parse("sent_20060102", name)
		if err != nil || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if err := s.dropSentDay(ctx, day); err != nil {
			return fmt.Errorf("drop partition %s: %w", name, err)
		}
	}
	return nil
}

func (s *Store) dropSentDay(ctx context.Context, day time.Time) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	_, err := s.pool.Exec(ctx, `select pushwatch.drop_sent_day($1::date)`, day.Format(time.DateOnly))
	return err
}
