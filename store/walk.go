package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// OpenWalk begins a list walk of a company, or resumes the one that was
// interrupted. It returns after its commit, so before the walk's first request:
//
//   - baseline: the start of the company's first look is committed, once and for
//     ever. If we crash after that, an operation requested before it is baseline
//     still, and one requested after it is news still.
//   - sweep: the sweep tick is noted, so that it is not taken up again.
//   - discover: nothing is written before the first page.
//
// Baselines and sweeps resume one page before the one that was not read, because
// rows may have moved up since.
func (s *Store) OpenWalk(ctx context.Context, c push.Company, kind push.WalkKind, startedAt time.Time) (push.Walk, error) {
	walk := push.Walk{CompanyID: c.ID, Kind: kind, StartedAt: push.Time(startedAt), FirstPage: 1}
	err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		if err := fence(ctx, tx, c.Fence); err != nil {
			return err
		}
		if kind == push.WalkDiscover {
			return s.floor(ctx, tx, &walk)
		}
		return openWholeWalk(ctx, tx, &walk)
	})
	if err != nil {
		return push.Walk{}, fmt.Errorf("open %s walk of company %s: %w", kind, c.ID, err)
	}
	return walk, nil
}

// floor sets where a page of known operations ends a discover walk. While the
// baseline is unfinished the first look stands in for the progress: what was
// requested before it is the baseline's business.
func (s *Store) floor(ctx context.Context, tx pgx.Tx, walk *push.Walk) error {
	const q = `select coalesce(progress_at, first_look_server_at, first_look_at) from pushwatch.company where company_id = $1::text`
	var progress *time.Time
	if err := tx.QueryRow(ctx, q, walk.CompanyID).Scan(&progress); err != nil {
		return err
	}
	if progress != nil {
		walk.Floor = progress.UTC().Add(-push.Overlap)
	}
	if fault.Off(fault.Overlap) {
		walk.Floor = walk.StartedAt.Add(time.Hour)
	}
	return nil
}

// openWholeWalk opens a baseline or a sweep, or goes on with one. Either takes up the
// sweep ticks until now: a baseline walks the whole history too.
func openWholeWalk(ctx context.Context, tx pgx.Tx, walk *push.Walk) error {
	const note = `
update pushwatch.company
set first_look_at = case when $2::text = 'baseline' then coalesce(first_look_at, $3::timestamptz) else first_look_at end,
    sweep_ticked_at = $3::timestamptz
where company_id = $1::text`
	if _, err := tx.Exec(ctx, note, walk.CompanyID, string(walk.Kind), walk.StartedAt); err != nil {
		return err
	}
	const resume = `
select started_at, greatest(next_page - 1, 1), page_size from pushwatch.walk
where company_id = $1::text and kind = $2::text and finished_at is null`
	err := tx.QueryRow(ctx, resume, walk.CompanyID, string(walk.Kind)).Scan(&walk.StartedAt, &walk.FirstPage, &walk.PageSize)
	if !errors.Is(err, pgx.ErrNoRows) {
		walk.StartedAt = walk.StartedAt.UTC()
		return err
	}
	const open = `insert into pushwatch.walk (company_id, kind, started_at) values ($1::text, $2::text, $3::timestamptz)`
	_, err = tx.Exec(ctx, open, walk.CompanyID, string(walk.Kind), walk.StartedAt)
	return err
}

// advance notes what a page means for its walk and its company, in the
// transaction that keeps the page.
func advance(ctx context.Context, tx pgx.Tx, r push.Record, finished bool) error {
	page := r.Page
	if page.Source != push.FromList {
		return nil
	}
	if err := noteReach(ctx, tx, r, finished); err != nil {
		return err
	}
	// The first page of any list shows where the others begin; the first answer
	// ever fixes the first look on Codat's clock.
	const company = `
update pushwatch.company
set first_page_oldest = case when $2::boolean then $3::timestamptz else first_page_oldest end,
    first_look_server_at = coalesce(first_look_server_at, first_look_at + $4::interval),
    absent_until = null
where company_id = $1::text
  and ($2::boolean and first_page_oldest is distinct from $3::timestamptz
       or first_look_server_at is null or absent_until is not null)`
	_, err := tx.Exec(ctx, company, r.Company.ID, page.Number == 1, nullable(page.Oldest()), page.ServerAhead)
	if err != nil || r.Walk == nil {
		return err
	}
	if r.Walk.Kind != push.WalkDiscover || !finished || page.Number > 1 {
		if err := noteWalk(ctx, tx, r, finished); err != nil {
			return err
		}
	}
	if !finished || r.Walk.Kind == push.WalkSweep {
		return nil
	}
	return finishWalk(ctx, tx, r)
}

