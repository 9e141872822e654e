package publisher

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
	"github.com/pushwatch/pushwatch/push"
)

const replayID = "00c0ffee5eeded01"

// history is a list of events.
type history []event.Message

func (h *history) Next(_ context.Context, max int) ([]event.Message, error) {
	n := min(max, len(*h))
	next := (*h)[:n]
	*h = (*h)[n:]
	return next, nil
}

// historyOf returns versions events of each of operations, all first ones first.
func historyOf(t *testing.T, operations, versions int) *history {
	var h history
	for v := range versions {
		for i := range operations {
			op := push.Operation{CompanyID: "c", Key: fmt.Sprintf("k%d", i), Status: push.Status(fmt.Sprintf("S%d", v))}
			m, err := event.Encode("codat.replay", "", event.Replayed(event.New("0badcafe", op, int64(v+1)), replayID))
			require.NoError(t, err)
			h = append(h, m)
		}
	}
	return &h
}

// forgetful returns a broker with a stream for replays that forgets ids after 100 ms.
func forgetful(t *testing.T, change ...func(*jetstream.StreamConfig)) *broker {
	b := startBroker(t)
	c := jetstream.StreamConfig{Name: "CODAT_PUSH", Subjects: []string{"codat.replay.>"}, Duplicates: 100 * time.Millisecond}
	for _, f := range change {
		f(&c)
	}
	_, err := api(t, dial(t, b.url())).CreateStream(t.Context(), c)
	require.NoError(t, err)
	return b
}

func openReplay(t *testing.T, url string, c ReplayConfig) *Replay {
	c.Prefix, c.ID = "codat.replay", replayID
	r, err := OpenReplay(t.Context(), dial(t, url), c)
	require.NoError(t, err)
	require.Empty(t, r.Warnings())
	return r
}

// onceEach asserts that the stream holds n messages, each id once, and those of
// an operation in the order of their versions.
func onceEach(t *testing.T, b *broker, n int) {
	t.Helper()
	versions := map[string]int64{}
	all := readAll(t, dial(t, b.url()))
	for _, m := range all {
		id, ok := event.ParseReplayedID(m.ID, replayID)
		require.True(t, ok, m.ID)
		assert.Equal(t, versions[id.Operation]+1, id.Version, m.ID)
		versions[id.Operation] = id.Version
	}
	assert.Len(t, all, n)
}

// pastWindow waits until the stream has forgotten every id.
func pastWindow(t *testing.T) {
	after := time.Now().Add(300 * time.Millisecond)
	require.Eventually(t, func() bool { return time.Now().After(after) }, time.Second, 10*time.Millisecond)
}

func TestAReplayWhoseEveryFirstAcknowledgementIsLostPublishesOnce(t *testing.T) {
	b := forgetful(t)
	p := startProxy(t, b.address())
	p.losing(firstOfEach())
	var wg sync.WaitGroup
	for range 2 { // the same one, twice at once
		r := openReplay(t, p.url(), ReplayConfig{Resumed: true})
		r.timeout = 200 * time.Millisecond
		h := historyOf(t, 300, 3)
		wg.Go(func() {
			result, err := r.Run(t.Context(), h)
			assert.NoError(t, err)
			assert.Equal(t, int64(900), result.Done())
		})
	}
	wg.Wait()
	assert.Positive(t, p.lost())
	onceEach(t, b, 900)
}

func TestAReplayThatIsRunAgainPublishesNothing(t *testing.T) {
	b := forgetful(t)
	var told int64
	result, err := openReplay(t, b.url(), ReplayConfig{Progress: func(n int64) { told = n }}).Run(t.Context(), historyOf(t, 20, 3))
	require.NoError(t, err)
	assert.Equal(t, ReplayResult{Published: 60}, result)
	assert.Equal(t, int64(60), told)
	pastWindow(t)
	r := openReplay(t, b.url(), ReplayConfig{Resumed: true})
	result, err = r.Run(t.Context(), historyOf(t, 20, 3))
	require.NoError(t, err)
	assert.Equal(t, ReplayResult{Already: 60}, result)
	onceEach(t, b, 60)

	r.look = false // without it, everything is there twice
	result, err = r.Run(t.Context(), historyOf(t, 20, 3))
	require.NoError(t, err)
	assert.Equal(t, int64(60), result.Published)
}

func TestAMessageThatIsLateIsRefusedByTheExpectedSequence(t *testing.T) {
	for _, cas := range []bool{true, false} {
		b := forgetful(t)
		late, events := openReplay(t, b.url(), ReplayConfig{}), *historyOf(t, 5, 1)
		open := make([]attempt, len(events))
		for i := range events {
			open[i] = attempt{pending: &event.Pending{Message: events[i]}}
		}
		absent, err := late.absent(t.Context(), open, true)
		require.NoError(t, err)
		require.Len(t, absent, 5)
		_, err = openReplay(t, b.url(), ReplayConfig{Resumed: true}).Run(t.Context(), historyOf(t, 5, 1))
		require.NoError(t, err)
		pastWindow(t)
		for _, answer := range publish(late.stream, late.is.Name, absent, cas, replayTimeout) {
			assert.Equal(t, !cas, answer.outcome == stored)
		}
		assert.Len(t, readAll(t, dial(t, b.url())), map[bool]int{true: 5, false: 10}[cas])
	}
}

