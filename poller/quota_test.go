package poller

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

var midday = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func today(q push.Quota) push.Quota {
	q.Day = midday.Truncate(24 * time.Hour)
	return q
}

func number(n int) *int { return &n }

func TestAdmit(t *testing.T) {
	r := rules{reserve: 0.5, companies: 3}
	cases := []struct {
		name    string
		q       push.Quota
		purpose push.Purpose
		granted bool
		kind    push.Kind
		until   time.Time
	}{
		{name: "the first request of a day is granted", granted: true},
		{name: "before the first answer the limit is 1000 for the client and for each company",
			q: push.Quota{Used: 1999}, granted: true},
		{name: "and its share ends there", q: push.Quota{Used: 2000}, kind: push.KindQuota, until: midday.Add(12 * time.Hour)},
		{name: "an answered limit replaces the formula", q: push.Quota{Used: 50, Limit: number(100)},
			kind: push.KindQuota, until: midday.Add(12 * time.Hour)},
		{name: "three per cent remaining are left alone", q: push.Quota{Limit: number(1000), Remaining: number(30)},
			kind: push.KindQuota, until: midday.Add(12 * time.Hour)},
		{name: "one more is not", q: push.Quota{Limit: number(1000), Remaining: number(31)}, granted: true},
		{name: "walks stop at a fifth of the share", q: push.Quota{UsedWalks: 400, Used: 400}, purpose: push.ForSweep,
			kind: push.KindQuota, until: midday.Add(12 * time.Hour)},
		{name: "other purposes do not", q: push.Quota{UsedWalks: 400, Used: 400}, purpose: push.ForTrack, granted: true},
		{name: "a pause holds for every replica", q: push.Quota{BlockedUntil: midday.Add(time.Second), BlockedBy: push.KindThrottled},
			kind: push.KindThrottled, until: midday.Add(time.Second)},
		{name: "and ends", q: push.Quota{BlockedUntil: midday, BlockedBy: push.KindThrottled}, granted: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			q := today(c.q)
			used := q.Used
			got := r.admit(midday, &q, push.Ask{Purpose: c.purpose})
			assert.Equal(t, c.granted, got.granted)
			assert.Equal(t, c.kind, got.kind)
			assert.Equal(t, c.until, got.until)
			if c.granted {
				assert.Equal(t, used+1, q.Used)
				assert.Empty(t, q.BlockedBy)
			} else {
				assert.Equal(t, used, q.Used)
			}
		})
	}
}

func TestAClockThatIsSetBackStopsNothing(t *testing.T) {
	r := rules{companies: 10}
	q := today(push.Quota{})
	for r.admit(midday, &q, push.Ask{}).granted { // to the end of the burst
	}
	back := midday.Add(-time.Hour)
	said := r.admit(back, &q, push.Ask{})
	assert.False(t, said.granted, "as little as if the burst had been then")
	assert.Equal(t, slot, said.wait)
	assert.True(t, r.admit(back.Add(slot), &q, push.Ask{}).granted)
}

func TestARefusedKeyIsTriedOnceInFiveMinutes(t *testing.T) {
	r := rules{companies: 1}
	q := today(push.Quota{})
	r.settle(midday, &q, push.Ask{}, push.Answer{Status: 401}, 0)
	assert.False(t, r.admit(midday.Add(4*time.Minute), &q, push.Ask{}).granted)
	assert.True(t, r.admit(midday.Add(5*time.Minute), &q, push.Ask{}).granted)
	again := r.admit(midday.Add(5*time.Minute+time.Second), &q, push.Ask{})
	assert.False(t, again.granted)
	assert.Equal(t, push.KindUnauthorised, again.kind)
	r.settle(midday.Add(5*time.Minute+2*time.Second), &q, push.Ask{}, push.Answer{Status: 200}, 0)
	assert.True(t, r.admit(midday.Add(5*time.Minute+3*time.Second), &q, push.Ask{}).granted)
}

func TestAPersonMayTryAKeyWhileAnotherIsRefused(t *testing.T) {
	r := rules{companies: 1}
	person := push.Ask{Purpose: push.ForUser}
	q := today(push.Quota{})
	r.settle(midday, &q, person, push.Answer{Status: 401}, 0)
	assert.True(t, r.admit(midday, &q, push.Ask{}).granted, "a slip at the command line does not stop the daemons")

	r.settle(midday, &q, push.Ask{}, push.Answer{Status: 403}, 0)
	pausedUntil := q.BlockedUntil
	assert.True(t, r.admit(midday.Add(time.Second), &q, person).granted)
	assert.Equal(t, pausedUntil, q.BlockedUntil, "it is not the daemons' one request in five minutes")
	r.settle(midday.Add(2*time.Second), &q, person, push.Answer{Status: 200}, 0)
	assert.True(t, r.admit(midday.Add(3*time.Second), &q, push.Ask{}).granted, "a key that is taken clears the way")

	r.settle(midday, &q, push.Ask{}, push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: time.Minute}, 0)
	assert.False(t, r.admit(midday.Add(4*time.Second), &q, person).granted, "a pause that Codat asks for holds for people too")
}

