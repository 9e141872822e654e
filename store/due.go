package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// maxDue bounds what one track tick takes up; the youngest come first.
const maxDue = 10_000

// Due lists the operations of companies that want to be asked: unfinished ones
// last seen longer ago than max(period, a tenth of their age), at most an hour,
// and disputed ones; youngest first. Seen is what a list or a get has shown: that a
// list reached as far as an operation, and did not show it, is a reason to ask.
func (s *Store) Due(ctx context.Context, companies []push.Company, now time.Time, period time.Duration) ([]push.Due, error) {
	ids := make([]string, len(companies))
	for i, c := range companies {
		ids[i] = c.ID
	}
	const q = `
select o.company_id, o.push_operation_key, o.requested_at,
       o.requested_at is not null and c.first_page_oldest is not null and o.requested_at >= c.first_page_oldest,
       o.disputed_status is not null
from pushwatch.operation o
join pushwatch.company c on c.company_id = o.company_id
where o.company_id = any($1::text[]) and (not o.is_terminal or o.disputed_status is not null)
  and (o.disputed_status is not null
       or greatest(o.looked_at, o.got_at) <= $2::timestamptz - least(interval '1 hour',
            greatest($3::interval, ($2::timestamptz - coalesce(o.requested_at, o.first_seen_at)) / 10)))
order by coalesce(o.requested_at, o.first_seen_at) desc, o.company_id, o.push_operation_key
limit $4::integer`
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, q, ids, now, period, maxDue)
	if err != nil {
		return nil, fmt.Errorf("list due operations: %w", err)
	}
	due, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (push.Due, error) {
		var d push.Due
		var requested *time.Time
		err := row.Scan(&d.CompanyID, &d.Key, &requested, &d.OnFirstPage, &d.Disputed)
		d.RequestedOn = timeOf(requested)
		return d, err
	})
	if err != nil {
		return nil, fmt.Errorf("list due operations: %w", err)
	}
	return due, nil
}
