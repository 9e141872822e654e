package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// measurePeer is what pushwatch's relay is compared with where every message is
// synced: an outbox relay as one writes it by hand. It claims a batch, publishes
// it, waits, marks it and commits. The careful form waits for each message before
// it publishes the next one: the other may store them in another order after an
// error.
func measurePeer(ctx context.Context, r *rig) (samples, error) {
	batch, err := r.peer(ctx, "sync-peer", publishBatch)
	if err != nil {
		return nil, err
	}
	single, err := r.peer(ctx, "sync-peer-single", publishSingly)
	return samples{"sync-peer": batch, "sync-peer-single": single}, err
}

// publishing publishes messages and returns when they are acknowledged.
type publishing func(context.Context, jetstream.JetStream, []*nats.Msg) error

func publishBatch(ctx context.Context, js jetstream.JetStream, messages []*nats.Msg) error {
	for _, m := range messages {
		if _, err := js.PublishMsgAsync(m); err != nil {
			return err
		}
	}
	return await(ctx, js)
}

func publishSingly(ctx context.Context, js jetstream.JetStream, messages []*nats.Msg) error {
	for _, m := range messages {
		if _, err := js.PublishMsg(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// peer returns the events a second of a hand-written relay.
func (r *rig) peer(ctx context.Context, name string, publish publishing) (rate float64, err error) {
	w, err := r.world(ctx, emptyDatabase, r.strict)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	conn, err := pgx.Connect(ctx, w.place.DatabaseURL)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err := fillPeer(ctx, conn, w.place.prefix(), history{salt: "peer", size: r.few(), newest: r.now()}); err != nil {
		return 0, err
	}
	js, err := jetstream.New(w.nats, jetstream.WithPublishAsyncMaxPending(publishWindow), jetstream.WithPublishAsyncTimeout(ackTimeout))
	if err != nil {
		return 0, err
	}
	n := 0
	took, err := r.timed(name, func() error {
		for {
			sent, err := relayPeer(ctx, conn, js, publish)
			if err != nil || sent == 0 {
				return err
			}
			n += sent
		}
	})
	if err != nil {
		return 0, err
	}
	if n != r.few() {
		return 0, fmt.Errorf("the hand-written relay published %d events, should be %d", n, r.few())
	}
	return rateOf(n, took), w.expect(ctx, counts{messages: n})
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
func relayPeer(ctx context.Context, conn *pgx.Conn, js jetstream.JetStream, publish publishing) (sent int, err error) {
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
	var messages []*nats.Msg
	var id int64
	var m nats.Msg
	_, err = pgx.ForEachRow(rows, []any{&id, &m.Subject, &m.Data}, func() error {
		ids, messages = append(ids, id), append(messages, &nats.Msg{Subject: m.Subject, Data: bytes.Clone(m.Data)})
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	if err := publish(ctx, js, messages); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, `update peer set published_at = now() where id = any($1)`, ids); err != nil {
		return 0, err
	}
	return len(ids), tx.Commit(ctx)
}
