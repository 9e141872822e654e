package publisher

import (
	"crypto/rand"
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
	answers := make([]answer, len(attempts))
	for i, reply := range s.Publish(messages(name, attempts, cas), false, timeout) {
		if reply.Err != nil {
			answers[i] = unsent(reply.Err)
		} else {
			answers[i] = classify(name, reply.Msg)
		}
	}
	return answers
}

// messages returns the messages of attempts.
func messages(stream string, attempts []attempt, cas bool) []*nats.Msg {
	messages := make([]*nats.Msg, len(attempts))
	for i, a := range attempts {
		messages[i] = a.message(stream, cas)
	}
	return messages
}

// message returns the message of an attempt.
func (a attempt) message(stream string, cas bool) *nats.Msg {
	const more = 7 // the act's own headers, those of an atomic batch among them
	header := make(nats.Header, len(a.pending.Header)+more)
	values := make([]string, 0, len(a.pending.Header)+more)
	set := func(name, value string) {
		values = append(values, value)
		header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	for name, value := range a.pending.Header {
		set(name, value)
	}
	set(jetstream.MsgIDHeader, a.pending.ID)
	set(jetstream.ExpectedStreamHeader, stream)
	if cas {
		set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.after, 10))
		set(jetstream.ExpectedLastSubjSeqSubjHeader, a.pending.Filter)
	}
	return &nats.Msg{Subject: a.pending.Subject, Header: header, Data: a.pending.Data}
}

// Publish implements [Stream]. It sets where each message is to be answered. It
// waits for the answers until timeout or until the connection breaks, whichever is
// first: an acknowledgement that is not waited for costs a read-back later.
func (s *JetStream) Publish(messages []*nats.Msg, atomic bool, timeout time.Duration) []Reply {
	answered := make([]Reply, len(messages))
	fill := func(with Reply) {
		for i := range answered {
			if answered[i] == (Reply{}) {
				answered[i] = with
			}
		}
	}
	broken := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(broken)
	inbox := s.nc.NewInbox() + "."
	replies := make(chan *nats.Msg, len(messages))
	sub, err := s.nc.ChanSubscribe(inbox+"*", replies)
	if err != nil {
		fill(Reply{Err: fmt.Errorf("subscribe to acknowledgements: %w", err)})
		return answered
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only on a closed connection, which has forgotten it

	send := s.each
	if atomic {
		send = s.whole
	}
	waiting := send(messages, inbox, answered)
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
			fill(Reply{Err: nats.ErrDisconnected})
			return answered
		case <-deadline.C:
			fill(Reply{Err: errNoAnswer})
			return answered
		}
	}
	if atomic {
		fill(answered[len(answered)-1])
	}
	return answered
}

// each sends messages, each to be answered, and returns how many answers there will
// be; a message that could not be sent has its error.
func (s *JetStream) each(messages []*nats.Msg, inbox string, answered []Reply) (waiting int) {
	for i, msg := range messages {
		msg.Reply = inbox + strconv.Itoa(i)
		if err := s.nc.PublishMsg(msg); err != nil {
			answered[i].Err = err
			continue
		}
		waiting++
	}
	return waiting
}

// whole sends messages as an atomic batch, of which the last is answered for all. When
// one cannot be sent it stops: the server forgets what it has of the batch, and the
// last message says so.
//
// True if we crash on the way: the server forgets the batch within seconds.
func (s *JetStream) whole(messages []*nats.Msg, inbox string, answered []Reply) (waiting int) {
	id, last := rand.Text(), len(messages)-1
	for i, msg := range messages {
		msg.Header[batchIDHeader] = []string{id}
		msg.Header[batchSequenceHeader] = []string{strconv.Itoa(i + 1)}
		if i == last {
			msg.Header[batchCommitHeader] = []string{"1"}
			msg.Reply = inbox + strconv.Itoa(i)
		}
		if err := s.nc.PublishMsg(msg); err != nil {
			answered[last].Err = fmt.Errorf("%w: message %d: %w", errUncommitted, i+1, err)
			return 0
		}
	}
	return 1
}

// Reconnects implements [Stream].
func (s *JetStream) Reconnects() uint64 { return s.nc.Stats().Reconnects }
