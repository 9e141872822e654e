package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
)

// broker is a JetStream stream kept in memory, as far as the relay can tell. It is
// held against the real server by TestTheBrokerAnswersAsJetStream.
type broker struct {
	world     *world // nil: nobody is told
	now       func() time.Time
	clustered bool          // looks at the message id before the expected sequence
	window    time.Duration // for how long message ids are remembered
	maxAge    time.Duration // 0: for ever
	limit     int           // messages; 0: none

	there    bool
	created  time.Time
	messages []*publisher.StoredMessage
	last     uint64
	ids      map[string]remembered
}

type remembered struct {
	sequence uint64
	at       time.Time
}

const streamName = "CODAT_PUSH"

func newBroker(now func() time.Time, window time.Duration) *broker {
	b := &broker{now: now, window: window}
	b.create()
	return b
}

func (b *broker) create() {
	b.there, b.created, b.messages, b.last, b.ids = true, b.now(), nil, 0, map[string]remembered{}
}

// expire drops what has reached its age.
func (b *broker) expire() {
	if b.maxAge > 0 {
		old := b.now().Add(-b.maxAge)
		b.drop(func(m *publisher.StoredMessage) bool { return !m.Time.After(old) }, (*oracle).aged)
	}
}

func (b *broker) drop(gone func(*publisher.StoredMessage) bool, tell func(*oracle, *publisher.StoredMessage)) {
	b.messages = slices.DeleteFunc(b.messages, func(m *publisher.StoredMessage) bool {
		if !gone(m) {
			return false
		}
		if b.world != nil {
			tell(b.world.oracle, m)
		}
		return true
	})
}

// powerCut takes the newest n messages, and with them the memory of their ids. All
// connections break.
func (b *broker) powerCut(n int) {
	b.repeats()
	keep := max(0, len(b.messages)-n)
	b.last = 0
	if keep > 0 {
		b.last = b.messages[keep-1].Sequence
	}
	b.drop(func(m *publisher.StoredMessage) bool { return m.Sequence > b.last }, (*oracle).lost)
	b.ids = map[string]remembered{}
	for _, m := range b.messages {
		b.ids[m.ID] = remembered{m.Sequence, m.Time}
	}
	if b.world == nil {
		return
	}
	b.world.note("broker", "loses its newest messages", b.world.say("the last one is %d now", b.last))
	for _, r := range b.world.replicas {
		if r.now != nil {
			r.now.mu.Lock()
			r.now.reconnects++
			r.now.mu.Unlock()
		}
	}
}

func (b *broker) delete() {
	b.repeats()
	b.drop(func(*publisher.StoredMessage) bool { return true }, (*oracle).lost)
	b.there = false
	b.world.note("broker", "the stream is deleted", "")
}

// repeats: from now on sequences are given out twice. A message that is on its way
// since before may expect the very sequence that another one has now, and only the
// window of ids keeps it out: it must be longer than anything is on its way, as it
// is where pushwatch makes the stream.
func (b *broker) repeats() {
	if b.world != nil {
		b.window = 2 * time.Minute
	}
}

// purge takes all messages; the server remembers their ids.
func (b *broker) purge() {
	b.drop(func(*publisher.StoredMessage) bool { return true }, (*oracle).lost)
	b.world.note("broker", "the stream is purged", "")
}

// matches reports whether a filter, which has a wildcard at most at its end, takes
// a subject.
func matches(filter, subject string) bool {
	if stem, ok := strings.CutSuffix(filter, ">"); ok {
		return strings.HasPrefix(subject, stem) && len(subject) > len(stem)
	}
	if stem, ok := strings.CutSuffix(filter, "*"); ok {
		rest, ok := strings.CutPrefix(subject, stem)
		return ok && rest != "" && !strings.Contains(rest, ".")
	}
	return filter == subject
}

func (b *broker) lastOf(filter string) *publisher.StoredMessage {
	for _, m := range slices.Backward(b.messages) {
		if matches(filter, m.Subject) {
			return m
		}
	}
	return nil
}

// get answers a request for a message: nil where there is none.
func (b *broker) get(q publisher.Query) (*publisher.StoredMessage, error) {
	if !b.there {
		return nil, fmt.Errorf("read stream %s: %w", streamName, jetstream.ErrStreamNotFound)
	}
	b.expire()
	if q.Last != "" {
		return b.lastOf(q.Last), nil
	}
	for _, m := range b.messages {
		if q.Next != "" && m.Sequence >= q.Sequence && matches(q.Next, m.Subject) || q.Next == "" && m.Sequence == q.Sequence {
			return m, nil
		}
	}
	return nil, nil
}

