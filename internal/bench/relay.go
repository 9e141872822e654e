package main

import (
	"bytes"
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/push"
)

// measureRelayFirst publishes the first events of operations that nobody has
// heard of, into an empty stream.
func measureRelayFirst(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.relayNew(ctx, "relay-first", r.lazy, r.events)
	return samples{"relay-first": rate}, err
}

// measureRelayStrict is the same on a server that syncs before it acknowledges.
func measureRelayStrict(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.relayNew(ctx, "sync-relay", r.strict, r.events)
	return samples{"sync-relay": rate}, err
}

// relayNew returns the events a second of a relay that finds n first events
// waiting when it starts, until the last one is recorded as published.
func (r *rig) relayNew(ctx context.Context, name string, b *broker, n int) (rate float64, err error) {
	w, err := r.world(ctx, emptyDatabase, b)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	h := history{salt: "relay", size: n, newest: w.store.Now()}
	if _, err := w.sweep(ctx, push.RowsOf(h.operations(true)...), recordPage); err != nil {
		return 0, err
	}
	if err := r.analyze(ctx, w); err != nil {
		return 0, err
	}
	took, err := r.timed(name, func() error { return w.drain(ctx, n) })
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

// populate makes the population of a run, once. The first events take a short cut:
// what is measured is what comes after them.
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
	if _, err := w.sweep(ctx, push.RowsOf(p.operations...), sweepPage); err != nil {
		return err
	}
	if err := w.shortCut(ctx); err != nil {
		return err
	}
	return w.expect(ctx, counts{operations: r.subjects, transitions: r.subjects, publications: r.subjects, messages: r.subjects})
}

// shortCut publishes everything that waits into the world's empty stream, without
// expected sequences, and records it as published, in one transaction.
func (w *world) shortCut(ctx context.Context) (err error) {
	conn, err := pgx.Connect(ctx, w.place.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	js, err := jetstream.New(w.nats, jetstream.WithPublishAsyncMaxPending(publishWindow), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return err
	}
	if err := publishWaiting(ctx, conn, js); err != nil {
		return err
	}
	is, err := w.stream.Identify(ctx)
	if err != nil {
		return err
	}
	// One connection published them in the order of their ids into an empty stream:
	// so they are there in that order, or there are not as many.
	const move = `
with new as (
    insert into pushwatch.stream (epoch) values ($1::text) returning stream_id
), gone as (
    delete from pushwatch.outbox
    returning id, company_id, push_operation_key, version, bucket, event_id, previous_event_id, subject, filter, header, payload, created_at
), placed as (
    select g.company_id, g.push_operation_key, g.version, g.bucket, g.event_id, g.previous_event_id, g.subject, g.filter, g.header, g.payload,
           g.created_at, n.stream_id, row_number() over (order by g.id) as sequence, now() as published_at
    from gone g cross join new n
), published as (
    insert into pushwatch.publication (company_id, push_operation_key, version, stream_id, stream_sequence, published_at)
    select company_id, push_operation_key, version, stream_id, sequence, published_at from placed
)
insert into pushwatch.sent (published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
    previous_event_id, subject, filter, header, payload, created_at)
select published_at, stream_id, sequence, company_id, push_operation_key, version, bucket, event_id,
    previous_event_id, subject, filter, header, payload, created_at from placed`
	if _, err := conn.Exec(ctx, move, is.Epoch); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, `vacuum analyze`)
	return err
}

// publishWaiting publishes the outbox in the order of its ids.
func publishWaiting(ctx context.Context, conn *pgx.Conn, js jetstream.JetStream) error {
	rows, err := conn.Query(ctx, `select subject, event_id, header, payload from pushwatch.outbox order by id`)
	if err != nil {
		return err
	}
	var subject, id string
	var header map[string]string
	var payload []byte
	_, err = pgx.ForEachRow(rows, []any{&subject, &id, &header, &payload}, func() error {
		m := &nats.Msg{Subject: subject, Header: nats.Header{jetstream.MsgIDHeader: {id}}, Data: bytes.Clone(payload)}
		for name, value := range header {
			m.Header[name] = []string{value}
		}
		header = nil
		_, err := js.PublishMsgAsync(m, jetstream.WithStallWait(ackTimeout))
		return err
	})
	if err != nil {
		return err
	}
	return await(ctx, js)
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
	if _, err := p.sweep(ctx, push.RowsOf(changed...), recordPage); err != nil {
		return nil, err
	}
	took, err := r.timed("relay-later", func() error { return p.drain(ctx, r.events) })
	if err != nil {
		return nil, err
	}
	events := len(p.operations) + p.used
	return samples{"relay-later": rateOf(r.events, took)}, p.expect(ctx,
		counts{operations: len(p.operations), transitions: events, publications: events, messages: events})
}
