package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Retention says how long is kept what pushwatch need not keep for ever; 0 is for
// ever.
type Retention struct {
	// Payloads is how long the bodies of quarantined records are kept after they
	// were last seen. Class, detail and hash stay.
	Payloads time.Duration
	// Quarantine is how long quarantined records are kept after they were last
	// seen, dropped ones too. Rejected events are never forgotten: they wait.
	Quarantine time.Duration
	// History is how long a finished operation is kept after its last change, with
	// its transitions and publications.
	History time.Duration
	// Horizon is the audit's: nothing younger is removed whatever History says.
	Horizon time.Duration
}

// Retained counts what one round removed.
type Retained struct {
	Payloads, Records, Operations int64
}

// retainBatch is how many rows one transaction of a round touches: few enough for
// a look that wants one of them to wait milliseconds.
const retainBatch = 500

// Retain removes what has reached its age, in small transactions, until nothing is
// left to remove or ctx ends. It may run at any time and in several processes at
// once: each passes over rows that another one holds.
//
// If we crash between two transactions, the next round goes on; each leaves
// nothing half removed.
func (s *Store) Retain(ctx context.Context, r Retention) (Retained, error) {
	var done Retained
	var errs []error
	for _, step := range []struct {
		name  string
		age   time.Duration
		count *int64
		query string
		args  []any
	}{
		{"bodies of quarantined records", r.Payloads, &done.Payloads, stripRecords, nil},
		{"quarantined records", r.Quarantine, &done.Records, deleteRecords, nil},
		{"finished operations", r.History, &done.Operations, pruneOperations, []any{r.Horizon}},
	} {
		if step.age <= 0 {
			continue
		}
		n, err := s.inBatches(ctx, step.query, append([]any{step.age, retainBatch}, step.args...)...)
		*step.count = n
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s: %w", step.name, err))
		}
	}
	n, err := s.inBatches(ctx, deleteUnseen, retainBatch)
	done.Records += n
	if err != nil {
		errs = append(errs, fmt.Errorf("remove records that were not seen again: %w", err))
	}
	return done, errors.Join(errs...)
}

// inBatches runs a statement that counts what it did until that is nothing.
func (s *Store) inBatches(ctx context.Context, query string, args ...any) (total int64, err error) {
	for ctx.Err() == nil {
		var n int64
		err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error { return tx.QueryRow(ctx, query, args...).Scan(&n) })
		total += n
		if err != nil || n == 0 {
			return total, err
		}
	}
	return total, ctx.Err()
}

// Rows are locked for removal, in id order, and passed over where a replica that
// removes too, or a look that sees the record again, holds them.
const stripRecords = `
with old as (
    select id from pushwatch.quarantine
    where last_seen_at < pg_catalog.now() - $1::interval and body <> ''
    order by id
    limit $2::integer
    for no key update skip locked
), stripped as (
    update pushwatch.quarantine q set body = '' from old where q.id = old.id returning 1
)
select count(*) from stripped`

// Locked and passed over as in stripRecords.
const deleteRecords = `
with old as (
    select id from pushwatch.quarantine
    where last_seen_at < pg_catalog.now() - $1::interval
    order by id
    limit $2::integer
    for update skip locked
), gone as (
    delete from pushwatch.quarantine q using old where q.id = old.id returning 1
)
select count(*) from gone`

// A record that was to be seen again, and that a whole sweep begun since then has
// not shown, reads well now or is not listed any more. Locked and passed over as
// in stripRecords.
const deleteUnseen = `
with unseen as (
    select q.id from pushwatch.quarantine q
    where q.retried_at is not null
      and exists (select from pushwatch.walk w where w.company_id = q.company_id and w.kind = 'sweep'
                    and w.started_at >= q.retried_at and w.finished_at is not null)
    order by q.id
    limit $1::integer
    for update skip locked
), gone as (
    delete from pushwatch.quarantine q using unseen u where q.id = u.id returning 1
)
select count(*) from gone`