func TestSettle(t *testing.T) {
	r := rules{companies: 1}
	t.Run("Retry-After pauses all, at most until the reset", func(t *testing.T) {
		q := today(push.Quota{})
		r.settle(midday, &q, push.Ask{}, push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: time.Minute}, 0)
		assert.Equal(t, midday.Add(time.Minute), q.BlockedUntil)
		r.settle(midday, &q, push.Ask{}, push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: time.Second}, 0)
		assert.Equal(t, midday.Add(time.Minute), q.BlockedUntil, "a shorter pause does not end a longer one")
		r.settle(midday, &q, push.Ask{}, push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: 20 * time.Hour}, 0)
		assert.Equal(t, midday.Add(12*time.Hour), q.BlockedUntil)
	})
	t.Run("what was under way when a pause began does not end it", func(t *testing.T) {
		throttled := push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: 10 * time.Minute}
		soon := push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: time.Minute}
		for name, c := range map[string]struct {
			answers []push.Answer
			pause   time.Duration
			kind    push.Kind
		}{
			"refused, taken":                  {[]push.Answer{{Status: 403}, {Status: 200}}, 0, ""},
			"throttled, refused":              {[]push.Answer{throttled, {Status: 403}}, 10 * time.Minute, push.KindThrottled},
			"throttled, refused, taken":       {[]push.Answer{throttled, {Status: 403}, {Status: 200}}, 10 * time.Minute, push.KindThrottled},
			"refused, throttled, taken":       {[]push.Answer{{Status: 401}, throttled, {Status: 200}}, 10 * time.Minute, push.KindThrottled},
			"refused, throttled less, taken":  {[]push.Answer{{Status: 402}, soon, {Status: 200}}, 5 * time.Minute, push.KindThrottled},
			"throttled less, refused, longer": {[]push.Answer{soon, {Status: 402}, throttled}, 10 * time.Minute, push.KindThrottled},
		} {
			q := today(push.Quota{})
			for _, a := range c.answers {
				r.settle(midday, &q, push.Ask{}, a, 0)
			}
			if c.pause == 0 {
				assert.Zero(t, q.BlockedUntil, name)
			} else {
				assert.Equal(t, midday.Add(c.pause), q.BlockedUntil, name)
			}
			assert.Equal(t, c.kind, q.BlockedBy, name)
		}
		q := today(push.Quota{BlockedUntil: midday.Add(time.Minute), BlockedBy: push.KindThrottled})
		r.settle(midday.Add(time.Minute), &q, push.Ask{}, push.Answer{Status: 403}, 0)
		assert.Equal(t, push.KindForbidden, q.BlockedBy, "a pause that is over says nothing")
	})
	t.Run("answers that overtake each other leave the least that remains", func(t *testing.T) {
		q := today(push.Quota{})
		for _, remaining := range []int{900, 700, 800} {
			r.settle(midday, &q, push.Ask{}, push.Answer{Status: 200, Limits: push.Limits{Limit: number(1000), Remaining: &remaining}}, 0)
		}
		assert.Equal(t, 700, *q.Remaining)
		r.settle(midday, &q, push.Ask{}, push.Answer{Status: 200, Limits: push.Limits{Limit: number(2000), Remaining: number(1700)}}, 0)
		assert.Equal(t, 1700, *q.Remaining, "another limit starts anew")
	})
}

