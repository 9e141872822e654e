package poller

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// slowBook is a book whose transactions take their time, one after the other.
type slowBook struct {
	memoryBook
	row   chan struct{} // holds a token while one has it
	takes time.Duration
	err   error
	asked int
}

func newSlowBook(takes time.Duration) *slowBook {
	return &slowBook{row: make(chan struct{}, 1), takes: takes}
}

func (b *slowBook) UpdateQuota(ctx context.Context, day time.Time, rule func(time.Time, *push.Quota)) error {
	select {
	case b.row <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-b.row }()
	b.asked++
	select {
	case <-time.After(b.takes):
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.err != nil {
		return b.err
	}
	return b.memoryBook.UpdateQuota(ctx, day, rule)
}

// TestOnASlowDatabaseEveryAnswerIsBookedInTime is the promise of the line: while the
// minute's bucket is empty and dozens wait for it, each answer is booked within the
// five seconds after which it would be thrown away, and the bucket is used up.
func TestOnASlowDatabaseEveryAnswerIsBookedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := newSlowBook(200 * time.Millisecond)
		ledger := NewLedger(book, shareOf(0, 100), silent())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		sent, longest := 0, time.Duration(0)
		var group sync.WaitGroup
		for i := range 40 {
			ask := push.Ask{CompanyID: fmt.Sprintf("c%d", i%8)}
			group.Go(func() {
				for {
					began := time.Now()
					grant, err := ledger.Admit(ctx, ask)
					if err != nil {
						assert.ErrorIs(t, err, context.DeadlineExceeded)
						return
					}
					mu.Lock()
					sent, longest = sent+1, max(longest, time.Since(began))
					mu.Unlock()
					settling, cancel := context.WithTimeout(t.Context(), 5*time.Second)
					assert.NoError(t, ledger.Settle(settling, grant, push.Answer{Status: 200}))
					cancel()
				}
			})
		}
		group.Wait()
		assert.Greater(t, sent, perMinute*9/10)
		assert.LessOrEqual(t, sent, perMinute+burst)
		assert.Less(t, longest, 5*time.Second, "first come, first served: 40 of them need 2.5 s")
		assert.GreaterOrEqual(t, book.used(time.Now().UTC()), sent)
	})
}

func served(l *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.serving
}

func TestTheLineDoesInOneTransactionWhatSeveralWant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := newSlowBook(time.Second)
		line := newLine(book)
		today := time.Now().UTC().Truncate(24 * time.Hour)
		var order []string
		var group sync.WaitGroup
		wants := func(name string, day time.Time) {
			group.Go(func() {
				assert.NoError(t, line.do(t.Context(), day, func(_ time.Time, q *push.Quota) time.Duration {
					order = append(order, fmt.Sprintf("%s of %s in %d", name, q.Day.Sub(today), book.asked))
					return 0
				}))
			})
			synctest.Wait()
		}
		wants("first", time.Time{})
		wants("second", today)
		wants("third", today.Add(-24*time.Hour))
		wants("fourth", time.Time{})
		group.Wait()
		synctest.Wait()
		assert.False(t, served(line))
		assert.Equal(t, []string{"first of 0s in 1", "second of 0s in 1", "fourth of 0s in 1", "third of -24h0m0s in 2"}, order)
	})
}

func TestWhoLeavesTheLineHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := newSlowBook(3 * time.Second)
		line := newLine(book)
		counts := func(_ time.Time, q *push.Quota) time.Duration { q.Used++; return 0 }
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		stays := make(chan error, 1)

		require.ErrorIs(t, line.do(short, time.Time{}, counts), context.DeadlineExceeded)
		synctest.Wait()
		assert.False(t, served(line), "what nobody waits for is given up")

		short, cancel = context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		go func() { stays <- line.do(t.Context(), time.Time{}, counts) }()
		synctest.Wait()
		go func() { stays <- line.do(t.Context(), time.Time{}, counts) }()
		synctest.Wait()
		require.ErrorIs(t, line.do(short, time.Time{}, counts), context.DeadlineExceeded)
		require.NoError(t, <-stays)
		require.NoError(t, <-stays, "their transaction goes on")
		assert.Equal(t, 2, book.used(time.Now().UTC()), "who left in time is not counted")
	})
}

