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

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

const (
	leaseTerm    = 15 * time.Second
	renewPeriod  = 5 * time.Second
	lookPeriod   = 500 * time.Millisecond // how soon a process that came, or said that it goes, is noticed
	leaseTrusted = 10 * time.Second       // two thirds of the term: then work stops until a renewal
)

// ErrFenced says that another process has taken the lease under which a write
// was attempted. Nothing was written; the other process does the work now.
var ErrFenced = errors.New("the lease was taken by another process")

// Leases are the rights of this process to work on companies and to relay
// buckets. They end by the database's clock 15 s after their last renewal; the
// holder stops trusting them 10 s after it, by its own monotonic clock. A write
// that comes later all the same is refused, because a takeover changes the token.
//
// All processes on one database share alike: of each class of leases, such as
// companies, one holds at most its share, rounded up, and gives back the surplus
// when another process comes.
type Leases struct {
	store  *Store
	holder Holder
	log    *slog.Logger

	mu      sync.Mutex            // protects all below
	wanted  []string              // sorted
	held    map[string]push.Fence // by lease name
	peers   []string              // holders: other live processes, as of the last look; sorted
	soonest time.Duration         // from that look until the first of them is dead unless it renews
	renewed time.Time             // start of the last renewal, local monotonic clock
	changed chan struct{}         // closed at the next change of what Held returns
	failed  error                 // of the last attempt of Run to renew, nil when it went well
	since   time.Time             // of failed
}

// Leases returns the leases of holder, none yet: see Want and Renew. Log may be nil.
func (s *Store) Leases(holder Holder, log *slog.Logger) *Leases {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Leases{store: s, holder: holder, log: log, held: map[string]push.Fence{}, changed: make(chan struct{})}
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
	if !l.trusted() {
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

// trusted is called with mu held.
func (l *Leases) trusted() bool { return l.store.Clock.local().Sub(l.renewed) <= leaseTrusted }

// Changed returns a channel that is closed when a renewal changes what Held
// returns.
func (l *Leases) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Run renews until ctx ends, then gives everything back, so that a peer need
// not wait for the term. Between renewals it looks whether a process has come or
// gone, and at the very end of one that does not renew, so that what a dead one held
// is taken at once. A renewal that fails is logged and tried again.
func (l *Leases) Run(ctx context.Context) error {
	timer := time.NewTimer(lookPeriod)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return l.Release(ctx)
		case <-timer.C:
		}
		err := l.look(ctx)
		if ctx.Err() == nil {
			l.report(err)
		}
		timer.Reset(l.pause())
	}
}

// pause is how long to wait until the next look: then the peer that ends first has
// ended, unless it has renewed. It is asked once after each look, so that one which
// failed is not made again at once.
func (l *Leases) pause() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	pause := min(lookPeriod, max(l.soonest, time.Millisecond))
	l.soonest = lookPeriod
	return pause
}

// report notes how an attempt to renew went, and logs a change.
func (l *Leases) report(err error) {
	l.mu.Lock()
	was := l.failed
	if l.failed = err; was == nil {
		l.since = l.store.Now()
	}
	l.mu.Unlock()
	if err != nil && was == nil {
		l.log.Warn("leases not renewed, trying on", "error", err)
	} else if err == nil && was != nil {
		l.log.Info("leases renewed again")
	}
}

// Health reports whether Run can renew; if not, why, and since when. Once that has
// lasted for the time that leases are trusted, this process works on nothing.
func (l *Leases) Health() (ok bool, reason string, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed == nil {
		return true, "", time.Time{}
	}
	return false, "leases cannot be renewed: " + l.failed.Error(), l.since
}

// look renews when it is time, or when a process has come or gone.
func (l *Leases) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, renewPeriod)
	defer cancel()
	l.mu.Lock()
	due := l.store.Clock.local().Sub(l.renewed) >= renewPeriod
	l.mu.Unlock()
	if due {
		return errors.Join(l.Renew(ctx), l.store.SyncClock(ctx))
	}
	peers, _, err := l.others(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	same := slices.Equal(peers, l.peers)
	l.mu.Unlock()
	if same {
		return nil
	}
	return l.Renew(ctx)
}

// Renew extends what is held, gives back what is more than this process's share,
// and takes up to that share of what is free: never held, given back, expired, or
// held by a process of this machine that has died.
func (l *Leases) Renew(ctx context.Context) error {
	l.mu.Lock()
	wanted := slices.Clone(l.wanted)
	l.mu.Unlock()
	started := l.store.Clock.local()
	peers, dead, err := l.others(ctx)
	if err != nil {
		return err
	}
	// Seen through to its end: a commit whose answer nobody awaits could take leases
	// after Release, which then nobody gives back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	var held map[string]push.Fence
	err = l.store.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		held, err = l.take(ctx, tx, wanted, len(peers)+1, dead)
		fault.Point(fault.RenewingLease)
		return err
	})
	if err != nil {
		return fmt.Errorf("renew leases: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.trusted() || !maps.Equal(held, l.held) {
		l.log.Info("leases changed", "companies", count(held, companyClass), "relay_buckets", count(held, relayClass),
			"processes", len(peers)+1)
		close(l.changed)
		l.changed = make(chan struct{})
	}
	l.held, l.peers, l.renewed = held, peers, started
	return nil
}

func count(held map[string]push.Fence, class string) int {
	n := 0
	for name := range held {
		if classOf(name) == class {
			n++
		}
	}
	return n
}

// Release gives every lease of this process back, also when ctx has ended.
func (l *Leases) Release(ctx context.Context) error {
	if fault.Off(fault.Release) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
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
	if fault.Off(fault.Fence) {
		return nil
	}
	const q = `select 1 from pushwatch.lease where name = $1::text and token = $2::bigint for key share`
	var one int
	err := tx.QueryRow(ctx, q, f.Lease, f.Token).Scan(&one)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("lease %s, token %d: %w", f.Lease, f.Token, ErrFenced)
	}
	return err
}