func TestA429ThatDoesNotSayPausesLongerEachTimeUpToTheReset(t *testing.T) {
	refused := push.Answer{Status: 429}
	var longest time.Duration
	for n := range 12 {
		most := time.Second + min(longestBackoff, 2*time.Second<<min(n+1, 10))
		seen := map[time.Duration]bool{}
		for range 50 {
			ledger := NewLedger(&memoryBook{}, shareOf(0.5, 1), silent())
			ledger.storm.steps = n
			pause := ledger.backoff(midday, refused)
			assert.GreaterOrEqual(t, pause, time.Second)
			assert.LessOrEqual(t, pause, most)
			seen[pause], longest = true, max(longest, pause)
		}
		assert.Greater(t, len(seen), 40, "replicas that met the same 429 do not come back at once")
	}
	assert.Greater(t, longest, time.Minute)

	ledger := NewLedger(&memoryBook{}, shareOf(0.5, 1), silent())
	clock := midday
	later := func() time.Time { clock = clock.Add(time.Minute); return clock }
	for range 5 {
		ledger.backoff(later(), refused)
		ledger.paused(later())
	}
	assert.Equal(t, 5, ledger.storm.steps)
	assert.Zero(t, ledger.backoff(later(), push.Answer{Status: 200}))
	pause := ledger.backoff(later(), refused)
	assert.LessOrEqual(t, pause, 5*time.Second, "an answer in between ends the storm")
	before := later()
	for range 10 {
		assert.Equal(t, pause, ledger.backoff(before, refused), "admitted while the pause was not committed yet")
	}
	ledger.paused(later())
	assert.Equal(t, pause, ledger.backoff(before, refused), "what was under way meanwhile is the same storm")
	assert.Equal(t, pause, ledger.backoff(ledger.storm.since, refused), "and what the same transaction admitted")
	assert.Zero(t, ledger.backoff(before, push.Answer{Status: 200}), "and does not end it")
	ledger.backoff(later(), refused)
	assert.Equal(t, 2, ledger.storm.steps)

	late := midday.Add(12*time.Hour - time.Second)
	q := today(push.Quota{})
	rules{companies: 1}.settle(late, &q, push.Ask{}, refused, 5*time.Minute)
	assert.Equal(t, midday.Add(12*time.Hour), q.BlockedUntil, "not beyond the reset")
}

// memoryBook is a Book in memory on the bubble's clock.
type memoryBook struct {
	mu   sync.Mutex
	gate push.Quota
	days map[time.Time]push.Quota
}

func (b *memoryBook) UpdateQuota(_ context.Context, day time.Time, rule func(time.Time, *push.Quota)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now().UTC()
	if day.IsZero() {
		day = now
	}
	day = day.Truncate(24 * time.Hour)
	if b.days == nil {
		b.days = map[time.Time]push.Quota{}
	}
	q := b.days[day]
	q.Day, q.NextSlot, q.BlockedUntil, q.BlockedBy = day, b.gate.NextSlot, b.gate.BlockedUntil, b.gate.BlockedBy
	rule(now, &q)
	b.days[day], b.gate = q, q
	return nil
}

func (b *memoryBook) used(day time.Time) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.days[day.Truncate(24*time.Hour)].Used
}

func silent() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestEightReplicasNeverExceedTheMinuteNorTheDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{}
		var mu sync.Mutex
		var sent []time.Time
		var group sync.WaitGroup
		for range 8 {
			ledger := NewLedger(book, shareOf(0.5, 3), silent())
			group.Go(func() {
				for {
					grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
					if err != nil {
						var ask *push.AskError
						assert.ErrorAs(t, err, &ask)
						assert.Equal(t, push.KindQuota, ask.Kind)
						return
					}
					mu.Lock()
					sent = append(sent, time.Now())
					mu.Unlock()
					assert.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200}))
				}
			})
		}
		group.Wait()
		require.Len(t, sent, 2000, "half of 1000 x (1 + 3)")
		for i, at := range sent {
			if i >= perMinute+burst {
				assert.Greater(t, at.Sub(sent[i-perMinute-burst]), 59*time.Second)
			}
		}
	})
}

// TestFiveRequestsAtOnceForACompany: the company's next holder begins while those of
// a replica that died are still being answered, and Codat takes ten.
func TestFiveRequestsAtOnceForACompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := NewLedger(&memoryBook{}, shareOf(0, 1), silent())
		var first push.Grant
		for i := range 5 {
			grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
			require.NoError(t, err)
			if i == 0 {
				first = grant
			}
		}
		admitted := make(chan error, 1)
		go func() { _, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"}); admitted <- err }()
		synctest.Wait()
		require.Empty(t, admitted, "the sixth waits")
		_, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "other"})
		require.NoError(t, err, "and holds up no other company")
		require.NoError(t, ledger.Settle(t.Context(), first, push.Answer{Status: 200}))
		require.NoError(t, <-admitted)
	})
}

// TestARequestThatNobodyWaitsForIsNotCounted whatever is free at that moment.
func TestARequestThatNobodyWaitsForIsNotCounted(t *testing.T) {
	book := &memoryBook{}
	ledger := NewLedger(book, shareOf(0, 1), silent())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 100 {
		_, err := ledger.Admit(ctx, push.Ask{CompanyID: "c"})
		require.ErrorIs(t, err, context.Canceled)
	}
	assert.Empty(t, book.days)
}

