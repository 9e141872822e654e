package main

import (
	"context"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// forgetfulOutbox loses the first attempt to record each event as published before
// its effect: what a crash between acknowledgement and record leaves behind.
type forgetfulOutbox struct {
	*store.Outbox
	shared *forgotten
}

type forgotten struct {
	mu  sync.Mutex
	ids map[string]bool
}

func (o forgetfulOutbox) Sent(ctx context.Context, sent []event.Sent) (int, error) {
	var known []event.Sent
	o.shared.mu.Lock()
	for _, s := range sent {
		if o.shared.ids[s.Pending.ID] {
			known = append(known, s)
		}
		o.shared.ids[s.Pending.ID] = true
	}
	o.shared.mu.Unlock()
	return o.Outbox.Sent(ctx, known)
}

// TestTenThousandEventsWithLostAcknowledgementsAreStoredOnce lets two relays race for
// every event of one database behind a pooler. The first acknowledgement of each
// event is lost on the wire, its first record is lost too, and the stream forgets
// message ids after 100 ms.
func TestTenThousandEventsWithLostAcknowledgementsAreStoredOnce(t *testing.T) {
	t.Parallel()
	broker := newDamageable(t)
	makePurgeable(t, broker) // for its short memory
	h := newHealing(t, broker, store.Config{}, true)
	leasing := begin(h.leases.Run)
	defer func() { require.NoError(t, leasing.end(context.WithoutCancel(t.Context()))) }()
	h.baseline()
	for _, status := range []push.Status{push.Pending, "Queued", "Sending", "Checking", push.Success} {
		h.look(h.operations(1, 2000, status)...)
	}

	address, err := url.Parse(broker.running.ClientURL())
	require.NoError(t, err)
	proxy, err := faultproxy.NATS(faultproxy.To("tcp", address.Host))
	require.NoError(t, err)
	defer proxy.Close()
	heard := proxy.LoseFirst()
	shared := &forgotten{ids: map[string]bool{}}
	var racing sync.WaitGroup
	for _, way := range []publisher.Atomic{publisher.AtomicAlways, publisher.AtomicNever} {
		relay := h.racingRelay(proxy, shared, way)
		racing.Go(func() {
			for deadline := time.Now().Add(4 * time.Minute); h.waiting(t) > 0 && time.Now().Before(deadline); {
				_, _ = relay.RunOnce(t.Context())
			}
		})
	}
	racing.Wait()

	ids, versions := map[string]bool{}, map[string]int64{}
	messages := h.messages()
	for _, m := range messages {
		id, ok := event.ParseID(m.ID)
		require.True(t, ok, m.ID)
		require.Equal(t, versions[id.Operation]+1, id.Version, "operation %s out of order", id.Operation)
		ids[m.ID], versions[id.Operation] = true, id.Version
	}
	t.Logf("%d acknowledgements lost, %d messages", proxy.Struck(), len(messages))
	assert.Len(t, messages, 10_000)
	assert.Len(t, ids, 10_000)
	assert.Zero(t, h.waiting(t))
	// One that comes when its relay has given up waiting is not delivered at all: on a
	// slow machine those are many.
	assert.Positive(t, proxy.Struck())
	assert.Less(t, heard(), int64(1000), "acknowledgements that were heard")
	assert.True(t, h.audit().Sound())
	storetest.CheckInvariants(t, h.url)
}

// racingRelay returns a relay that holds every bucket, as all of them do, with a pool
// and a connection of its own.
func (h *healing) racingRelay(through *faultproxy.Proxy, shared *forgotten, way publisher.Atomic) *publisher.Relay {
	nc, err := publisher.Dial(h.Context(), publisher.DialConfig{URL: "nats://" + through.Addr()})
	require.NoError(h, err)
	h.Cleanup(nc.Close)
	stream, _, err := publisher.EnsureStream(h.Context(), nc, publisher.StreamConfig{
		Name: "CODAT_PUSH", SubjectPrefix: "codat.push", Manage: publisher.ManageVerify, MaxAge: 720 * time.Hour})
	require.NoError(h, err)
	outbox := server.Open(h, store.Config{URL: h.pooled, TransactionPooler: true}).Outbox(h.leases)
	r, err := publisher.New(publisher.Config{Stream: stream, Outbox: forgetfulOutbox{outbox, shared}, Archive: outbox,
		Atomic: way, AckTimeout: time.Second, Now: h.store.Now})
	require.NoError(h, err)
	return r
}

// waiting counts the events in the outbox.
func (h *healing) waiting(t *testing.T) int64 {
	n, _, err := h.store.Backlog(t.Context())
	assert.NoError(t, err)
	return n
}
