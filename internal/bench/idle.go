package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/push"
)

// measureIdle times single events from the commit that holds one to a consumer's
// receipt, with a relay that has nothing else to do.
func measureIdle(ctx context.Context, r *rig) (samples, error) {
	result := samples{}
	for prefix, b := range map[string]*broker{"": r.lazy, "sync-": r.strict} {
		took, err := r.wakeUps(ctx, prefix+"wake-p50", b)
		if err != nil {
			return nil, err
		}
		slices.Sort(took)
		result[prefix+"wake-p50"], result[prefix+"wake-p99"] = milliseconds(quantile(took, 0.5)), milliseconds(quantile(took, 0.99))
	}
	return result, nil
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// quantile returns the smallest of sorted values that the share q does not exceed.
func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func (r *rig) wakeUps(ctx context.Context, name string, b *broker) (took []time.Duration, err error) {
	w, err := r.world(ctx, emptyDatabase, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	received, stop, err := w.consume(ctx, b, r.now)
	if err != nil {
		return nil, err
	}
	defer stop()
	relaying := begin(ctx, w.relay.Run)
	defer func() { err = errors.Join(err, relaying.stop()) }()
	h := history{salt: "idle", size: r.idle, newest: w.store.Now()}
	_, err = r.timed(name, func() error {
		for i := range h.size {
			d, err := w.wakeUp(ctx, r.now, h.operation(i, false), received)
			if err != nil {
				return err
			}
			took = append(took, d)
			if err := w.until(ctx, i+1); err != nil {
				return err
			}
			// The relay goes to sleep, and is woken at any phase of what it does.
			if err := pause(ctx, time.Millisecond*(2+rand.N(time.Duration(6)))); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return took, w.expect(ctx, counts{operations: h.size, transitions: h.size, publications: h.size, messages: h.size})
}

// wakeUp records one event, wakes the relay as the poller does, and waits for the
// consumer.
func (w *world) wakeUp(ctx context.Context, now func() time.Time, op push.Operation, received <-chan time.Time) (time.Duration, error) {
	if _, err := w.sweep(ctx, push.RowsOf(op), recordPage); err != nil {
		return 0, err
	}
	committed := now()
	w.relay.Wake()
	select {
	case at := <-received:
		return max(0, at.Sub(committed)), nil // the relay's poll may have come first
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// consume tells when each message of the stream arrives at a consumer that has a
// connection of its own.
func (w *world) consume(ctx context.Context, b *broker, now func() time.Time) (<-chan time.Time, func(), error) {
	nc, err := b.connect()
	if err != nil {
		return nil, nil, err
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	consumer, err := js.OrderedConsumer(ctx, w.place.Stream, jetstream.OrderedConsumerConfig{})
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	received := make(chan time.Time, 1)
	consuming, err := consumer.Consume(func(jetstream.Msg) { received <- now() })
	if err != nil {
		nc.Close()
		return nil, nil, err
	}
	return received, func() { consuming.Stop(); <-consuming.Closed(); nc.Close() }, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
