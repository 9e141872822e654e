package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	callTimeout  = 10 * time.Second // of one transaction, one acknowledgement, one request
	longestRetry = time.Minute
	prefetch     = 16 // messages; all must be handled within AckWait, or they come twice
)

// Subscriber hands the events of a stream to the inbox.
type Subscriber struct {
	Conn    *nats.Conn
	Inbox   *Inbox
	Log     *slog.Logger
	Stream  string
	Durable string        // name of the consumer, which remembers what was acknowledged
	Subject string        // filter
	AckWait time.Duration // after which an unacknowledged message comes again
	Retry   time.Duration // first pause after a database error; doubles up to a minute
}

// Run takes events until ctx ends; then it finishes what it has fetched and
// returns nil. Its other returns are for a supervisor to start it again.
func (s *Subscriber) Run(ctx context.Context) error {
	if err := s.prepare(ctx); err != nil {
		return err
	}
	consumer, err := s.consumer(ctx)
	if err != nil {
		return err
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(prefetch),
		// An outage of the server is waited out.
		jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", s.Subject, err)
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Drain)()
	s.Log.Info("taking events", "stream", s.Stream, "subject", s.Subject, "durable", s.Durable)
	for {
		msg, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("next event of %s: %w", s.Subject, err)
		}
		s.take(context.WithoutCancel(ctx), msg)
	}
}

func (s *Subscriber) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.Inbox.Prepare(ctx)
}

// consumer makes the durable consumer, or finds it where it was.
func (s *Subscriber) consumer(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	js, err := jetstream.New(s.Conn)
	if err != nil {
		return nil, err
	}
	consumer, err := js.CreateOrUpdateConsumer(ctx, s.Stream, jetstream.ConsumerConfig{
		Durable:       s.Durable,
		FilterSubject: s.Subject,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       s.AckWait,
		MaxDeliver:    -1, // an event is given up only as bad
	})
	if err != nil {
		return nil, fmt.Errorf("consumer %s of stream %s: %w", s.Durable, s.Stream, err)
	}
	return consumer, nil
}

// take handles one message and tells the server how it went. An answer that gets
// lost only brings the message again.
func (s *Subscriber) take(ctx context.Context, msg jetstream.Msg) {
	log := s.Log.With("subject", msg.Subject())
	outcome, err := s.handle(ctx, msg)
	switch {
	case errors.Is(err, ErrBad):
		log.Error("event given up", "error", err)
		err = msg.TermWithReason(err.Error())
	case err != nil:
		pause := s.pause(msg)
		log.Warn("event comes again", "error", err, "pause", pause)
		err = msg.NakWithDelay(pause)
	default:
		log.Info("event handled", "outcome", outcome)
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		// Double: the server says that it knows, so that redelivery is the exception.
		err = msg.DoubleAck(ctx)
	}
	if err != nil {
		log.Warn("answer lost, event comes again", "error", err)
	}
}

func (s *Subscriber) handle(ctx context.Context, msg jetstream.Msg) (Outcome, error) {
	var e Event
	if err := json.Unmarshal(msg.Data(), &e); err != nil {
		return "", fmt.Errorf("%w: %w", ErrBad, err)
	}
	if e.ID == "" || e.CompanyID == "" || e.PushOperationKey == "" || e.Version < 1 {
		return "", fmt.Errorf("%w: id, companyId, pushOperationKey and version must be there", ErrBad)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.Inbox.Handle(ctx, e)
}

// pause returns how long a message stays away after a database error.
func (s *Subscriber) pause(msg jetstream.Msg) time.Duration {
	pause := s.Retry
	if meta, err := msg.Metadata(); err == nil {
		for n := uint64(1); n < meta.NumDelivered && pause < longestRetry; n++ {
			pause *= 2
		}
	}
	return min(pause, longestRetry)
}
