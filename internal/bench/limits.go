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

// measurePublish is the limit of the relay: the messages that it publishes, with
// their headers and ids, without an expected sequence, into a stream made as
// pushwatch makes it. A second number is for their bodies alone.
func measurePublish(ctx context.Context, r *rig) (samples, error) {
	events, err := r.publish(ctx, "publish", r.lazy, 2*r.events, eventMessage)
	if err != nil {
		return nil, err
	}
	bare, err := r.publish(ctx, "publish-bare", r.lazy, 2*r.events, bareMessage)
	return samples{"publish": events, "publish-bare": bare}, err
}

// measurePublishStrict is the same on a server that syncs before it acknowledges.
func measurePublishStrict(ctx context.Context, r *rig) (samples, error) {
	rate, err := r.publish(ctx, "sync-publish", r.strict, r.few(), eventMessage)
	return samples{"sync-publish": rate}, err
}

// few is the size of what an fsync for each event makes slow.
func (r *rig) few() int { return max(10, r.events/8) }

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

func subjectOf(prefix string, op push.Operation) string {
	return event.Subjects(prefix, op.CompanyID, op.DataType, op.Key).Subject(event.Name(op.Status))
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

// measureInsert is the limit of the record path: one row an operation with all that
// Codat tells of it, 500 rows a statement and commit, into a table with the key's
// index and two more. Nothing is looked up, decided or announced.
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
create table seen (
    key uuid primary key, company_id text not null, connection_id text not null, data_type text, status text not null,
    status_code bigint, error_message text, validation jsonb, changes jsonb, requested_at timestamptz not null,
    completed_at timestamptz, timeout_minutes bigint, seen_at timestamptz not null
);
create index on seen (company_id, requested_at);
create index on seen (company_id, status)`
	if _, err := conn.Exec(ctx, table); err != nil {
		return nil, err
	}
	batches := insertBatches(history{salt: name, size: 2 * r.events, newest: r.now()})
	took, err := r.timed("insert", func() error {
		for i := range batches {
			if err := batches[i].insert(ctx, conn); err != nil {
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
	keys, companies, connections, types, statuses []string
	codes                                         []int64
	timeouts                                      []*int64
	changes                                       []string
	messages, validations                         []*string
	requested, completed                          []time.Time
}

func (b *insertBatch) insert(ctx context.Context, conn *pgx.Conn) error {
	const q = `
insert into seen (key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes, seen_at)
select key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes, clock_timestamp()
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::jsonb[],
    $10::timestamptz[], $11::timestamptz[], $12::bigint[])
    as s(key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes)`
	_, err := conn.Exec(ctx, q, b.keys, b.companies, b.connections, b.types, b.statuses, b.codes, b.messages, b.validations, b.changes,
		b.requested, b.completed, b.timeouts)
	return err
}

func insertBatches(h history) []insertBatch {
	var batches []insertBatch
	for i := range h.size {
		if i%insertRows == 0 {
			batches = append(batches, insertBatch{})
		}
		op := h.operation(i, false)
		changes, err := json.Marshal(op.Changes)
		if err != nil {
			panic(err) // strings
		}
		b := &batches[len(batches)-1]
		b.keys, b.companies, b.connections = append(b.keys, op.Key), append(b.companies, op.CompanyID), append(b.connections, op.ConnectionID)
		b.types, b.statuses = append(b.types, op.DataType), append(b.statuses, string(op.Status))
		b.codes, b.timeouts = append(b.codes, int64(*op.StatusCode)), append(b.timeouts, nil)
		b.messages, b.validations, b.changes = append(b.messages, nil), append(b.validations, nil), append(b.changes, string(changes))
		b.requested, b.completed = append(b.requested, op.RequestedOn), append(b.completed, op.CompletedOn)
	}
	return batches
}

// measureDecode is the limit of the client: encoding/json of whole operations, a
// page of 2,000 at a time.
func measureDecode(_ context.Context, r *rig) (samples, error) {
	h := history{salt: "decode", size: 2 * r.events, newest: r.now()}
	bodies := render(h.operations(true), recordPage)
	n := 0
	took, err := r.timed("decode", func() error {
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
	took, err := r.timed("sync-peer", func() error {
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
create table peer (id bigint generated always as identity primary key, subject text not null, payload bytea not null,
    published_at timestamptz);
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
