package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// UpdateQuota locks the ledger, lets rule read and change it, and commits what
// rule left. Day is the UTC day whose row is meant; zero takes today by the
// database's clock, which rule also gets as now. Rule must be a pure function of
// what it gets: it runs again when the transaction is tried again.
//
// If we crash after the commit and before its requests are sent, those are counted
// too many; never one too few.
func (s *Store) UpdateQuota(ctx context.Context, day time.Time, rule func(now time.Time, q *push.Quota)) error {
	err := s.attempts(ctx, beginGate, func(ctx context.Context, tx pgx.Tx) error {
		// The gate is one row for all replicas: whoever holds it "for update" is
		// the only one who counts. It is always locked before the day's row.
		const gate = `
select pg_catalog.clock_timestamp(), next_slot, blocked_until, coalesce(blocked_by, '')
from pushwatch.quota_gate
for update`
		var now time.Time
		var q push.Quota
		var blocked *time.Time
		if err := tx.QueryRow(ctx, gate).Scan(&now, &q.NextSlot, &blocked, &q.BlockedBy); err != nil {
			return err
		}
		now, q.NextSlot, q.BlockedUntil = now.UTC(), q.NextSlot.UTC(), timeOf(blocked)
		q.Day = day.UTC().Truncate(24 * time.Hour)
		if day.IsZero() {
			q.Day = now.Truncate(24 * time.Hour)
		}
		const today = `
select request_limit, remaining, used, used_walks from pushwatch.quota_day where day = $1::date`
		err := tx.QueryRow(ctx, today, q.Day).Scan(&q.Limit, &q.Remaining, &q.Used, &q.UsedWalks)
		if err != nil && err != pgx.ErrNoRows {
			return err
		}
		rule(now, &q)
		const keep = `
with gate as (
    update pushwatch.quota_gate
    set next_slot = $6::timestamptz, blocked_until = $7::timestamptz, blocked_by = nullif($8::text, '')
)
insert into pushwatch.quota_day (day, request_limit, remaining, used, used_walks)
values ($1::date, $2::bigint, $3::bigint, $4::bigint, $5::bigint)
on conflict (day) do update
set request_limit = excluded.request_limit, remaining = excluded.remaining,
    used = excluded.used, used_walks = excluded.used_walks`
		_, err = tx.Exec(ctx, keep, q.Day, q.Limit, q.Remaining, q.Used, q.UsedWalks,
			q.NextSlot, nullable(q.BlockedUntil), string(q.BlockedBy))
		return err
	})
	if err != nil {
		return fmt.Errorf("update the quota ledger: %w", err)
	}
	return nil
}
