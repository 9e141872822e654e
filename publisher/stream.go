package publisher

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Stream is the stream that events go to, as the server tells of it; what its
// words mean for an event is decided here. It is safe for concurrent use, and each
// call ends by itself within seconds, whatever the server does. Nothing is tried
// again by it: whoever calls decides, because only the expected sequence makes
// that safe.
type Stream interface {
	// Identify asks which stream it is that answers to the name. One that is gone is
	// made anew where that is allowed. With an error that says that the stream is
	// there but may not be used, its identity is returned all the same.
	Identify(ctx context.Context) (Identity, error)
	// Get asks the stream's leader for one message, because a replica may answer that
	// there is nothing yet. It returns nil when there is no such message.
	Get(ctx context.Context, q Query) (*StoredMessage, error)
	// Publish sends messages, all at once, and returns in their order what each was
	// answered within timeout. It is not cut short by anything but a connection that
	// breaks. A message without an answer may be in the stream, not be there, or get
	// there later. An atomic batch is stored whole, in its order and with nothing in
	// between, or not at all, and each of its messages has the answer to all.
	Publish(messages []*nats.Msg, atomic bool, timeout time.Duration) []Reply
	// Reconnects counts how often the connection was lost and made again, and with it
	// perhaps the server's memory. It asks nobody.
	Reconnects() uint64
}

// Identity is which stream it is that answers to a name, and what it is like now.
type Identity struct {
	Epoch  string // name and creation time: a stream that was made anew is another
	Events string // the filter of all events of all databases
	Config jetstream.StreamConfig
	State  jetstream.StreamState
}

// Query asks for one message: the last one of a filter, the first one of a filter
// from a sequence on, or the one at a sequence. It is a request of JetStream's API.
type Query struct {
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Sequence uint64 `json:"seq,omitempty"`
}

// StoredMessage is a message as it is in the stream.
type StoredMessage struct {
	Sequence uint64
	Subject  string
	ID       string // its Nats-Msg-Id; empty when it has none
	Header   nats.Header
	Data     []byte
	Time     time.Time // when the stream stored it
}

// Reply is what a published message was answered.
type Reply struct {
	Msg *nats.Msg
	Err error // why there is no answer; Msg is nil then
}