// deaf is a book that goes on when its transaction is given up, until the commit.
type deaf struct{ *memoryBook }

func (b deaf) UpdateQuota(ctx context.Context, day time.Time, rule func(time.Time, *push.Quota)) error {
	<-time.After(time.Second)
	if err := ctx.Err(); err != nil {
		now := time.Now().UTC()
		rule(now, &push.Quota{Day: now.Truncate(24 * time.Hour)})
		return err
	}
	return b.memoryBook.UpdateQuota(ctx, day, rule)
}

func TestWhoComesWhileATransactionIsGivenUpIsServedByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{}
		line := newLine(deaf{book})
		counts := func(_ time.Time, q *push.Quota) time.Duration { q.Used++; return 0 }
		short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, line.do(short, time.Time{}, counts), context.DeadlineExceeded)
		require.NoError(t, line.do(t.Context(), time.Time{}, counts))
		assert.Equal(t, 1, book.used(time.Now().UTC()))
	})
}

func TestWhatKeepsTheBookFromBeingWrittenIsToldToAllInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := newSlowBook(time.Second)
		book.err = errors.New("no connection")
		line := newLine(book)
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				err := line.do(t.Context(), time.Time{}, func(time.Time, *push.Quota) time.Duration { return 0 })
				assert.ErrorIs(t, err, book.err)
			})
		}
		group.Wait()
		assert.LessOrEqual(t, book.asked, 2)
		book.takes = time.Hour
		began := time.Now()
		err := line.do(t.Context(), time.Time{}, func(time.Time, *push.Quota) time.Duration { return 0 })
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Equal(t, bookTimeout, time.Since(began))
	})
}

// An answer that belongs to another day is booked while today's requests wait for the
// minute's bucket, as around midnight, or with a server whose clock is hours off.
func TestWhoWaitsForTheMinuteKeepsNoOtherDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := NewLedger(newSlowBook(100*time.Millisecond), shareOf(0, 100), silent())
		grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.NoError(t, err)
		var group sync.WaitGroup
		for i := range 200 { // for ten seconds
			group.Go(func() {
				_, err := ledger.Admit(t.Context(), push.Ask{CompanyID: fmt.Sprintf("c%d", i)})
				assert.NoError(t, err)
			})
		}
		synctest.Wait() // until all of them stand in line
		began := time.Now()
		require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200, Date: grant.Day.Add(-time.Second)}))
		assert.Less(t, time.Since(began), time.Second)
		group.Wait()
	})
}

func TestWhatATransactionDoesAgainCountsOnce(t *testing.T) {
	book := &memoryBook{}
	ledger := NewLedger(again{book}, shareOf(0, 100), silent())
	grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
	require.NoError(t, err)
	require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200, Date: grant.Day.Add(-time.Second)}))
	assert.Equal(t, 0, book.used(grant.Day))
	assert.Equal(t, 1, book.used(grant.Day.Add(-24*time.Hour)))
}

// again is a book whose transactions are begun twice.
type again struct{ *memoryBook }

func (b again) UpdateQuota(ctx context.Context, day time.Time, rule func(time.Time, *push.Quota)) error {
	lost := &memoryBook{}
	if err := lost.UpdateQuota(ctx, day, rule); err != nil {
		return err
	}
	return b.memoryBook.UpdateQuota(ctx, day, rule)
}

func TestABookThatPanicsIsAnError(t *testing.T) {
	ledger := NewLedger(broken{}, shareOf(0, 1), silent())
	for range 2 {
		_, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.ErrorContains(t, err, "panic: torn")
	}
}

type broken struct{}

func (broken) UpdateQuota(_ context.Context, _ time.Time, _ func(time.Time, *push.Quota)) error {
	panic("torn")
}
