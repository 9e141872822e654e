// Command consumer is a subscriber of pushwatch's events to copy from: it keeps a
// list of the pushes that failed.
//
// It guarantees that every event has its effect exactly once, although JetStream
// delivers at least once and the process may die at any moment: the event's id
// goes into an inbox table in the transaction of the effect, and the message is
// acknowledged after the commit. An event that comes after a later one of the
// same operation has no effect. Any number of instances may share the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "consumer:", err)
		os.Exit(1)
	}
}

// run subscribes until ctx ends.
func run(ctx context.Context, args []string, getenv func(string) string, stderr io.Writer) error {
	s := Subscriber{Stream: "CODAT_PUSH", AckWait: 30 * time.Second, Retry: time.Second,
		Log: slog.New(slog.NewTextHandler(stderr, nil))}
	flags := flag.NewFlagSet("consumer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.Subject, "subject", "codat.push.>", "`filter` of the events to take, such as codat.push.*.invoices.>")
	flags.StringVar(&s.Durable, "durable", "push-events", "`name` of the durable consumer; instances with one name share the work")
	if err := flags.Parse(args); err != nil {
		return err
	}
	natsURL, databaseURL := getenv("NATS_URL"), getenv("DATABASE_URL")
	if natsURL == "" || databaseURL == "" {
		return errors.New("NATS_URL and DATABASE_URL must be set; for pushwatch's own servers type: . /var/lib/pushwatch/connect.env")
	}
	pool, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("DATABASE_URL: %w", err)
	}
	defer pool.Close()
	s.Inbox = &Inbox{Pool: pool}
	s.Conn, err = nats.Connect(natsURL, nats.Name("pushwatch example consumer"), nats.MaxReconnects(-1))
	if bad := (*url.Error)(nil); errors.As(err, &bad) {
		err = bad.Err // without the URL, which holds the token
	}
	if err != nil {
		return fmt.Errorf("connect to NATS: %w", err)
	}
	defer s.Conn.Close()
	return s.Run(ctx)
}
