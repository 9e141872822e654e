package publisher

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// running runs the relay beside the test; the function it returns ends it and
// waits.
func running(t *testing.T, r *Relay) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		assert.NoError(t, <-done)
	})
	t.Cleanup(stop)
	return stop
}

func (o *outbox) empty() bool {
	_, pending, _ := o.count()
	return pending == 0
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, 20*time.Second, 5*time.Millisecond, what)
}

func TestLeftoversOfAnEarlierProcessArePublishedLikeAnythingElse(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(300, 2)
	r := newRelay(t, s, o)

	stop := running(t, r)

	eventually(t, "drained", o.empty)
	stop()
	o.finished(t, readAll(t, nc))
	ok, reason, _ := r.Health()
	assert.True(t, ok, reason)
}

func TestWakeIsFasterThanThePoll(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	r := newRelay(t, ensure(t, nc), o, func(c *Config) { c.Poll = time.Hour })
	running(t, r)
	eventually(t, "idle", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.calls["Pending"] > 0 })

	for range 3 {
		o.add("company", "key", "pending")
		r.Wake()
		r.Wake() // coalesces, never blocks
		r.Wake()
		eventually(t, "published", o.empty)
	}
}

func TestThePollFindsWhatNobodyAnnounced(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	r := newRelay(t, ensure(t, nc), o, func(c *Config) { c.Poll = 10 * time.Millisecond })
	running(t, r)
	eventually(t, "idle", func() bool { o.mu.Lock(); defer o.mu.Unlock(); return o.calls["Pending"] > 0 })

	o.add("company", "key", "pending")

	eventually(t, "published", o.empty)
}

func TestFailingRunsNeverEndTheRelay(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o, logs := newOutbox(), &lines{}
	o.fill(3, 1)
	o.before["Pending"] = 5
	r := newRelay(t, ensure(t, nc), o, func(c *Config) {
		c.Poll, c.Log = 10*time.Millisecond, slog.New(slog.NewTextHandler(logs, nil))
	})

	stop := running(t, r)

	eventually(t, "drained", o.empty)
	eventually(t, "healthy", func() bool { ok, _, _ := r.Health(); return ok })
	stop()
	o.finished(t, readAll(t, nc))
	assert.Equal(t, 1, logs.count("events cannot be published"), "five failures are one change of state")
	assert.Equal(t, 1, logs.count("events are being published again"))
}

// lines is a log that may be read while it is written.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(b)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), text)
}

func TestTheRelayOutlivesARestartOfTheServer(t *testing.T) {
	b := startBroker(t)
	p := startProxy(t, b.address())
	o := newOutbox()
	s := ensure(t, dial(t, p.url()))
	r := newRelay(t, s, o, func(c *Config) { c.Poll = 10 * time.Millisecond })
	stop := running(t, r)
	o.fill(50, 1)
	eventually(t, "published before", o.empty)
	p.point("")
	b.stop()
	o.fill(50, 1)
	eventually(t, "unhealthy", func() bool { ok, _, _ := r.Health(); return !ok })

	b.start()
	p.point(b.address())

	eventually(t, "published after", o.empty)
	eventually(t, "healthy", func() bool { ok, _, _ := r.Health(); return ok })
	stop()
	messages := readAll(t, dial(t, b.url()))
	o.finished(t, messages)
	assert.Len(t, messages, 100)
}

func TestTheEndWaitsForAcknowledgementsAndRecordsThem(t *testing.T) {
	b := startBroker(t)
	p := startProxy(t, b.address())
	o := newOutbox()
	r := newRelay(t, ensure(t, dial(t, p.url())), o)
	// The first acknowledgement is held back until the end has begun.
	held, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.losing(func(payload []byte) bool {
		if faultproxy.Acknowledged(payload) != 0 {
			once.Do(func() { close(held); <-release })
		}
		return false
	})
	o.fill(20, 2)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-held

	cancel()
	close(release)

	require.NoError(t, <-done)
	published, pending, _ := o.count()
	assert.Equal(t, 20, published, "what was under way is recorded")
	assert.Equal(t, 20, pending, "and nothing more was begun")
	o.check(t, readAll(t, dial(t, b.url())))
}

