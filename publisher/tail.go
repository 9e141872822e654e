package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// TailConfig says what [Tail] follows.
type TailConfig struct {
	Stream  string
	Filters []string  // subjects; at least one, none overlapping another
	Since   time.Time // zero: from now on
	Log     *slog.Logger
}

const (
	tailPause = time.Second     // between attempts to read again
	tailQuiet = 3 * time.Second // without a message, after which the stream is looked at
)

var errStreamMadeAnew = errors.New("the stream was made anew")

// Tail calls fn with every message that filters match, in the stream's order,
// those that are there since c.Since first and then each new one as it comes, until
// ctx ends or fn returns an error, which it returns as it is. It outlives lost
// connections and restarts of the server and goes on where it was; where the stream
// was made anew, at its beginning. Nothing is left on the server for longer than
// minutes.
func Tail(ctx context.Context, nc *nats.Conn, c TailConfig, fn func(StoredMessage) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", c.Stream, err)
	}
	t := &tail{TailConfig: c, js: js, stream: &JetStream{nc: nc, js: js, want: jetstream.StreamConfig{Name: c.Stream}}, fn: fn}
	info, err := t.stream.info(ctx)
	if err != nil {
		return err
	}
	if t.made = info.Created; c.Since.IsZero() {
		t.next = info.State.LastSeq + 1
	}
	for {
		err := t.follow(ctx)
		var stopped *stoppedError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &stopped):
			return stopped.err
		}
		c.Log.Warn("the stream cannot be read, trying on", "error", err)
		if err := t.resume(ctx); err != nil {
			return err
		}
	}
}

// Holds reports whether the stream has a message that one of filters matches.
func Holds(ctx context.Context, nc *nats.Conn, stream string, filters []string) (bool, error) {
	for _, filter := range filters {
		msg, err := get(ctx, nc, stream, Query{Last: filter})
		if err != nil || msg != nil {
			return msg != nil, err
		}
	}
	return false, nil
}

// stoppedError is an error of the caller's function.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }

type tail struct {
	TailConfig
	js     jetstream.JetStream
	stream *JetStream
	fn     func(StoredMessage) error
	made   time.Time // the stream
	next   uint64    // sequence to go on at; 0: by Since
}

// follow reads until something breaks.
func (t *tail) follow(ctx context.Context) error {
	config := jetstream.OrderedConsumerConfig{FilterSubjects: t.Filters, MaxResetAttempts: 1,
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: t.next}
	if t.next == 0 {
		config.DeliverPolicy, config.OptStartSeq, config.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &t.Since
	}
	making, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	consumer, err := t.js.OrderedConsumer(making, t.Stream, config)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", t.Stream, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("read stream %s: %w", t.Stream, err)
	}
	defer messages.Stop()
	for {
		msg, err := t.await(ctx, messages)
		if err != nil {
			return fmt.Errorf("read stream %s: %w", t.Stream, err)
		}
		meta, err := msg.Metadata()
		if err != nil {
			return fmt.Errorf("read stream %s: %w", t.Stream, err)
		}
		err = t.fn(StoredMessage{Sequence: meta.Sequence.Stream, Subject: msg.Subject(), Header: msg.Headers(),
			ID: msg.Headers().Get(jetstream.MsgIDHeader), Data: msg.Data(), Time: meta.Timestamp})
		if err != nil {
			return &stoppedError{err}
		}
		t.next = meta.Sequence.Stream + 1
	}
}

// await returns the next message. The library heals what it can by itself, but
// would wait in a stream that was made anew, which begins to count anew, until
// that has caught up: so it is looked at while nothing comes.
func (t *tail) await(ctx context.Context, messages jetstream.MessagesContext) (jetstream.Msg, error) {
	for {
		quiet, cancel := context.WithTimeout(ctx, tailQuiet)
		msg, err := messages.Next(jetstream.NextContext(quiet))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return msg, err
		}
		// While the server is away there is no answer, and nothing to decide.
		if info, err := t.stream.info(ctx); err == nil && !info.Created.Equal(t.made) {
			return nil, errStreamMadeAnew
		}
	}
}

// resume waits until the stream can be read again. One that was made anew begins
// to count anew, so it is read from its beginning.
func (t *tail) resume(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tailPause):
		}
		info, err := t.stream.info(ctx)
		if err != nil {
			continue // told once, by whoever called
		}
		if !info.Created.Equal(t.made) {
			t.made, t.next = info.Created, max(1, info.State.FirstSeq)
		}
		return nil
	}
}
