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

// maxInFlight is how many messages may wait for their acknowledgement at once.
const maxInFlight = 256

var errNoAnswer = errors.New("no acknowledgement in time")

// attempt is one event on its way, expected right behind the sequence after.
type attempt struct {
	pending *event.Pending
	after   uint64
	err     error // of the attempt before, nil at first
}

// publish sends at most maxInFlight messages and returns an answer for each, in
// the order of attempts. It waits for the answers until timeout or until the
// connection breaks, whichever is first, and is not cut short by anything else:
// an acknowledgement that is not waited for costs a read-back later.
//
// True if we crash here: some of the messages are in the stream and nobody knows.
// They are still pending, are published again, refused by the expected sequence,
// and found by reading back.
func (s *Stream) publish(attempts []attempt, cas bool, timeout time.Duration) []answer {
	answers := make([]answer, len(attempts))
	fill := func(err error) {
		for i := range answers {
			if answers[i].outcome == unclear && answers[i].err == nil {
				answers[i] = lostAnswer(err)
			}
		}
	}
	broken := s.nc.StatusChanged(nats.RECONNECTING, nats.DISCONNECTED, nats.CLOSED)
	defer s.nc.RemoveStatusListener(broken)
	inbox := s.nc.NewInbox() + "."
	replies := make(chan *nats.Msg, len(attempts))
	sub, err := s.nc.ChanSubscribe(inbox+"*", replies)
	if err != nil {
		fill(fmt.Errorf("subscribe to acknowledgements: %w", err))
		return answers
	}
	defer sub.Unsubscribe() //nolint:errcheck // fails only on a closed connection, which has forgotten it

	waiting := 0
	for i, a := range attempts {
		if err := s.nc.PublishMsg(s.message(a, inbox+strconv.Itoa(i), cas)); err != nil {
			answers[i] = unsent(err)
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
			if err != nil || i < 0 || i >= len(answers) || answers[i].outcome != unclear || answers[i].err != nil {
				continue // none of ours, or a second answer
			}
			answers[i] = classify(s.want.Name, msg)
			waiting--
		case <-broken:
			fill(nats.ErrDisconnected)
			return answers
		case <-deadline.C:
			fill(errNoAnswer)
			return answers
		}
	}
	return answers
}

// message returns the message of an attempt, to be answered on reply.
func (s *Stream) message(a attempt, reply string, cas bool) *nats.Msg {
	header := make(nats.Header, len(a.pending.Header)+4)
	for name, value := range a.pending.Header {
		header.Set(name, value)
	}
	header.Set(jetstream.MsgIDHeader, a.pending.ID)
	header.Set(jetstream.ExpectedStreamHeader, s.want.Name)
	if cas {
		header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(a.after, 10))
		header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, a.pending.Filter)
	}
	return &nats.Msg{Subject: a.pending.Subject, Reply: reply, Header: header, Data: a.pending.Data}
}
