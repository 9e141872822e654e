package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// CompanyLease names the lease of a company.
func CompanyLease(companyID string) string { return "company/" + companyID }

// Fleet is the set of configured companies, as far as they are leased to this
// process.
type Fleet struct {
	store  *Store
	leases *Leases

	mu  sync.Mutex
	ids []string // configured, in the configuration's order
}

// Fleet returns the companies that leases holds among those configured with
// Configure.
func (s *Store) Fleet(leases *Leases) *Fleet { return &Fleet{store: s, leases: leases} }

// Configure makes companies the configured ones and stores their names. A
// company that leaves the configuration keeps its rows and its first look.
func (f *Fleet) Configure(ctx context.Context, companies []push.Company) error {
	ids := make([]string, len(companies))
	names := make([]string, len(companies))
	for i, c := range companies {
		ids[i], names[i] = c.ID, c.Name
	}
	// Inserted in id order, so that two replicas that start at once cannot deadlock.
	const q = `
insert into pushwatch.company (company_id, name)
select id, nullif(name, '') from unnest($1::text[], $2::text[]) as c(id, name)
order by id collate "C"
on conflict (company_id) do update set name = excluded.name
where company.name is distinct from excluded.name`
	ctx, cancel := f.store.bounded(ctx)
	defer cancel()
	if _, err := f.store.pool.Exec(ctx, q, ids, names); err != nil {
		return fmt.Errorf("store the configured companies: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ids = ids
	return nil
}

// Changed returns a channel that is closed when what Companies returns may have
// changed: another set of companies, or the same ones under newer fences.
func (f *Fleet) Changed() <-chan struct{} { return f.leases.Changed() }

// Companies returns the configured companies that are leased here now, with
// their fences and progress.
func (f *Fleet) Companies(ctx context.Context) ([]push.Company, error) {
	f.mu.Lock()
	names := make([]string, len(f.ids))
	for i, id := range f.ids {
		names[i] = CompanyLease(id)
	}
	f.mu.Unlock()
	held := f.leases.Held(names...)
	ids := make([]string, len(held))
	tokens := make([]int64, len(held))
	for i, fence := range held {
		ids[i], tokens[i] = fence.Lease[len(CompanyLease("")):], fence.Token
	}
	const q = `
select c.company_id, coalesce(c.name, ''), h.token, c.first_look_at, c.first_look_server_at is not null, c.discovered_at, c.sweep_ticked_at,
       c.baselined, c.absent_until,
       exists (select from pushwatch.walk w
               where w.company_id = c.company_id and w.kind = 'sweep' and w.finished_at is null)
from unnest($1::text[], $2::bigint[]) with ordinality as h(company_id, token, place)
join pushwatch.company c on c.company_id = h.company_id
order by h.place`
	ctx, cancel := f.store.bounded(ctx)
	defer cancel()
	rows, err := f.store.pool.Query(ctx, q, ids, tokens)
	if err != nil {
		return nil, fmt.Errorf("list companies: %w", err)
	}
	companies, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (push.Company, error) {
		var c push.Company
		var firstLook, discovered, ticked, absent *time.Time
		err := row.Scan(&c.ID, &c.Name, &c.Fence.Token, &firstLook, &c.Answered, &discovered, &ticked, &c.Baselined, &absent, &c.SweepOpen)
		c.Fence.Lease = CompanyLease(c.ID)
		c.FirstLookAt, c.DiscoveredAt = timeOf(firstLook), timeOf(discovered)
		c.SweepTickedAt, c.AbsentUntil = timeOf(ticked), timeOf(absent)
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("list companies: %w", err)
	}
	return companies, nil
}

// MarkAbsent notes that Codat knows no such company: it is not listed before until.
func (f *Fleet) MarkAbsent(ctx context.Context, c push.Company, until time.Time) error {
	err := f.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := fence(ctx, tx, c.Fence); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `update pushwatch.company set absent_until = $2 where company_id = $1`, c.ID, until)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark company %s absent: %w", c.ID, err)
	}
	return nil
}

// timeOf returns the time behind a nullable column, in UTC; zero for null.
func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

// nullable returns nil for the zero time: null in SQL.
func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// UnknownCompanies returns those of ids that were never configured.
func (s *Store) UnknownCompanies(ctx context.Context, ids []string) ([]string, error) {
	const q = `
select id from unnest($1::text[]) as i(id)
where not exists (select from pushwatch.company c where c.company_id = i.id)
order by id`
	rows, err := s.pool.Query(ctx, q, ids)
	if err != nil {
		return nil, fmt.Errorf("look for companies: %w", err)
	}
	unknown, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("look for companies: %w", err)
	}
	return unknown, nil
}