func TestTheEndDoesNotWaitForAcknowledgementsThatNeverCome(t *testing.T) {
	b := startBroker(t)
	p := startProxy(t, b.address())
	o := newOutbox()
	r := newRelay(t, ensure(t, dial(t, p.url())), o, func(c *Config) { c.AckTimeout = 300 * time.Millisecond })
	lost := make(chan struct{})
	var once sync.Once
	p.losing(func(payload []byte) bool {
		if faultproxy.Acknowledged(payload) == 0 {
			return false
		}
		once.Do(func() { close(lost) })
		return true
	})
	o.fill(20, 1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	<-lost

	cancel()

	require.NoError(t, <-done)
	published, pending, _ := o.count()
	assert.Zero(t, published)
	assert.Equal(t, 20, pending)
	p.losing(nil)
	drain(t, r, o) // the next process
	o.finished(t, readAll(t, dial(t, b.url())))
}

func TestBackoffGrowsUnderItsCap(t *testing.T) {
	longest := time.Duration(0)
	for failures := 1; failures < 100; failures++ {
		for range 20 {
			d := backoff(failures)
			require.Positive(t, d)
			require.LessOrEqual(t, d, longestBackoff)
			if failures == 1 {
				require.LessOrEqual(t, d, firstBackoff)
			}
			longest = max(longest, d)
		}
	}
	assert.Greater(t, longest, longestBackoff/2)
}

func TestOneEventThatFailsDoesNotSlowTheOthersDown(t *testing.T) {
	failure := errors.New("unknown answer")
	assert.Equal(t, 8, inARow(7, Result{Taken: 5}, failure))
	assert.Equal(t, 1, inARow(7, Result{Taken: 5, Recorded: 4}, failure))
	assert.Equal(t, 0, inARow(7, Result{}, nil))
}

func TestABrokenConnectionEndsTheWaitForAcknowledgements(t *testing.T) {
	b := startBroker(t)
	p := startProxy(t, b.address())
	o := newOutbox()
	o.fill(20, 1)
	r := newRelay(t, ensure(t, dial(t, p.url())), o, func(c *Config) { c.AckTimeout = time.Hour })
	p.breakingAt(everyAcknowledgement)
	done := make(chan error, 1)

	go func() { _, err := r.RunOnce(t.Context()); done <- err }()

	select {
	case err := <-done:
		require.ErrorIs(t, err, nats.ErrDisconnected)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "still waiting")
	}
}

func TestHealthTellsTroubleAndItsBeginningAndLogsChangesAlone(t *testing.T) {
	logs := &lines{}
	log := slog.New(slog.NewTextHandler(logs, nil))
	start := time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	h := &health{}
	h.start(start)
	report := func(after time.Duration, err error) { h.report(t.Context(), log, start.Add(after), err) }

	report(time.Second, nil)
	assert.True(t, h.ok)
	assert.Equal(t, start.Add(time.Second), h.since)
	for i := range 60 {
		report(time.Duration(2+i)*time.Second, errors.New("no room"))
	}
	assert.Equal(t, start.Add(2*time.Second), h.since, "trouble began at its first report")
	assert.Equal(t, "no room", h.reason)
	assert.Equal(t, 1, logs.count("no room"))
	report(62*time.Second, errors.New("gone"))
	assert.Equal(t, 1, logs.count("gone"), "another reason is news")
	report(63*time.Second, errors.New("no room"))
	assert.Equal(t, 1, logs.count("no room"), "but not at every turn")
	report(10*time.Minute, errors.New("no room"))
	assert.Equal(t, 2, logs.count("no room"), "what lasts is repeated")
	report(11*time.Minute, nil)
	report(12*time.Minute, nil)
	assert.Equal(t, 1, logs.count("again\" after=10m58s"))
	assert.Equal(t, start.Add(11*time.Minute), h.since)
}
