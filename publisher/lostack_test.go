package publisher

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
)

// lossy runs the experiment E2: two relays race for every event of one outbox,
// the first acknowledgement of every message is lost on the wire, every event's
// first record is lost as by a crash, and the stream has forgotten the message
// id by the time of the next attempt.
func lossy(t *testing.T, operations int, cas bool) (*outbox, []StoredMessage, [2]*Relay) {
	b := startBroker(t)
	nc := dial(t, b.url())
	shortWindow(t, nc)
	o := newOutbox()
	o.fill(operations, 3)
	forgetful := &amnesia{outbox: o, seen: map[string]bool{}}
	var relays [2]*Relay
	p := startProxy(t, b.address())
	p.losing(firstOfEach())
	for i := range relays {
		s, _, err := EnsureStream(t.Context(), dial(t, p.url()), streamConfig())
		require.NoError(t, err)
		relays[i] = newRelay(t, s, forgetful, func(c *Config) { c.AckTimeout = 200 * time.Millisecond })
		relays[i].cas = cas
	}
	var wg sync.WaitGroup
	for _, r := range relays {
		wg.Go(func() {
			for range 1000 {
				if _, pending, _ := o.count(); pending == 0 {
					return
				}
				_, _ = r.RunOnce(t.Context())
			}
		})
	}
	wg.Wait()
	assert.Positive(t, p.lost()) // on a busy machine some come too late instead, and are as lost
	return o, readAll(t, nc), relays
}

// amnesia loses the first attempt to record each event before its effect: what a
// crash between acknowledgement and record leaves behind.
type amnesia struct {
	*outbox
	mu   sync.Mutex
	seen map[string]bool
}

func (a *amnesia) Sent(ctx context.Context, sent []event.Sent) (int, error) {
	a.mu.Lock()
	var known []event.Sent
	for _, s := range sent {
		if a.seen[s.Pending.ID] {
			known = append(known, s)
		}
		a.seen[s.Pending.ID] = true
	}
	a.mu.Unlock()
	return a.outbox.Sent(ctx, known)
}

func TestLostAcknowledgementsAndRacingRelaysDuplicateNothing(t *testing.T) {
	o, messages, relays := lossy(t, 400, true)

	o.finished(t, messages)
	assert.Len(t, messages, 1200)
	// Every event met itself in the stream at least once.
	assert.GreaterOrEqual(t, resolved(relays[0], byFound)+resolved(relays[1], byFound), 1200.0)
}

// The test above proves something only if it fails without the mechanism.
func TestWithoutTheExpectedSequenceTheSameDuplicates(t *testing.T) {
	_, messages, _ := lossy(t, 100, false)

	ids := map[string]bool{}
	for _, m := range messages {
		ids[m.ID] = true
	}
	assert.Len(t, ids, 300, "nothing is lost even so")
	assert.Greater(t, len(messages), len(ids), "duplicates")
}
