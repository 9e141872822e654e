package main

import (
	"context"
	"errors"

	"github.com/pushwatch/pushwatch/push"
)

// measureRelayFirst publishes the first events of operations that nobody has
// heard of, into an empty stream.
func measureRelayFirst(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.relayNew(ctx, r.lazy, r.events)
	return samples{"relay-first": rate}, err
}

// measureRelayStrict is the same on a server that syncs before it acknowledges.
func measureRelayStrict(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.relayNew(ctx, r.strict, r.events/2)
	return samples{"sync-relay": rate}, err
}

// relayNew returns the events a second of a relay that finds n first events
// waiting when it starts, until the last one is recorded as published.
func (r *rig) relayNew(ctx context.Context, b *broker, n int) (rate float64, err error) {
	w, err := r.world(ctx, emptyDatabase, b)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	h := history{salt: "relay", size: n, newest: w.store.Now()}
	if _, err := w.sweep(ctx, h.operations(true), recordPage); err != nil {
		return 0, err
	}
	if err := r.analyze(ctx, w); err != nil {
		return 0, err
	}
	took, err := r.timed(func() error { return w.drain(ctx, n) })
	if err != nil {
		return 0, err
	}
	return rateOf(n, took), w.expect(ctx, counts{operations: n, transitions: n, publications: n, messages: n})
}

// population is a world in whose stream every operation has a first event.
type population struct {
	*world
	operations []push.Operation // unfinished
	history    history
	used       int // of them, whose second event was published
}

// populate makes the population of a run, once.
func (r *rig) populate(ctx context.Context) error {
	if r.relayed != nil {
		return nil
	}
	w, err := r.world(ctx, emptyDatabase, r.lazy)
	if err != nil {
		return err
	}
	p := &population{world: w, history: history{salt: "later", size: r.subjects, newest: w.store.Now()}}
	r.relayed = p
	for i := range r.subjects {
		p.operations = append(p.operations, p.history.operation(i, true))
	}
	if _, err := w.sweep(ctx, p.operations, 5000); err != nil {
		return err
	}
	if err := r.analyze(ctx, w); err != nil {
		return err
	}
	if err := w.drain(ctx, r.subjects); err != nil {
		return err
	}
	return r.analyze(ctx, w)
}

// measureRelayLater publishes the second events of operations whose first ones
// are in a stream of 300,000 subjects: for each the server looks up the last.
func measureRelayLater(ctx context.Context, r *rig) (samples, error) {
	if err := r.populate(ctx); err != nil {
		return nil, err
	}
	p := r.relayed
	changed := make([]push.Operation, r.events)
	for i := range changed {
		changed[i] = p.history.operation(p.used+i, false)
	}
	p.used += r.events
	if _, err := p.sweep(ctx, changed, recordPage); err != nil {
		return nil, err
	}
	took, err := r.timed(func() error { return p.drain(ctx, r.events) })
	if err != nil {
		return nil, err
	}
	events := len(p.operations) + p.used
	return samples{"relay-later": rateOf(r.events, took)}, p.expect(ctx,
		counts{operations: len(p.operations), transitions: events, publications: events, messages: events})
}