func TestAnIdWithinTheWindowCountsAsPublishedThoughItsMessageIsGone(t *testing.T) {
	b := forgetful(t, func(c *jetstream.StreamConfig) { c.Duplicates = time.Minute })
	_, err := openReplay(t, b.url(), ReplayConfig{}).Run(t.Context(), historyOf(t, 5, 1))
	require.NoError(t, err)
	stream, err := api(t, dial(t, b.url())).Stream(t.Context(), "CODAT_PUSH")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	result, err := openReplay(t, b.url(), ReplayConfig{Resumed: true}).Run(t.Context(), historyOf(t, 5, 1))
	require.NoError(t, err)
	assert.Equal(t, ReplayResult{Already: 5}, result)
}

func TestAReplayIntoAFullStreamSaysHowToMakeRoom(t *testing.T) {
	b := forgetful(t, func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 3, jetstream.DiscardNew })
	result, err := openReplay(t, b.url(), ReplayConfig{}).Run(t.Context(), historyOf(t, 5, 1))
	require.ErrorContains(t, err, "nats stream edit CODAT_PUSH --max-msgs=6")
	assert.Equal(t, ReplayResult{Published: 3}, result)
}

func TestAReplayGivesUpWhenNothingGoesForward(t *testing.T) {
	b := forgetful(t)
	r := openReplay(t, b.url(), ReplayConfig{})
	r.give, r.timeout = time.Second, 100*time.Millisecond
	b.stop()
	_, err := r.Run(t.Context(), historyOf(t, 5, 1))
	var unavailable *UnavailableError
	require.ErrorAs(t, err, &unavailable)
	assert.ErrorContains(t, err, "CODAT_PUSH")
	b.start() // for the cleanup
}

func TestAReplayGoesOnWhenItsServerIsBack(t *testing.T) {
	b := forgetful(t)
	p := startProxy(t, b.address())
	broken := false
	p.breakingAt(func(payload []byte) bool {
		first := faultproxy.Acknowledged(payload) > 100 && !broken
		broken = broken || first
		return first
	})
	result, err := openReplay(t, p.url(), ReplayConfig{}).Run(t.Context(), historyOf(t, 400, 2))
	require.NoError(t, err)
	assert.Equal(t, int64(800), result.Done())
	assert.Greater(t, p.accepted(), 1, "the connection was broken")
	onceEach(t, b, 800)
}

func TestAReplayThatIsStoppedEndsWithItsBatch(t *testing.T) {
	b := forgetful(t)
	ctx, cancel := context.WithCancel(t.Context())
	r := openReplay(t, b.url(), ReplayConfig{Progress: func(int64) { cancel() }})
	result, err := r.Run(ctx, historyOf(t, 1000, 1))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, int64(replayBatch), result.Published)
	onceEach(t, b, replayBatch)
}

func TestABatchHoldsOneEventOfAnOperation(t *testing.T) {
	for want, filters := range map[int][]string{0: {}, 1: {"a", "a", "b"}, 2: {"a", "b", "a"}, 3: {"a", "b", "c"}} {
		events := make([]event.Message, len(filters))
		for i, filter := range filters {
			events[i].Filter = filter
		}
		assert.Equal(t, want, distinct(events), "%v", filters)
	}
}

func TestTheRateIsKeptAndLostTimeIsNotMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &Replay{config: ReplayConfig{Rate: 5, Now: time.Now}}
		start := time.Now()
		due := r.next(start, start, 10)
		require.NoError(t, wait(t.Context(), time.Until(due)))
		assert.Equal(t, 2*time.Second, time.Since(start))
		late := start.Add(time.Minute)
		assert.Equal(t, late.Add(time.Second), r.next(due, late, 5))
		r.config.Rate = 0
		assert.Equal(t, late, r.next(due, late, 5))
	})
}

func TestAReplayPrefixStaysAwayFromTheLiveOne(t *testing.T) {
	for prefix, says := range map[string]string{
		"codat.replay": "", "codat.pushes": "", "codat.pus": "", "x": "", "push.codat": "", "codat.a.push": "",
		"codat.push": "overlaps", "codat": "overlaps", "codat.push.c": "overlaps", "codat.push.c.d.e.f.g": "overlaps",
		"*": "overlaps", ">": "overlaps", "codat.*": "overlaps", "codat.>": "overlaps", "*.push": "overlaps", "*.*.x": "overlaps",
		"other.*": "wildcards", "codat.replay.>": "wildcards", "a*": "wildcards",
		"": "not a subject prefix", "a..b": "not a subject prefix", ".a": "not a subject prefix", "a.": "not a subject prefix",
		"a b": "not a subject prefix", "a\nb": "not a subject prefix", "é": "not a subject prefix",
		"$JS.API": "reserved", "$SYS": "reserved", "_INBOX.x": "reserved",
	} {
		err := CheckReplayPrefix(prefix, "codat.push")
		if says == "" {
			require.NoError(t, err, prefix)
		} else {
			require.ErrorContains(t, err, says, prefix)
		}
	}
}
