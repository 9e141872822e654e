package store

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// Clock is pushwatch's time: the local monotonic clock plus the database's
// offset. It never runs backwards, whatever the machine's wall clock does.
type Clock struct {
	local func() time.Time

	mu     sync.Mutex    // protects all below
	anchor time.Time     // a local reading
	origin time.Time     // the database's time at the anchor
	last   time.Time     // the latest time given out
	skew   time.Duration // local wall clock ahead of the database's, when last measured
}

func newClock() *Clock {
	return &Clock{local: time.Now} // default clock
}

// Now returns the present time in UTC, truncated to microseconds.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := push.Time(c.origin.Add(c.local().Sub(c.anchor)))
	if now.Before(c.last) {
		return c.last
	}
	c.last = now
	return now
}

// Skew returns how far the machine's wall clock was ahead of the database's
// when that was last measured.
func (c *Clock) Skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.skew
}

// SyncClock measures the database's time anew. The answer is taken to belong to
// the middle of the round trip.
func (s *Store) SyncClock(ctx context.Context) error {
	before := s.Clock.local()
	var database time.Time
	if err := s.pool.QueryRow(ctx, `select pg_catalog.clock_timestamp()`).Scan(&database); err != nil {
		return fmt.Errorf("read the database's clock: %w", err)
	}
	after := s.Clock.local()
	middle := before.Add(after.Sub(before) / 2)
	s.Clock.mu.Lock()
	defer s.Clock.mu.Unlock()
	s.Clock.anchor, s.Clock.origin = middle, database
	s.Clock.skew = middle.Round(0).Sub(database)
	return nil
}
