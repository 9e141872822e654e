package publisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// stage is what a fault is injected into.
type stage struct {
	*outbox
	proxy  *proxy
	broker *broker
}

// trouble breaks one step outside this process and repairs it.
type trouble struct{ breaks, repairs func(stage) }

func faults() map[string]trouble {
	table := map[string]trouble{
		"the connection is away": {
			func(s stage) { s.proxy.point("") },
			func(s stage) { s.proxy.point(s.broker.address()) },
		},
		"publishing: acknowledgements are lost": {
			func(s stage) { s.proxy.losing(everyAcknowledgement) },
			func(s stage) { s.proxy.losing(nil) },
		},
		"publishing: the connection breaks instead of the first acknowledgement": {
			func(s stage) { s.proxy.breakingAt(everyAcknowledgement) },
			func(s stage) { s.proxy.losing(nil) },
		},
	}
	for _, method := range []string{"Pending", "Sent", "Requeue", "Reject"} {
		table[method+" fails before its effect"] = trouble{
			func(s stage) { s.arm(s.before, method, 1) }, func(s stage) { s.arm(s.before, method, 0) }}
		table[method+" fails after its effect"] = trouble{
			func(s stage) { s.arm(s.after, method, 1) }, func(s stage) { s.arm(s.after, method, 0) }}
	}
	return table
}

// The script is the same for every fault: work, break and work, break and work
// again, repair and work. The stream is held against the outbox after every run,
// and has everything once and in order at the end.
func TestEveryStepMayFailBeforeOrAfterItsEffect(t *testing.T) {
	for name, fault := range faults() {
		for way, change := range ways {
			t.Run(name+", "+way, func(t *testing.T) { strike(t, fault, change) })
		}
	}
}

func strike(t *testing.T, fault trouble, way func(*Config)) {
	b := startBroker(t)
	direct := dial(t, b.url())
	shortWindow(t, direct)
	w := stage{newOutbox(), startProxy(t, b.address()), b}
	s, _, err := EnsureStream(t.Context(), dial(t, w.proxy.url()), streamConfig())
	require.NoError(t, err)
	r := newRelay(t, s, w.outbox, func(c *Config) { c.AckTimeout = 200 * time.Millisecond }, way)
	work := func() error {
		_, err := r.RunOnce(t.Context())
		w.check(t, readAll(t, direct))
		return err
	}
	w.fill(5, 2)
	require.NoError(t, work())
	for round := range 2 {
		key := []string{"first", "second"}[round]
		w.add("company", "large."+key, "pending").Data = make([]byte, maxEventSize+1) // to be rejected
		w.vanish(w.add("company", "lost."+key, "pending"))                            // to be requeued
		w.add("company", "lost."+key, "success")
		w.add("company", "plain."+key, "pending")
		fault.breaks(w)
		err := work()
		assert.True(t, err != nil || w.proxy.lost() > 0, "the fault did not strike")
		fault.repairs(w)
	}

	require.Eventually(t, func() bool {
		_ = work()
		_, pending, _ := w.count()
		return pending == 0
	}, 20*time.Second, 10*time.Millisecond)

	messages := readAll(t, direct)
	w.check(t, messages)
	_, _, rejected := w.count()
	assert.Equal(t, 2, rejected)
	assert.Len(t, messages, 10+2*3)
}