// identify answers which stream it is, and makes it when it is gone.
func (b *broker) identify() publisher.Identity {
	if !b.there {
		b.create()
	}
	b.expire()
	state := jetstream.StreamState{Msgs: uint64(len(b.messages)), FirstSeq: b.last + 1, LastSeq: b.last}
	if len(b.messages) > 0 {
		state.FirstSeq = b.messages[0].Sequence
	}
	return publisher.Identity{Epoch: streamName + "@" + b.created.Format(time.RFC3339Nano), Events: event.DefaultPrefix + ".>",
		Config: jetstream.StreamConfig{Name: streamName, MaxAge: b.maxAge, MaxMsgs: int64(b.limit),
			AllowAtomicPublish: true}, State: state}
}

// publish takes a message, or does not, and returns what the server answers.
func (b *broker) publish(msg *nats.Msg) *nats.Msg {
	if !b.there {
		return &nats.Msg{Header: nats.Header{"Status": {"503"}}}
	}
	b.expire()
	checks := []func(*nats.Msg) *nats.Msg{b.unexpected, b.duplicate}
	if b.clustered {
		slices.Reverse(checks)
	}
	for _, check := range append(checks, b.full) {
		if answer := check(msg); answer != nil {
			return answer
		}
	}
	b.store(msg)
	return acknowledge(b.last, "")
}

// publishAtomic takes all of the messages, which are of as many operations, or none,
// and returns what the server answers the last one.
func (b *broker) publishAtomic(messages []*nats.Msg) *nats.Msg {
	if !b.there {
		return &nats.Msg{Header: nats.Header{"Status": {"503"}}}
	}
	b.expire()
	for i, msg := range messages {
		if answer := b.unexpected(msg); answer != nil {
			return answer
		}
		if b.duplicate(msg) != nil {
			return refuse(400, 10201, "atomic publish batch contains duplicate message id")
		}
		if b.limit > 0 && len(b.messages)+i >= b.limit {
			return tooMany()
		}
	}
	for _, msg := range messages {
		b.store(msg)
	}
	return acknowledge(b.last, fmt.Sprintf(`,"batch":"b","count":%d`, len(messages)))
}

func (b *broker) store(msg *nats.Msg) {
	b.last++
	stored := &publisher.StoredMessage{Sequence: b.last, Subject: msg.Subject, ID: msg.Header.Get(jetstream.MsgIDHeader),
		Header: msg.Header, Data: msg.Data, Time: b.now()}
	b.messages = append(b.messages, stored)
	b.ids[stored.ID] = remembered{b.last, stored.Time}
	if b.world != nil {
		b.world.oracle.stored(stored)
	}
}

func (b *broker) unexpected(msg *nats.Msg) *nats.Msg {
	text := msg.Header.Get(jetstream.ExpectedLastSubjSeqHeader)
	if text == "" {
		return nil
	}
	is := uint64(0)
	if last := b.lastOf(msg.Header.Get(jetstream.ExpectedLastSubjSeqSubjHeader)); last != nil {
		is = last.Sequence
	}
	if strconv.FormatUint(is, 10) == text {
		return nil
	}
	return refuse(400, 10071, "wrong last sequence: "+strconv.FormatUint(is, 10))
}

func (b *broker) duplicate(msg *nats.Msg) *nats.Msg {
	was, ok := b.ids[msg.Header.Get(jetstream.MsgIDHeader)]
	if !ok || b.now().Sub(was.at) >= b.window {
		return nil
	}
	return acknowledge(was.sequence, `,"duplicate":true`)
}

func (b *broker) full(*nats.Msg) *nats.Msg {
	if b.limit == 0 || len(b.messages) < b.limit {
		return nil
	}
	return tooMany()
}

func tooMany() *nats.Msg { return refuse(503, 10077, "maximum messages exceeded") }

// inFlight is what a clustered server answers a message that meets another one of
// its id, or of its operation, that is not stored yet.
func inFlight(which int) *nats.Msg {
	if which == 0 {
		return refuse(409, 10158, "duplicate message id is in process")
	}
	return refuse(400, 10164, "wrong last sequence")
}

func acknowledge(sequence uint64, more string) *nats.Msg {
	return &nats.Msg{Data: fmt.Appendf(nil, `{"stream":%q,"seq":%d%s}`, streamName, sequence, more)}
}

func refuse(status, code int, description string) *nats.Msg {
	return &nats.Msg{Data: fmt.Appendf(nil, `{"error":{"code":%d,"err_code":%d,"description":%q},"stream":%q,"seq":0}`,
		status, code, description, streamName)}
}