// An operation is pruned when it is finished, undisputed, unchanged for $1, and
// each of its events was published, or dropped, before the audit's horizon: so
// none waits in the outbox, and none is wanted any more to heal the stream. Its
// row stays, without its texts, as the tombstone that tells the next walk: known,
// with that fingerprint, status and number of versions. A change after all is the
// next version, behind what the stream has.
//
// The row is locked, because a look decides by it; one that a look holds is passed
// over. A look that commits between our snapshot and our lock has moved
// last_changed_at or raised a dispute, which is checked again under the lock.
const pruneOperations = `
with finished as (
    select o.company_id, o.push_operation_key
    from pushwatch.operation o
    where o.is_terminal and o.disputed_status is null and o.pruned_at is null
      and o.last_changed_at < pg_catalog.now() - greatest($1::interval, $3::interval)
      and not exists (
          select from pushwatch.transition t
          left join pushwatch.publication p on p.company_id = t.company_id
               and p.push_operation_key = t.push_operation_key and p.version = t.version
          left join pushwatch.dropped_event d on d.company_id = t.company_id
               and d.push_operation_key = t.push_operation_key and d.version = t.version
          where t.company_id = o.company_id and t.push_operation_key = o.push_operation_key
            and coalesce(p.published_at, d.dropped_at, 'infinity') >= pg_catalog.now() - $3::interval)
      and not exists (select from pushwatch.outbox w where w.company_id = o.company_id
                        and w.push_operation_key = o.push_operation_key)
    order by o.last_changed_at
    limit $2::integer
    for update of o skip locked
), transitions as (
    delete from pushwatch.transition t using finished f
    where t.company_id = f.company_id and t.push_operation_key = f.push_operation_key
), publications as (
    delete from pushwatch.publication p using finished f
    where p.company_id = f.company_id and p.push_operation_key = f.push_operation_key
), dropped as (
    delete from pushwatch.dropped_event d using finished f
    where d.company_id = f.company_id and d.push_operation_key = f.push_operation_key
), sent as ( -- kept beyond the horizon for being among the newest; it must not bring the events back
    delete from pushwatch.sent s using finished f
    join pushwatch.publication p on p.company_id = f.company_id and p.push_operation_key = f.push_operation_key
    where s.published_at = p.published_at and s.stream_sequence = p.stream_sequence
      and s.company_id = p.company_id and s.push_operation_key = p.push_operation_key and s.version = p.version
), pruned as (
    update pushwatch.operation o
    set pruned_at = pg_catalog.now(), pruned_versions = o.versions, error_message = null, validation = null,
        changes = null, flags = '{}'
    from finished f
    where o.company_id = f.company_id and o.push_operation_key = f.push_operation_key
    returning 1
)
select count(*) from pruned`

// Pruned is an operation whose history was removed: an audit that finds events of
// these versions in the stream knows them.
type Pruned struct {
	CompanyID string
	Key       string
	Versions  int64 // from 1 to this one
}

// EachPruned calls fn with every operation whose versions were pruned, until fn
// returns an error.
func (s *Store) EachPruned(ctx context.Context, fn func(Pruned) error) error {
	const q = `
select company_id, push_operation_key, pruned_versions from pushwatch.operation where pruned_versions > 0`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return fmt.Errorf("read pruned operations: %w", err)
	}
	var p Pruned
	_, err = pgx.ForEachRow(rows, []any{&p.CompanyID, &p.Key, &p.Versions}, func() error { return fn(p) })
	return err
}

// EachDropped calls fn with every event that somebody dropped, until fn returns an
// error: the stream has gaps there that an audit knows.
func (s *Store) EachDropped(ctx context.Context, fn func(Transition) error) error {
	const q = `select company_id, push_operation_key, version, event_id from pushwatch.dropped_event`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return fmt.Errorf("read dropped events: %w", err)
	}
	var t Transition
	_, err = pgx.ForEachRow(rows, []any{&t.CompanyID, &t.Key, &t.Version, &t.EventID}, func() error { return fn(t) })
	return err
}
