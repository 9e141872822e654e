package publisher

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// maxInFlight is how many messages of one batch may wait for their acknowledgement.
const maxInFlight = 1000

var errNoAnswer = errors.New("no acknowledgement in time")

// attempt is one event on its way, expected right behind the sequence after.
type attempt struct {
	pending *event.Pending
	after   uint64
	err     error // of the attempt before, nil at first
}

// publish sends at most maxInFlight events to the stream of that name and returns
// what is proven of each, in the order of attempts.
//
// True if we crash here: some of the messages are in the stream and nobody knows.
// They are still pending, are published again, refused by the expected sequence,
// and found by reading back.
func publish(s Stream, name string, attempts []attempt, cas bool, timeout time.Duration) []answer {
	messages := make([]*nats.Msg, len(attempts))
	for i, a := range attempts {
		messages[i] = a.message(name, cas)
	}
	answers := make([]answer, len(attempts))
	for i, reply := range s.Publish(messages, timeout) {
		if reply.Err != nil {
			answers[i] = unsent(reply.Err)
		} else {
			answers[i] = classify(name, reply.Msg)
		}
	}
	return answers
}

// message returns the message of an attempt.
func (a attempt) message(stream string, cas bool) *nats.Msg {
	header := make(nats.Header, len(a.pending.Header)+4)
	for name, value := range a.pending.Header {
		header.Set(name, value)
	}
	header.Set(jetstream.MsgIDHeader, a.pending.ID)
	header.Set(jetstream.ExpectedStreamHeader, stream)
	if cas {
		header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.after, 10))
		header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, a.pending.Filter)
	}
	return &nats.Msg{Subject: a.pending.Subject, Header: header, Data: a.pending.Data}
}

// Publish implements [Stream]. It sets where each message is to be answered. It
// waits for the answers until timeout or until the connection breaks, whichever is
// first: an acknowledgement that is not waited for costs a read-back later.
func (s *JetStream) Publish(messages []*nats.Msg, timeout time.Duration) []Reply {
	answered := make([]Reply, len(messages))
	fill := func(err error) {
		for i := range answered {
			if answered[i] == (Reply{}) {
				answered[i].Err = err
			}
		}
	}
	broken := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(broken)
	inbox := s.nc.NewInbox() + "."
	replies := make(chan *nats.Msg, len(messages))
	sub, err := s.nc.ChanSubscribe(inbox+"*", replies)
	if err != nil {
		fill(fmt.Errorf("subscribe to acknowledgements: %w", err))
		return answered
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only on a closed connection, which has forgotten it

	waiting := 0
	for i, msg := range messages {
		msg.Reply = inbox + strconv.Itoa(i)
		if err := s.nc.PublishMsg(msg); err != nil {
			answered[i].Err = err
			continue
		}
		waiting++
	}
	fault.Point(fault.Published)
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	for waiting > 0 {
		select {
		case msg := <-replies:
			i, err := strconv.Atoi(strings.TrimPrefix(msg.Subject, inbox))
			if err != nil || i < 0 || i >= len(answered) || answered[i] != (Reply{}) {
				continue // none of ours, or a second answer
			}
			answered[i].Msg = msg
			waiting--
		case <-broken:
			fill(nats.ErrDisconnected)
			return answered
		case <-deadline.C:
			fill(errNoAnswer)
			return answered
		}
	}
	return answered
}

// Reconnects implements [Stream].
func (s *JetStream) Reconnects() uint64 { return s.nc.Stats().Reconnects }