// noteWalk keeps how far a walk has come; a page that was read again does not move
// it back, and the last page of all, recorded again because the answer to its commit
// was lost, finds the walk ended and leaves it so. A discover walk that ends on its
// first page never gets here: a quiet company leaves no row. One that goes deeper takes
// over the row of the one before, which nobody reads any more. If we crash after this
// commit, the open row tells the next discover walk that what this one has recorded
// proves nothing.
func noteWalk(ctx context.Context, tx pgx.Tx, r push.Record, finished bool) error {
	const q = `
with noted as (
    update pushwatch.walk
    set newest_at = case when $5::integer = 1 then $4::timestamptz else newest_at end,
        next_page = case when $5::bigint * $6::integer >= (next_page - 1)::bigint * page_size then $5::integer + 1 else next_page end,
        page_size = case when $5::bigint * $6::integer >= (next_page - 1)::bigint * page_size then $6::integer else page_size end,
        pages = pages + 1,
        operations = operations + $7::bigint, finished_at = case when $8::boolean then $9::timestamptz end
    where company_id = $1::text and kind = $2::text and finished_at is null
    returning 1
), begun as (
    update pushwatch.walk
    set started_at = $3::timestamptz, newest_at = $4::timestamptz, next_page = $5::integer + 1, page_size = $6::integer,
        pages = 1, operations = $7::bigint, finished_at = case when $8::boolean then $9::timestamptz end
    where company_id = $1::text and kind = $2::text and $2::text = 'discover' and not exists (select from noted)
      and started_at < $3::timestamptz
      and started_at = (select max(w.started_at) from pushwatch.walk w where w.company_id = $1::text and w.kind = $2::text)
    returning 1
)
insert into pushwatch.walk (company_id, kind, started_at, newest_at, next_page, page_size, pages, operations, finished_at)
select $1::text, $2::text, $3::timestamptz, $4::timestamptz, $5::integer + 1, $6::integer, 1, $7::bigint,
       case when $8::boolean then $9::timestamptz end
where not exists (select from noted) and not exists (select from begun)
on conflict (company_id, kind, started_at) do nothing`
	page := r.Page
	_, err := tx.Exec(ctx, q, r.Company.ID, string(r.Walk.Kind), r.Walk.StartedAt, nullable(page.Newest()),
		page.Number, page.Size, len(page.Rows)+len(page.Quarantined), finished, page.FinishedAt)
	return err
}

// finishWalk moves the company's progress to the newest operation seen at the
// start of the walk, never past the walk's own start: a requestedOn from the
// future must not hide what comes before it. A one-page walk has that newest on
// the page at hand, a longer one in its row.
func finishWalk(ctx context.Context, tx pgx.Tx, r push.Record) error {
	const q = `
with ended as ( -- what an interrupted walk left open, when this one ends on its first page
    update pushwatch.walk set finished_at = $7::timestamptz
    where company_id = $1::text and kind = $2::text and finished_at is null
)
update pushwatch.company c
set progress_at = greatest(c.progress_at, least(coalesce(
        case when $4::boolean then $5::timestamptz end,
        (select w.newest_at from pushwatch.walk w
         where w.company_id = c.company_id and w.kind = $2::text
         order by w.started_at desc limit 1),
        $3::timestamptz), $3::timestamptz + $6::interval)),
    discovered_at = greatest(c.discovered_at, $3::timestamptz),
    baselined = c.baselined or $2::text = 'baseline'
where c.company_id = $1::text`
	_, err := tx.Exec(ctx, q, r.Company.ID, string(r.Walk.Kind), r.Walk.StartedAt,
		r.Page.Number == 1, nullable(r.Page.Newest()), r.Page.ServerAhead, r.Page.FinishedAt)
	return err
}

// noteReach keeps that a list begun at one moment showed everything down to some
// requestedOn, and drops what that makes superfluous. Without verified order only
// a walk that saw every page reached anything.
func noteReach(ctx context.Context, tx pgx.Tx, r push.Record, finished bool) error {
	page := r.Page
	started := page.StartedAt
	if r.Walk != nil {
		started = r.Walk.StartedAt
	}
	whole := page.Last && (page.Ordered || r.Walk != nil && finished) && (r.Walk != nil || page.Number == 1)
	if !whole && (!page.Ordered || page.Oldest().IsZero() || r.Walk == nil && page.Number != 1) {
		return nil
	}
	const q = `
with reach as (
    select $2::timestamptz as looked_at,
           case when $3::boolean then '-infinity'::timestamptz else $4::timestamptz end as reached_at
), dropped as (
    delete from pushwatch.company_look l using reach
    where l.company_id = $1::text and l.looked_at < reach.looked_at and l.reached_at >= reach.reached_at
)
insert into pushwatch.company_look as l (company_id, looked_at, reached_at)
select $1::text, looked_at, reached_at from reach
on conflict (company_id, looked_at) do update set reached_at = least(l.reached_at, excluded.reached_at)`
	_, err := tx.Exec(ctx, q, r.Company.ID, started, whole, nullable(page.Oldest()))
	return err
}
