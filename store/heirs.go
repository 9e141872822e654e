package store

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/event"
)

// Heirs returns at most max operations, of buckets leased to this process, that
// have no version yet and were not compared with the stream: those that a silent
// baseline recorded. An earlier database may have published them.
func (o *Outbox) Heirs(ctx context.Context, max int) ([]event.Heir, error) {
	owned, err := o.owned()
	if err != nil || len(owned) == 0 {
		return nil, err
	}
	// The bucket as bucketOf computes it.
	const q = `
select company_id, push_operation_key, subject_data_type
from pushwatch.operation
where versions = 0 and not compared
  and pg_catalog.get_byte(pg_catalog.sha256(pg_catalog.convert_to(company_id, 'UTF8') || '\x00'::bytea
      || pg_catalog.convert_to(push_operation_key, 'UTF8')), 0) % 64 = any($1::smallint[])
order by company_id, push_operation_key
limit $2::integer`
	rows, err := o.store.pool.Query(ctx, q, owned, max)
	if err != nil {
		return nil, fmt.Errorf("read operations without a version: %w", err)
	}
	heirs, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Heir, error) {
		var h event.Heir
		var dataType string
		err := row.Scan(&h.CompanyID, &h.Key, &dataType)
		h.Bucket = bucketOf(h.CompanyID, h.Key)
		h.Filter = event.Subjects(o.store.config.SubjectPrefix, h.CompanyID, dataType, h.Key).Filter()
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read operations without a version: %w", err)
	}
	return heirs, nil
}

// Settle records that there was nothing in the stream for heirs to take over, so
// that Heirs returns them no more. Those of buckets that are not leased to this
// process any more are left to their new holder.
//
// If we crash before the commit, they are compared once more.
func (o *Outbox) Settle(ctx context.Context, heirs []event.Heir) error {
	tokens := o.tokens()
	var companies, keys, leases []string
	var held []int64
	for _, h := range heirs {
		lease := relayLease(h.Bucket)
		companies, keys = append(companies, h.CompanyID), append(keys, h.Key)
		leases, held = append(leases, lease), append(held, tokens[lease]) // token 0 is nobody's
	}
	// The lease rows are read "for key share", in name order, as in Sent; then the
	// operations are locked in key order, as looks do, so that neither deadlocks.
	const q = `
with fenced as (
    select l.name, l.token from pushwatch.lease l
    where l.name = any($3::text[])
    order by l.name
    for key share
), settled as (
    select o.company_id, o.push_operation_key
    from unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) as h(company_id, push_operation_key, lease, token)
    join fenced f on f.name = h.lease and f.token = h.token
    join pushwatch.operation o on o.company_id = h.company_id and o.push_operation_key = h.push_operation_key
    order by o.company_id, o.push_operation_key
    for no key update of o
)
update pushwatch.operation o set compared = true
from settled s where o.company_id = s.company_id and o.push_operation_key = s.push_operation_key`
	err := o.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		_, err := tx.Exec(ctx, q, companies, keys, leases, held)
		return err
	})
	if err != nil {
		return fmt.Errorf("settle %d operations: %w", len(heirs), err)
	}
	return nil
}
