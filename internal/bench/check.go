package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
)

// counts is what there must be once a measurement has ended. Without a stream
// messages stay uncounted.
type counts struct {
	operations, transitions int
	waiting, publications   int // in the outbox, and out of it
	messages                int // in the stream
}

// expect fails unless database and stream hold what they should.
func (w *world) expect(ctx context.Context, want counts) (err error) {
	got := counts{}
	conn, err := pgx.Connect(ctx, w.place.DatabaseURL)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	const q = `
select (select count(*) from pushwatch.operation), (select count(*) from pushwatch.transition),
       (select count(*) from pushwatch.outbox), (select count(distinct (stream_id, stream_sequence)) from pushwatch.publication)`
	if err := conn.QueryRow(ctx, q).Scan(&got.operations, &got.transitions, &got.waiting, &got.publications); err != nil {
		return err
	}
	if w.stream != nil {
		is, err := w.stream.Identify(ctx)
		if err != nil {
			return err
		}
		got.messages = int(is.State.Msgs)
	}
	if got != want {
		return fmt.Errorf("wrong result: there are %+v, should be %+v", got, want)
	}
	return nil
}

// database returns the name of the world's database.
func (w *world) database() string {
	u, err := url.Parse(w.place.DatabaseURL)
	if err != nil {
		panic(err) // made by databaseURL
	}
	return strings.TrimPrefix(u.Path, "/")
}
