package publisher

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func always(c *Config) { c.Atomic = AtomicAlways }

func never(c *Config) { c.Atomic = AtomicNever }

const (
	oneByOne  = "one by one"
	inBatches = "in atomic batches"
)

// ways are the ways to publish what is more than one event.
var ways = map[string]func(*Config){oneByOne: never, inBatches: always}

func batches(r *Relay, outcome string) int {
	return int(testutil.ToFloat64(r.Metrics.batches.WithLabelValues(outcome)))
}

func TestAnAtomicBatchIsInTheStreamOnceAndInOrder(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(300, 3)
	r := newRelay(t, s, o, always)

	first, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 300, Recorded: 300}, first)
	drain(t, r, o)
	o.finished(t, readAll(t, nc))
	assert.Equal(t, 3, batches(r, batchStored))
	assert.Zero(t, batches(r, batchRefused)+batches(r, batchUnclear))
	assert.Zero(t, resolved(r, byFound))
}

// Whatever is wrong with one event, its neighbours are published all the same, and it
// has its own reason.
func TestOneEventThatTheStreamRefusesHoldsUpNobodyElse(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(20, 1)
	there := o.add("company", "there", "pending")
	known := nats.NewMsg(there.Subject)
	known.Data = there.Data
	known.Header.Set(jetstream.MsgIDHeader, there.ID)
	_, err := api(t, nc).PublishMsg(t.Context(), known)
	require.NoError(t, err)
	r := newRelay(t, s, o, always)

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 21, Recorded: 21}, result)
	assert.InDelta(t, 1, resolved(r, byFound), 0, "the server refuses the whole batch, and then that one")
	assert.Equal(t, 1, batches(r, batchRefused))

	o.fill(20, 1)
	subject := o.add("company", "subject", "pending")
	subject.Subject = "codat.push.with blank" // the client does not even send it

	result, err = r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 21, Recorded: 20, Rejected: 1}, result)
	assert.Equal(t, classBadMessage, subject.rejected)
	assert.Equal(t, 2, batches(r, batchRefused))
	o.check(t, readAll(t, nc))
}

func TestAStreamWithoutAtomicBatchesGetsNone(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	js := api(t, nc)
	s, o := ensure(t, nc), newOutbox()
	is, err := js.Stream(t.Context(), s.Name())
	require.NoError(t, err)
	c := is.CachedInfo().Config
	c.AllowAtomicPublish = false
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
	o.fill(100, 2)
	r := newRelay(t, s, o, always)

	drain(t, r, o)

	o.finished(t, readAll(t, nc))
	assert.Zero(t, batches(r, batchStored)+batches(r, batchRefused)+batches(r, batchUnclear))
}

// A batch whose acknowledgement is lost is found by reading back, whole.
func TestAnAtomicBatchWithoutAnAnswerIsReadBack(t *testing.T) {
	b := startBroker(t)
	direct := dial(t, b.url())
	shortWindow(t, direct)
	p := startProxy(t, b.address())
	s, _, err := EnsureStream(t.Context(), dial(t, p.url()), streamConfig())
	require.NoError(t, err)
	o := newOutbox()
	o.fill(50, 1)
	r := newRelay(t, s, o, always, func(c *Config) { c.AckTimeout = 200 * time.Millisecond })
	p.losing(firstOfEach())

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, 50, result.Recorded)
	assert.InDelta(t, 50, resolved(r, byFound), 0)
	assert.Equal(t, 1, batches(r, batchUnclear))
	o.finished(t, readAll(t, direct))
}

func TestWhatTheAnswerToABatchProves(t *testing.T) {
	for name, c := range map[string]struct {
		data  string
		first uint64
		is    outcome
		fails bool
	}{
		"all are stored":                     {`{"stream":"CODAT_PUSH","seq":9,"batch":"x","count":3}`, 7, stored, false},
		"they are the first of the stream":   {`{"stream":"CODAT_PUSH","seq":3,"batch":"x","count":3}`, 1, stored, false},
		"other ones than were sent":          {`{"stream":"CODAT_PUSH","seq":9,"batch":"x","count":2}`, 0, unclear, false},
		"one message alone":                  {`{"stream":"CODAT_PUSH","seq":9}`, 0, unclear, false},
		"more than the stream can hold":      {`{"stream":"CODAT_PUSH","seq":2,"batch":"x","count":3}`, 0, unclear, false},
		"another stream":                     {`{"stream":"OTHER","seq":9,"batch":"x","count":3}`, 0, unclear, false},
		"no JSON":                            {`+ACK`, 0, unclear, false},
		"empty":                              {``, 0, unclear, false},
		"a duplicate among them":             {`{"error":{"code":400,"err_code":10201,"description":"atomic publish batch contains duplicate message id"},"stream":"CODAT_PUSH","seq":0}`, 0, unclear, true},
		"a sequence that is another by now":  {`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"CODAT_PUSH","seq":0}`, 0, unclear, true},
		"an error that did not exist before": {`{"error":{"code":500,"err_code":19999,"description":"new"}}`, 0, unclear, true},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := classifyAtomic("CODAT_PUSH", 3, &nats.Msg{Data: []byte(c.data)})

			assert.Equal(t, c.fails, err != nil)
			assert.Equal(t, c.first, all.sequence)
			assert.Equal(t, c.is, all.outcome)
			if err != nil {
				assert.ErrorIs(t, err, errAtomic)
			}
		})
	}
	all, err := classifyAtomic("CODAT_PUSH", 3, &nats.Msg{Header: nats.Header{"Status": {"503"}}})
	require.NoError(t, err)
	assert.ErrorIs(t, all.err, nats.ErrNoResponders)
}

// The ways are compared at first, and again after some batches; in between the faster one
// is taken.
func TestTheFasterWayIsTaken(t *testing.T) {
	var p pace
	atomic, compare := p.next(fewestAtomic - 1)
	assert.False(t, atomic || compare)
	atomic, compare = p.next(fewestCompared - 1)
	assert.True(t, atomic)
	assert.False(t, compare, "too few to tell")
	for _, c := range []struct {
		single, atomic time.Duration
		want           bool
	}{
		{100 * time.Millisecond, 5 * time.Millisecond, true}, // the server syncs before it acknowledges
		{3 * time.Millisecond, 5 * time.Millisecond, false},  // it was changed
	} {
		_, compare = p.next(fewestCompared)
		require.True(t, compare)
		p.compared(c.single, c.atomic)
		for range batchesUntil {
			atomic, compare = p.next(1000)
			require.False(t, compare)
			require.Equal(t, c.want, atomic)
		}
	}
}

func TestBothWaysAreTriedWhereTheServerDoesNotTell(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(300, 3)
	r := newRelay(t, s, o)

	drain(t, r, o)

	o.finished(t, readAll(t, nc))
	assert.Positive(t, batches(r, batchStored))
	assert.Zero(t, batches(r, batchRefused)+batches(r, batchUnclear))
	_, err := New(Config{Stream: s, Outbox: o, Atomic: "sometimes"})
	assert.ErrorContains(t, err, `"sometimes"`)
}
