package poller

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestWhatCannotBeKeptIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, daily)
		s.poller.plan.Load().Discover = s.poller.plan.Load().Track // every minute
		s.store.others = append(s.store.others, caughtUp("good"))
		refused := step{call: "record", company: "c"}
		s.during(func(_ context.Context, at step) error {
			if at == refused {
				return errStaged
			}
			return nil
		})
		stop := s.run()
		defer stop()
		synctest.Wait()
		ok, _, _ := s.poller.Keeping()
		assert.True(t, ok, "nothing was tried yet")
		first := time.Now().Truncate(time.Minute).Add(time.Minute) // the next tick
		time.Sleep(10 * time.Minute)
		ok, reason, since := s.poller.Keeping()
		assert.False(t, ok)
		assert.Contains(t, reason, "what was seen cannot be kept: staged")
		assert.Equal(t, first, since, "the first of many, whatever of other companies is kept")

		s.during(nil)
		time.Sleep(time.Minute)
		ok, reason, _ = s.poller.Keeping()
		assert.True(t, ok, reason)
	})
}

// TestACompanyThatWasTakenAwayIsNoTrouble: its new holder's fence refuses the look.
func TestACompanyThatWasTakenAwayIsNoTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, daily)
		s.poller.plan.Load().Discover = s.poller.plan.Load().Track // every minute
		gone := make(chan struct{})
		s.store.others = append(s.store.others, caughtUp("taken"))
		s.during(func(_ context.Context, at step) error {
			if at == (step{call: "record", company: "taken"}) {
				<-gone
				return errStaged
			}
			return nil
		})
		stop := s.run()
		defer stop()
		time.Sleep(time.Minute)
		s.reassign()
		synctest.Wait()
		close(gone)
		time.Sleep(time.Minute)
		ok, reason, _ := s.poller.Keeping()
		assert.True(t, ok, reason)
	})
}

func TestClocksThatDifferAreToldOnceAnHour(t *testing.T) {
	b := newBench(t, 10)
	now := midday
	var log bytes.Buffer
	b.poller.config.Now, b.poller.config.Logger = func() time.Time { return now }, slog.New(slog.NewTextHandler(&log, nil))
	told := func() int { return strings.Count(log.String(), `level=WARN msg="Codat's clock and ours differ"`) }
	for _, ahead := range []time.Duration{0, -2 * time.Second, time.Second} {
		b.poller.compareClocks(ahead)
	}
	assert.Zero(t, told())
	for _, ahead := range []time.Duration{-3 * time.Second, 0, time.Minute} { // a slow answer in between proves nothing
		b.poller.compareClocks(ahead)
	}
	assert.Equal(t, 1, told(), log.String())
	assert.Contains(t, log.String(), "codat_ahead=-3s")
	now = now.Add(time.Hour)
	b.poller.compareClocks(time.Minute)
	assert.Equal(t, 2, told())
}
