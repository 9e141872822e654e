package publisher

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
)

func TestAPassTakesBatchAfterBatchSeveralAtOnce(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	o.fill(1000, 1)
	together := &meeting{Outbox: o, want: 3, met: make(chan struct{})}
	r := newRelay(t, ensure(t, nc), together, func(c *Config) { c.Batch, c.Flights = 100, 3 })

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 1000, Recorded: 1000}, result)
	assert.Equal(t, 3, together.most)
	o.finished(t, readAll(t, nc))
}

// meeting holds up what is recorded until so many batches are under way.
type meeting struct {
	Outbox
	want      int
	met       chan struct{}
	mu        sync.Mutex
	now, most int
}

func (m *meeting) Sent(ctx context.Context, sent []event.Sent) (int, error) {
	m.mu.Lock()
	m.now++
	m.most = max(m.most, m.now)
	if m.now == m.want && m.want > 0 {
		m.want = 0
		close(m.met)
	}
	m.mu.Unlock()
	select {
	case <-m.met:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.now--
	}()
	return m.Outbox.Sent(ctx, sent)
}

// The later versions of an operation follow in the same pass, each behind the one
// before it, as far as that has been recorded when they are read.
func TestOperationsWithManyVersionsAreSoundInAnyBatches(t *testing.T) {
	for _, batch := range []int{1, 7, 64} {
		nc := dial(t, startBroker(t).url())
		o := newOutbox()
		o.fill(20, 4)
		drain(t, newRelay(t, ensure(t, nc), o, func(c *Config) { c.Batch, c.Flights = batch, 4 }), o)
		o.finished(t, readAll(t, nc))
	}
}

func TestAPassGoesNoFurtherAfterTrouble(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(1000, 1)
	o.arm(o.before, "Sent", 1)
	r := newRelay(t, s, o, func(c *Config) { c.Batch, c.Flights = 10, 1 })

	result, err := r.RunOnce(t.Context())

	require.ErrorIs(t, err, errFault)
	assert.LessOrEqual(t, result.Taken, 30, "what was read before the trouble was known")
	drain(t, r, o)
	o.finished(t, readAll(t, nc))
}

// What was committed late, at a place that the pass is past, waits for its end.
func TestALongPassEndsSoThatWhatCameLateHasItsTurn(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	o.fill(200, 1)

	result, err := newRelay(t, ensure(t, nc), o, func(c *Config) { c.Batch = 1 }).RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: passBatches, Recorded: passBatches}, result)
}

// What the stream may have lost comes before anything else, also in the middle of
// a long backlog.
func TestAPassEndsWhereThereIsAReasonForAnAudit(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(1000, 1)
	r := newRelay(t, s, o, func(c *Config) {
		c.Stream, c.Archive, c.Batch, c.Flights = &reconnecting{Stream: s, after: 3}, empty{}, 10, 1
	})

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.LessOrEqual(t, result.Taken, 60)
	drain(t, r, o)
	o.finished(t, readAll(t, nc))
}

// empty is an archive that keeps nothing.
type empty struct{ Archive }

func (empty) Buckets() uint64 { return 1 }

func (empty) Newest(context.Context, time.Duration, int) ([]event.Kept, error) { return nil, nil }

// reconnecting is a stream whose connection breaks after some batches.
type reconnecting struct {
	Stream
	mu    sync.Mutex
	after int
}

func (s *reconnecting) Publish(messages []*nats.Msg, atomic bool, timeout time.Duration) []Reply {
	s.mu.Lock()
	s.after--
	s.mu.Unlock()
	return s.Stream.Publish(messages, atomic, timeout)
}

func (s *reconnecting) Reconnects() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.after > 0 {
		return 0
	}
	return 1
}
