package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// The classes of leases are what stands before the slash of their names.
const (
	companyClass  = "company"
	relayClass    = "relay"
	presenceClass = "replica" // of each live process, its own: so that the others know how many share
)

func classOf(name string) string {
	class, _, _ := strings.Cut(name, "/")
	return class
}

// others returns the other live processes, sorted, and those known to be dead: of
// this machine, so that a restart after a crash need not wait for the term. It notes
// when the first of the live ones ends.
func (l *Leases) others(ctx context.Context) (live, dead []string, err error) {
	// '0' follows '/' in collation "C", so these are the names that begin with "replica/".
	const q = `
select holder, expires_at - pg_catalog.clock_timestamp()
from pushwatch.lease
where name >= 'replica/' and name < 'replica0' and holder is not null and holder <> $1::text
order by holder`
	rows, err := l.store.pool.Query(ctx, q, string(l.holder))
	if err != nil {
		return nil, nil, fmt.Errorf("list processes: %w", err)
	}
	var other string
	var left time.Duration
	soonest := leaseTerm
	_, err = pgx.ForEachRow(rows, []any{&other, &left}, func() error {
		switch {
		case Holder(other).dead():
			dead = append(dead, other)
		case left >= 0:
			live, soonest = append(live, other), min(soonest, left)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list processes: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.soonest = soonest
	return live, dead, nil
}

// take renews, balances and takes over, and returns what is held then. Processes
// counts the live ones, this one among them.
func (l *Leases) take(ctx context.Context, tx pgx.Tx, wanted []string, processes int, dead []string) (map[string]push.Fence, error) {
	if err := l.announce(ctx, tx, wanted); err != nil {
		return nil, err
	}
	held, err := l.extend(ctx, tx, wanted)
	if err != nil {
		return nil, err
	}
	classes := map[string][]string{}
	for _, name := range wanted {
		classes[classOf(name)] = append(classes[classOf(name)], name)
	}
	for class, names := range classes {
		share := (len(names) + processes - 1) / processes
		var mine []string
		for _, name := range names {
			if _, ok := held[name]; ok {
				mine = append(mine, name)
			}
		}
		if len(mine) > share {
			err = l.giveBack(ctx, tx, mine[share:], held)
		} else if len(mine) < share {
			err = l.takeOver(ctx, tx, names, share-len(mine), dead, held)
		}
		if err != nil {
			return nil, fmt.Errorf("leases of class %s: %w", class, err)
		}
	}
	return held, nil
}

// announce makes the rows that are missing, and removes the presence of
// processes that are long gone: not at once, because by it the others learn that
// the process is dead.
func (l *Leases) announce(ctx context.Context, tx pgx.Tx, wanted []string) error {
	// Rows must be there to be locked; one that exists is left as it is. Inserted
	// in name order, so that two processes that start at once cannot deadlock.
	const missing = `
insert into pushwatch.lease (name, holder, expires_at)
select name, null, pg_catalog.clock_timestamp()
from unnest($1::text[]) as wanted(name)
where not exists (select from pushwatch.lease l where l.name = wanted.name)
order by name
on conflict (name) do nothing`
	presence := presenceClass + "/" + string(l.holder)
	if _, err := tx.Exec(ctx, missing, append(wanted[:len(wanted):len(wanted)], presence)); err != nil {
		return err
	}
	// Locked in name order, and passed over where a peer is removing the row or its
	// process is back to renew it.
	const gone = `
with gone as (
    select name from pushwatch.lease
    where name >= 'replica/' and name < 'replica0' and name <> $1::text
      and (holder is null or expires_at < pg_catalog.clock_timestamp() - interval '1 hour')
    order by name
    for update skip locked
)
delete from pushwatch.lease l using gone where l.name = gone.name`
	_, err := tx.Exec(ctx, gone, presence)
	return err
}

// extend renews what is held and wanted, gives back what is no longer wanted, and
// tells the peers that this process lives. A renewal changes no key, so it waits
// for no fenced write.
func (l *Leases) extend(ctx context.Context, tx pgx.Tx, wanted []string) (map[string]push.Fence, error) {
	const renew = `
update pushwatch.lease
set expires_at = case when name = any($1::text[]) then pg_catalog.clock_timestamp() + $3::interval
                      else pg_catalog.clock_timestamp() end,
    holder = case when name = any($1::text[]) then holder end
where holder = $2::text and name <> $4::text
returning name, token, holder is not null`
	presence := presenceClass + "/" + string(l.holder)
	rows, err := tx.Query(ctx, renew, wanted, string(l.holder), leaseTerm, presence)
	if err != nil {
		return nil, err
	}
	held := map[string]push.Fence{}
	var fence push.Fence
	var kept bool
	_, err = pgx.ForEachRow(rows, []any{&fence.Lease, &fence.Token, &kept}, func() error {
		if kept {
			held[fence.Lease] = fence
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	// After the others: who finds the presence expired finds the leases expired too.
	const live = `
update pushwatch.lease set holder = $2::text, expires_at = pg_catalog.clock_timestamp() + $3::interval where name = $1::text`
	_, err = tx.Exec(ctx, live, presence, string(l.holder), leaseTerm)
	return held, err
}

func (l *Leases) giveBack(ctx context.Context, tx pgx.Tx, names []string, held map[string]push.Fence) error {
	const q = `
update pushwatch.lease set holder = null, expires_at = pg_catalog.clock_timestamp()
where name = any($1::text[]) and holder = $2::text`
	for _, name := range names {
		delete(held, name)
	}
	_, err := tx.Exec(ctx, q, names, string(l.holder))
	return err
}

// takeOver takes up to most of the free leases among names. A takeover locks the
// row "for update": none while a write runs that is fenced by it (they hold it
// "for key share"), and none can begin until the new token is committed. A row
// that is locked is passed over and taken at a later look: a process that was
// stopped in the middle of a write holds it until the server ends its session (see
// begin), and must not keep this one from renewing.
func (l *Leases) takeOver(ctx context.Context, tx pgx.Tx, names []string, most int, dead []string, held map[string]push.Fence) error {
	const q = `
with free as (
    select name from pushwatch.lease
    where name = any($1::text[]) and holder is distinct from $2::text
      and (holder is null or expires_at < pg_catalog.clock_timestamp() or holder = any($4::text[]))
    order by name
    limit $5::bigint
    for update skip locked
)
update pushwatch.lease l
set holder = $2::text, token = l.token + 1, expires_at = pg_catalog.clock_timestamp() + $3::interval
from free where l.name = free.name
returning l.name, l.token`
	rows, err := tx.Query(ctx, without(fault.Takeover, "or expires_at < pg_catalog.clock_timestamp() or holder = any($4::text[])",
		"or false and holder = any($4::text[])", q), names, string(l.holder), leaseTerm, dead, most)
	if err != nil {
		return err
	}
	var fence push.Fence
	_, err = pgx.ForEachRow(rows, []any{&fence.Lease, &fence.Token}, func() error {
		held[fence.Lease] = fence
		return nil
	})
	return err
}
