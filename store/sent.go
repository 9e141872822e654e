package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/event"
)

const keptColumns = `company_id, push_operation_key, bucket, version, event_id, filter, stream_sequence, published_at`

// young is the moment since when published events are within the age $2, by the
// database's clock; null is any age.
const young = `coalesce(pg_catalog.now() - $2::interval, '-infinity'::timestamptz)`

// Newest returns the max most recently published events whose bytes are kept, of
// buckets leased to this process, published within the age, 0 for any; newest first.
func (o *Outbox) Newest(ctx context.Context, within time.Duration, max int) ([]event.Kept, error) {
	const q = `
select ` + keptColumns + ` from pushwatch.sent
where bucket = any($1::smallint[]) and published_at >= ` + young + `
order by published_at desc, stream_sequence desc
limit $3::integer`
	return o.kept(ctx, q, within, max)
}

// After returns, oldest first, at most max such events behind last.
func (o *Outbox) After(ctx context.Context, last event.Kept, within time.Duration, max int) ([]event.Kept, error) {
	const q = `
select ` + keptColumns + ` from pushwatch.sent
where bucket = any($1::smallint[]) and published_at >= ` + young + `
  and (published_at, stream_sequence) > ($4::timestamptz, $5::bigint)
order by published_at, stream_sequence
limit $3::integer`
	return o.kept(ctx, q, within, max, last.PublishedAt, int64(last.Sequence))
}

func (o *Outbox) kept(ctx context.Context, q string, within time.Duration, max int, more ...any) ([]event.Kept, error) {
	owned, err := o.owned()
	if err != nil || len(owned) == 0 {
		return nil, err
	}
	rows, err := o.store.pool.Query(ctx, q, append([]any{owned, bound(within), max}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("read published events: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Kept, error) {
		var k event.Kept
		var sequence int64
		err := row.Scan(&k.CompanyID, &k.Key, &k.Bucket, &k.Version, &k.ID, &k.Filter, &sequence, &k.PublishedAt)
		k.Sequence, k.PublishedAt = uint64(sequence), k.PublishedAt.UTC()
		return k, err
	})
	if err != nil {
		return nil, fmt.Errorf("read published events: %w", err)
	}
	return all, nil
}

// Requeue makes published events pending again, with the same ids and bodies and marked
// by [event.HeaderReplayed], because the stream has lost them: of each operation those
// above what is left of it, and published within the age, 0 for any. Only those inside
// the audit horizon can come back; it returns how many did. Those of a bucket whose
// lease is not ours any more are left to its new holder, and make it [ErrFenced]: that
// nothing of an operation came back must not mean two things.
//
// If we crash before the commit, the next audit finds them lost again.
func (o *Outbox) Requeue(ctx context.Context, lost []event.Lost, within time.Duration) (int, error) {
	tokens := o.tokens()
	var companies, keys, leases []string
	var aboves, held []int64
	for _, l := range lost {
		lease := relayLease(l.Bucket)
		companies, keys, aboves = append(companies, l.CompanyID), append(keys, l.Key), append(aboves, l.Above)
		leases, held = append(leases, lease), append(held, tokens[lease]) // token 0 is nobody's
	}
	// The lease rows are read "for key share", in name order, as in Sent. Sent rows have
	// no index of their own by operation, which every event would pay for: the
	// publication tells where they are. The new outbox rows get their ids in the order in which the stream once had them.
	const q = `
with gone as (
    select company_id, push_operation_key, above, lease, token
    from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])
        as g(company_id, push_operation_key, above, lease, token)
), fenced as (
    select l.name, l.token from pushwatch.lease l
    where l.name = any($4::text[])
    order by l.name
    for key share
), lost as (
    delete from pushwatch.sent s using gone g
    join fenced f on f.name = g.lease and f.token = g.token
    join pushwatch.publication p on p.company_id = g.company_id and p.push_operation_key = g.push_operation_key and p.version > g.above
    where s.published_at = p.published_at and s.stream_sequence = p.stream_sequence
      and s.company_id = p.company_id and s.push_operation_key = p.push_operation_key and s.version = p.version
      and s.published_at >= coalesce(pg_catalog.now() - $6::interval, '-infinity'::timestamptz)
    returning s.published_at, s.stream_sequence, s.company_id, s.push_operation_key, s.version, s.bucket, s.event_id,
              s.previous_event_id, s.subject, s.filter, s.header, s.payload, s.created_at
), unpublished as (
    delete from pushwatch.publication u using lost l
    where u.company_id = l.company_id and u.push_operation_key = l.push_operation_key and u.version = l.version
), back as (
    insert into pushwatch.outbox (company_id, push_operation_key, version, bucket, event_id, previous_event_id, subject,
        filter, header, payload, created_at)
    select company_id, push_operation_key, version, bucket, event_id, previous_event_id, subject, filter,
        header || pg_catalog.jsonb_build_object($7::text, '1'), payload, created_at from lost
    order by published_at, stream_sequence
    on conflict (company_id, push_operation_key, version) do nothing
    returning version
)
select (select count(*) from back),
       (select count(*) from gone g where not exists (select from fenced f where f.name = g.lease and f.token = g.token))`
	var n, left int
	err := o.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, q, companies, keys, aboves, leases, held, bound(within), event.HeaderReplayed).Scan(&n, &left)
	})
	if err == nil && left > 0 {
		err = ErrFenced
	}
	if err != nil {
		return n, fmt.Errorf("requeue the lost events of %d operations: %w", len(lost), err)
	}
	return n, nil
}

// bound returns an age as SQL takes it: null for any.
func bound(within time.Duration) *time.Duration {
	if within <= 0 {
		return nil
	}
	return &within
}
