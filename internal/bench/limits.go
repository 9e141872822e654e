package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

const (
	publishWindow = 4096 // messages in flight
	insertRows    = 500  // of a statement
	peerBatch     = 256
	ackTimeout    = 30 * time.Second
)

// measurePublish is the limit of the relay: the messages that it publishes, with
// their headers and ids, without an expected sequence, into a stream made as
// pushwatch makes it. A second number is for their bodies alone.
func measurePublish(ctx context.Context, r *rig) (samples, error) {
	events, err := r.publish(ctx, "publish", r.lazy, r.events, eventMessage)
	if err != nil {
		return nil, err
	}
	bare, err := r.publish(ctx, "publish-bare", r.lazy, r.events, bareMessage)
	return samples{"publish": events, "publish-bare": bare}, err
}

// measurePublishStrict is the same on a server that syncs before it acknowledges.
func measurePublishStrict(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.publish(ctx, "sync-publish", r.strict, r.few(), eventMessage)
	return samples{"sync-publish": rate}, err
}

// few is the size of what an fsync for each event makes slow.
func (r *rig) few() int { return max(10, r.events/16) }

// messageOf makes the message of an operation.
type messageOf func(prefix string, op push.Operation) (*nats.Msg, error)

// publish returns the events a second of PublishMsgAsync.
func (r *rig) publish(ctx context.Context, name string, b *broker, n int, message messageOf) (rate float64, err error) {
	w, err := r.world(ctx, emptyDatabase, b)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	h := history{salt: w.place.Stream, size: n, newest: w.store.Now()}
	messages := make([]*nats.Msg, n)
	for i := range messages {
		if messages[i], err = message(w.place.prefix(), h.operation(i, false)); err != nil {
			return 0, err
		}
	}
	nc, err := b.connect()
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(publishWindow), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return 0, err
	}
	took, err := r.timed(name, func() error {
		for _, m := range messages {
			if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(ackTimeout)); err != nil {
				return err
			}
		}
		return await(ctx, js)
	})
	if err != nil {
		return 0, err
	}
	return rateOf(n, took), w.expect(ctx, counts{messages: n})
}

// await returns when everything that was published is acknowledged.
func await(ctx context.Context, js jetstream.JetStream) error {
	select {
	case <-js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// bareMessage is an event's body under its subject, as a hand-written program
// publishes it.
func bareMessage(prefix string, op push.Operation) (*nats.Msg, error) {
	m, err := eventMessage(prefix, op)
	if err != nil {
		return nil, err
	}
	return &nats.Msg{Subject: m.Subject, Data: m.Data}, nil
}

// eventMessage is an event as the relay publishes it, but for the expected sequence.
func eventMessage(prefix string, op push.Operation) (*nats.Msg, error) {
	e := event.New("00000000", op, 1)
	e.ObservedAt, e.LastSeenPreviousAt, e.Source = event.Timestamp(op.CompletedOn), event.At(op.RequestedOn), push.FromList
	m, err := event.Encode(prefix, op.DataType, e)
	if err != nil {
		return nil, err
	}
	header := nats.Header{jetstream.MsgIDHeader: {m.ID}}
	for name, value := range m.Header {
		header[name] = []string{value}
	}
	return &nats.Msg{Subject: m.Subject, Header: header, Data: m.Data}, nil
}

// measureDecode is the limit of the client: encoding/json of whole operations, a
// page of 2,000 at a time.
func measureDecode(_ context.Context, r *rig) (samples, error) {
	h := history{salt: "decode", size: r.events, newest: r.now()}
	bodies := render(h.operations(true), recordPage)
	n := 0
	took, err := r.timed("decode", func() error {
		for _, body := range bodies {
			var page struct {
				Results []codatsim.WireOperation `json:"results"`
			}
			if err := json.Unmarshal(body, &page); err != nil {
				return err
			}
			n += len(page.Results)
		}
		return nil
	})
	if err == nil && n != h.size {
		err = fmt.Errorf("%d operations were decoded, should be %d", n, h.size)
	}
	return samples{"decode": rateOf(n, took)}, err
}
