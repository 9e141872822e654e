package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

const (
	publishWindow = 4096 // messages in flight
	insertRows    = 500  // of a statement
	peerBatch     = 256
	ackTimeout    = 30 * time.Second
)

// measurePublish is the limit of the relay: messages of an event's size into a
// stream made as pushwatch makes it, and as a second number the very events, with
// headers and ids, without an expected sequence.
func measurePublish(ctx context.Context, r *rig) (samples, error) {
	bare, err := r.publish(ctx, r.lazy, 2*r.events, bareMessage)
	if err != nil {
		return nil, err
	}
	events, err := r.publish(ctx, r.lazy, 2*r.events, eventMessage)
	return samples{"publish": bare, "publish-events": events}, err
}

// measurePublishStrict is the same on a server that syncs before it acknowledges.
func measurePublishStrict(ctx context.Context, r *rig) (samples, error) {
	bare, err := r.publish(ctx, r.strict, r.few(), bareMessage)
	return samples{"sync-publish": bare}, err
}

// few is the size of what an fsync for each event makes slow.
func (r *rig) few() int { return max(10, r.events/8) }

// publish returns the events a second of PublishMsgAsync.
func (r *rig) publish(ctx context.Context, b *broker, n int, message func(prefix string, op push.Operation) (*nats.Msg, error)) (rate float64, err error) {
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
	took, err := r.timed(func() error {
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

func subjectOf(prefix string, op push.Operation) string {
	return event.Subjects(prefix, op.CompanyID, op.DataType, op.Key).Subject(event.Name(op.Status))
}

func bareMessage(prefix string, op push.Operation) (*nats.Msg, error) {
	return &nats.Msg{Subject: subjectOf(prefix, op), Data: bytes.Repeat([]byte("x"), eventSize)}, nil
}

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

// measureInsert is the limit of the record path: one row an operation, with its
// whole record, 500 rows a statement and commit, into a table with the key's index
// and one more.
func measureInsert(ctx context.Context, r *rig) (_ samples, err error) {
	name, err := r.clone(ctx, emptyDatabase)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.drop(context.WithoutCancel(ctx), name)) }()
	conn, err := r.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	const table = `
create table seen (key uuid primary key, company_id text not null, status text not null, requested_at timestamptz not null, body text not null);
create index on seen (company_id, requested_at)`
	if _, err := conn.Exec(ctx, table); err != nil {
		return nil, err
	}
	batches := insertBatches(history{salt: name, size: 2 * r.events, newest: r.now()})
	took, err := r.timed(func() error {
		const q = `
insert into seen (key, company_id, status, requested_at, body)
select key, company_id, status, requested_at, body
from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::text[]) as s(key, company_id, status, requested_at, body)`
		for _, b := range batches {
			if _, err := conn.Exec(ctx, q, b.keys, b.companies, b.statuses, b.requested, b.bodies); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var n int
	if err := conn.QueryRow(ctx, `select count(*) from seen`).Scan(&n); err != nil {
		return nil, err
	}
	if n != 2*r.events {
		return nil, fmt.Errorf("%d rows were inserted, should be %d", n, 2*r.events)
	}
	return samples{"insert": rateOf(n, took)}, nil
}

// insertBatch is the columns of a statement.
type insertBatch struct {
	keys, companies, statuses, bodies []string
	requested                         []time.Time
}

func insertBatches(h history) []insertBatch {
	var batches []insertBatch
	for i := range h.size {
		if i%insertRows == 0 {
			batches = append(batches, insertBatch{})
		}
		op := h.operation(i, false)
		body := make([]byte, eventSize)
		copy(body, bytes.Repeat([]byte(op.Key), eventSize/len(op.Key)+1))
		b := &batches[len(batches)-1]
		b.keys, b.companies, b.statuses = append(b.keys, op.Key), append(b.companies, op.CompanyID), append(b.statuses, string(op.Status))
		b.requested, b.bodies = append(b.requested, op.RequestedOn), append(b.bodies, string(body))
	}
	return batches
}

// measureDecode is the limit of the client: encoding/json of whole operations, a
// page of 2,000 at a time.
func measureDecode(_ context.Context, r *rig) (samples, error) {
	h := history{salt: "decode", size: 2 * r.events, newest: r.now()}
	bodies := render(h.operations(true), recordPage)
	n := 0
	took, err := r.timed(func() error {
		for _, body := range bodies {
			var page wirePage
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

// measurePeer is what pushwatch's relay is compared with where every message is
// synced: an outbox relay as one writes it by hand. It claims a batch, publishes
// it, waits, marks it and commits.
func measurePeer(ctx context.Context, r *rig) (_ samples, err error) {
	w, err := r.world(ctx, emptyDatabase, r.strict)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	conn, err := pgx.Connect(ctx, w.place.DatabaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := fillPeer(ctx, conn, w.place.prefix(), history{salt: "peer", size: r.few(), newest: r.now()}); err != nil {
		return nil, err
	}
	js, err := jetstream.New(w.nats, jetstream.WithPublishAsyncMaxPending(publishWindow), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return nil, err
	}
	n := 0
	took, err := r.timed(func() error {
		for {
			sent, err := relayPeer(ctx, conn, js)
			if err != nil || sent == 0 {
				return err
			}
			n += sent
		}
	})
	if err != nil {
		return nil, err
	}
	if n != r.few() {
		return nil, fmt.Errorf("the hand-written relay published %d events, should be %d", n, r.few())
	}
	return samples{"sync-peer": rateOf(n, took)}, w.expect(ctx, counts{messages: n})
}

func fillPeer(ctx context.Context, conn *pgx.Conn, prefix string, h history) error {
	const table = `
create table peer (id bigint generated always as identity primary key, subject text not null, payload bytea not null, published_at timestamptz);
create index on peer (id) where published_at is null`
	if _, err := conn.Exec(ctx, table); err != nil {
		return err
	}
	var subjects []string
	var payloads [][]byte
	for i := range h.size {
		m, err := bareMessage(prefix, h.operation(i, false))
		if err != nil {
			return err
		}
		subjects, payloads = append(subjects, m.Subject), append(payloads, m.Data)
	}
	const q = `
insert into peer (subject, payload) select subject, payload from unnest($1::text[], $2::bytea[]) as p(subject, payload)`
	_, err := conn.Exec(ctx, q, subjects, payloads)
	return err
}

// relayPeer relays a batch, with a transaction open meanwhile, as such relays do.
func relayPeer(ctx context.Context, conn *pgx.Conn, js jetstream.JetStream) (sent int, err error) {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after a commit it does nothing
	// The rows are locked so that two such relays share the work.
	const claim = `
select id, subject, payload from peer where published_at is null order by id limit $1 for update skip locked`
	rows, err := tx.Query(ctx, claim, peerBatch)
	if err != nil {
		return 0, err
	}
	var ids []int64
	var id int64
	var m nats.Msg
	_, err = pgx.ForEachRow(rows, []any{&id, &m.Subject, &m.Data}, func() error {
		ids = append(ids, id)
		_, err := js.PublishMsgAsync(&nats.Msg{Subject: m.Subject, Data: bytes.Clone(m.Data)})
		return err
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := await(ctx, js); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `update peer set published_at = now() where id = any($1)`, ids); err != nil {
		return 0, err
	}
	return len(ids), tx.Commit(ctx)
}
