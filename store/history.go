package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// Stored is one operation as last seen.
type Stored struct {
	CompanyID string
	Key       string
	Status    push.Status
}

// EachOperation calls fn with every stored operation, in no particular order,
// until fn returns an error.
func (s *Store) EachOperation(ctx context.Context, fn func(Stored) error) error {
	const q = `select company_id, push_operation_key, status from pushwatch.operation`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return fmt.Errorf("read operations: %w", err)
	}
	var o Stored
	_, err = pgx.ForEachRow(rows, []any{&o.CompanyID, &o.Key, &o.Status}, func() error { return fn(o) })
	return err
}

// Transition is one stored change, as far as an audit needs it.
type Transition struct {
	CompanyID string
	Key       string
	Version   int64
	EventID   string

	PublishedAt time.Time // zero: not recorded as published
	SetAside    bool      // its event can never be published as it is
}

// EachTransition calls fn with every transition, in no particular order, until fn
// returns an error.
func (s *Store) EachTransition(ctx context.Context, fn func(Transition) error) error {
	const q = `
select t.company_id, t.push_operation_key, t.version, t.event_id, p.published_at, o.rejected_class is not null
from pushwatch.transition t
left join pushwatch.publication p using (company_id, push_operation_key, version)
left join pushwatch.outbox o using (company_id, push_operation_key, version)`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return fmt.Errorf("read transitions: %w", err)
	}
	var t Transition
	var published *time.Time
	_, err = pgx.ForEachRow(rows, []any{&t.CompanyID, &t.Key, &t.Version, &t.EventID, &published, &t.SetAside}, func() error {
		t.PublishedAt = timeOf(published)
		return fn(t)
	})
	return err
}

// Backlog counts the events that wait to be published, and how many are set aside.
func (s *Store) Backlog(ctx context.Context) (waiting, rejected int64, err error) {
	const q = `
select count(*) filter (where rejected_class is null), count(*) filter (where rejected_class is not null)
from pushwatch.outbox`
	if err := s.pool.QueryRow(ctx, q).Scan(&waiting, &rejected); err != nil {
		return 0, 0, fmt.Errorf("count the outbox: %w", err)
	}
	return waiting, rejected, nil
}

// OldestPending returns how long the oldest event that may be published has waited;
// 0 when none does. It looks at the oldest of each bucket, which lies near the beginning
// of an outbox that is long.
func (s *Store) OldestPending(ctx context.Context) (time.Duration, error) {
	const q = `
select greatest(coalesce(pg_catalog.clock_timestamp() - min(o.created_at), '0'), '0')
from generate_series(0, 63) as b(bucket)
cross join lateral (
    select o.created_at from pushwatch.outbox o
    where o.bucket = b.bucket and o.rejected_class is null
      and not exists (select from pushwatch.outbox e where e.company_id = o.company_id
                        and e.push_operation_key = o.push_operation_key and e.version < o.version
                        and e.rejected_class is not null)
    order by o.id limit 1
) as o`
	var age time.Duration
	if err := s.pool.QueryRow(ctx, q).Scan(&age); err != nil {
		return 0, fmt.Errorf("look for the oldest event that waits: %w", err)
	}
	return age, nil
}

// Counts is how much there is of everything.
type Counts struct {
	Operations, Transitions, Published, Waiting int64
}

// Counts counts operations, transitions, published events and waiting ones. It
// reads whole tables: for a demo, not for a dashboard.
func (s *Store) Counts(ctx context.Context) (Counts, error) {
	const q = `
select (select count(*) from pushwatch.operation), (select count(*) from pushwatch.transition),
       (select count(*) from pushwatch.publication), (select count(*) from pushwatch.outbox)`
	var c Counts
	if err := s.pool.QueryRow(ctx, q).Scan(&c.Operations, &c.Transitions, &c.Published, &c.Waiting); err != nil {
		return Counts{}, fmt.Errorf("count: %w", err)
	}
	return c, nil
}
