package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

const (
	leaseTerm    = 15 * time.Second
	renewPeriod  = 5 * time.Second
	leaseTrusted = 10 * time.Second // two thirds of the term: then work stops until a renewal
)

// ErrFenced says that another process has taken the lease under which a write
// was attempted. Nothing was written; the other process does the work now.
var ErrFenced = errors.New("the lease was taken by another process")

// Leases are the rights of this process to work on companies and to relay
// buckets. They end by the database's clock 15 s after their last renewal; the
// holder stops trusting them 10 s after it, by its own monotonic clock. A write
// that comes later all the same is refused, because a takeover changes the token.
type Leases struct {
	store  *Store
	holder Holder
	log    *slog.Logger

	mu      sync.Mutex            // protects all below
	wanted  []string              // sorted
	held    map[string]push.Fence // by lease name
	renewed time.Time             // start of the last renewal, local monotonic clock
}

// Leases returns the leases of holder, none yet: see Want and Renew. Log may be nil.
func (s *Store) Leases(holder Holder, log *slog.Logger) *Leases {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Leases{store: s, holder: holder, log: log, held: map[string]push.Fence{}}
}

// Want replaces the names that the next renewal tries to hold.
func (l *Leases) Want(names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wanted = slices.Sorted(slices.Values(names))
}

// Held returns the leases among names that this process may act on now.
func (l *Leases) Held(names ...string) []push.Fence {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.store.Clock.local().Sub(l.renewed) > leaseTrusted {
		return nil
	}
	var fences []push.Fence
	for _, name := range names {
		if fence, ok := l.held[name]; ok {
			fences = append(fences, fence)
		}
	}
	return fences
}

// Run renews until ctx ends, then gives everything back, so that a peer need
// not wait for the term. A renewal that fails is logged and tried again.
func (l *Leases) Run(ctx context.Context) error {
	ticker := time.NewTicker(renewPeriod)
	defer ticker.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
			defer cancel()
			return l.Release(detached)
		case <-ticker.C:
		}
		err := errors.Join(l.Renew(ctx), l.store.SyncClock(ctx))
		if ctx.Err() != nil {
			continue
		}
		if err != nil && !failing {
			l.log.Warn("leases not renewed, trying on", "error", err)
		} else if err == nil && failing {
			l.log.Info("leases renewed again")
		}
		failing = err != nil
	}
}

// Renew extends what is held and takes what is wanted and free: never held,
// given back, expired, or held by a process of this machine that has died.
func (l *Leases) Renew(ctx context.Context) error {
	l.mu.Lock()
	wanted := slices.Clone(l.wanted)
	l.mu.Unlock()
	started := l.store.Clock.local()
	dead, err := l.deadHolders(ctx)
	if err != nil {
		return err
	}
	var fences []push.Fence
	err = l.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		fences, err = l.take(ctx, tx, wanted, dead)
		return err
	})
	if err != nil {
		return fmt.Errorf("renew leases: %w", err)
	}
	held := make(map[string]push.Fence, len(fences))
	for _, fence := range fences {
		held[fence.Lease] = fence
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for name := range maps.Keys(l.held) {
		if _, still := held[name]; !still {
			l.log.Info("lease lost or given up", "lease", name)
		}
	}
	l.held, l.renewed = held, started
	return nil
}

func (l *Leases) take(ctx context.Context, tx pgx.Tx, wanted, dead []string) ([]push.Fence, error) {
	// Rows must be there to be locked; one that exists is left as it is.
	const missing = `
insert into pushwatch.lease (name, holder, expires_at)
select name, null, pg_catalog.clock_timestamp()
from unnest($1::text[]) as wanted(name)
where not exists (select from pushwatch.lease l where l.name = wanted.name)
order by name
on conflict (name) do nothing`
	if _, err := tx.Exec(ctx, missing, wanted); err != nil {
		return nil, err
	}
	// A takeover locks the row "for update": it waits for every write that is
	// fenced by this row (they hold it "for key share") and none can begin until
	// the new token is committed. Locked in name order, so that two processes
	// that take leases cannot deadlock.
	const takeOver = `
with free as (
    select name from pushwatch.lease
    where name = any($1::text[]) and holder is distinct from $2::text
      and (holder is null or expires_at < pg_catalog.clock_timestamp() or holder = any($4::text[]))
    order by name
    for update
)
update pushwatch.lease l
set holder = $2::text, token = l.token + 1, expires_at = pg_catalog.clock_timestamp() + $3::interval
from free where l.name = free.name`
	if _, err := tx.Exec(ctx, takeOver, wanted, string(l.holder), leaseTerm, dead); err != nil {
		return nil, err
	}
	// A renewal changes no key, so it waits for no fenced write. What is no
	// longer wanted is given back.
	const renew = `
update pushwatch.lease
set expires_at = case when name = any($1::text[]) then pg_catalog.clock_timestamp() + $3::interval
                      else pg_catalog.clock_timestamp() end,
    holder = case when name = any($1::text[]) then holder end
where holder = $2::text
returning name, token, holder is not null`
	rows, err := tx.Query(ctx, renew, wanted, string(l.holder), leaseTerm)
	if err != nil {
		return nil, err
	}
	var fences []push.Fence
	var fence push.Fence
	var kept bool
	_, err = pgx.ForEachRow(rows, []any{&fence.Lease, &fence.Token, &kept}, func() error {
		if kept {
			fences = append(fences, fence)
		}
		return nil
	})
	return fences, err
}

// deadHolders lists the holders of leases that ran on this machine and do no
// longer, so that a restart after a crash need not wait for the term.
func (l *Leases) deadHolders(ctx context.Context) ([]string, error) {
	const q = `select distinct holder from pushwatch.lease where holder is not null and holder <> $1::text`
	rows, err := l.store.pool.Query(ctx, q, string(l.holder))
	if err != nil {
		return nil, fmt.Errorf("list lease holders: %w", err)
	}
	holders, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list lease holders: %w", err)
	}
	return slices.DeleteFunc(holders, func(other string) bool { return !Holder(other).dead() }), nil
}

// Release gives every lease of this process back.
func (l *Leases) Release(ctx context.Context) error {
	l.mu.Lock()
	l.held = map[string]push.Fence{}
	l.mu.Unlock()
	const q = `update pushwatch.lease set holder = null, expires_at = pg_catalog.clock_timestamp() where holder = $1::text`
	if _, err := l.store.pool.Exec(ctx, q, string(l.holder)); err != nil {
		return fmt.Errorf("give leases back: %w", err)
	}
	return nil
}

// fence refuses the transaction unless token is still the lease's. The row is
// read "for key share": many writes of the holder go on side by side, and a
// takeover, which locks it "for update", waits for all of them. If this process
// is stopped here for longer than its lease, that takeover waits; if its session
// dies, the transaction does too.
func fence(ctx context.Context, tx pgx.Tx, f push.Fence) error {
	const q = `select 1 from pushwatch.lease where name = $1::text and token = $2::bigint for key share`
	var one int
	err := tx.QueryRow(ctx, q, f.Lease, f.Token).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("lease %s, token %d: %w", f.Lease, f.Token, ErrFenced)
	}
	return err
}