func TestAnAnswerBelongsToTheDayOfItsDateHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &memoryBook{}
		ledger := NewLedger(book, shareOf(0, 1), silent())
		grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.NoError(t, err)
		tomorrow := grant.Day.Add(24*time.Hour + time.Second)
		require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200, Date: tomorrow,
			Limits: push.Limits{Limit: number(500), Remaining: number(499)}}))
		assert.Equal(t, 0, book.used(grant.Day))
		assert.Equal(t, 1, book.used(tomorrow))
		assert.Equal(t, 500, *book.days[tomorrow.Truncate(24*time.Hour)].Limit)
	})
}

func TestWhatAnAnswerSaysOfLimitsUnreadablyIsCounted(t *testing.T) {
	ledger := NewLedger(&memoryBook{}, shareOf(0.5, 1), silent())
	grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
	require.NoError(t, err)
	require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200, Unreadable: []string{"Date", "Retry-After"}}))
	assert.Equal(t, 1, int(testutil.ToFloat64(ledger.Ignored.WithLabelValues("Date"))))
	assert.Equal(t, 2, testutil.CollectAndCount(ledger.Ignored))
	problems, err := testutil.CollectAndLint(ledger.Ignored)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

// A server whose clock is hours off ours counts by its own days: what is spent on
// one of them must stop us though our own day's row says nothing of it.
func TestTheShareHoldsWhateverTheDateHeaderSays(t *testing.T) {
	const share = 1000 // half of 1000 x (1 + 1)
	for name, c := range map[string]struct {
		start time.Duration // of the day
		ahead time.Duration // the server's clock
		wait  time.Duration // until it may go on
	}{
		"the same":                         {12 * time.Hour, 0, 12 * time.Hour},
		"three hours ahead":                {12 * time.Hour, 3 * time.Hour, 12 * time.Hour},
		"three hours ahead, in its day":    {22 * time.Hour, 3 * time.Hour, 23 * time.Hour},
		"three hours behind, in its day":   {time.Hour, -3 * time.Hour, 2 * time.Hour},
		"half a day behind, in its day":    {time.Hour, -12 * time.Hour, 11 * time.Hour},
		"decades behind, which is no time": {12 * time.Hour, -50 * 365 * 24 * time.Hour, 12 * time.Hour},
		"years ahead, which is no time":    {12 * time.Hour, 5 * 365 * 24 * time.Hour, 12 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(c.start) // the bubble begins at midnight
				ledger := NewLedger(&memoryBook{}, shareOf(0.5, 1), silent())
				sent := 0
				for ; sent <= 2*share; sent++ {
					grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
					if err != nil {
						var ask *push.AskError
						require.ErrorAs(t, err, &ask)
						assert.Equal(t, push.KindQuota, ask.Kind)
						assert.WithinDuration(t, time.Now().Add(c.wait), ask.Until, 5*time.Minute)
						break
					}
					require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 200, Date: time.Now().UTC().Add(c.ahead)}))
				}
				assert.Equal(t, share, sent)
			})
		})
	}
}

func TestHealthTellsWhyNothingIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := NewLedger(&memoryBook{}, shareOf(0, 1), silent())
		grant, err := ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.NoError(t, err)
		require.NoError(t, ledger.Settle(t.Context(), grant, push.Answer{Status: 429, HasRetryAfter: true, RetryAfter: time.Minute}))
		_, err = ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.Error(t, err)
		ok, reason, _ := ledger.Health()
		assert.False(t, ok)
		assert.Contains(t, reason, "throttled")
		time.Sleep(time.Minute)
		_, err = ledger.Admit(t.Context(), push.Ask{CompanyID: "c"})
		require.NoError(t, err)
		ok, _, _ = ledger.Health()
		assert.True(t, ok)
	})
}

func TestTheShareIsWholeWhateverBinaryFractionsSay(t *testing.T) {
	for reserve, want := range map[float64]int{0: 1000, 0.5: 500, 0.7: 300, 0.8: 200, 0.9: 100, 0.95: 50, 0.333: 667, 0.3335: 666} {
		limit := 1000
		_, share := Share(push.Quota{Limit: &limit}, reserve, 1)
		assert.Equal(t, want, share, "reserve %v", reserve)
	}
}

func shareOf(reserve float64, companies int) func() (float64, int) {
	return func() (float64, int) { return reserve, companies }
}
