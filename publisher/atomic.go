package publisher

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Atomic says when the relay publishes a batch as one atomic batch of the stream, of which
// all events are stored or none.
type Atomic string

// The ways to publish a batch.
const (
	AtomicAuto   Atomic = "auto"   // whichever is faster on this server
	AtomicAlways Atomic = "always" // as one, where the stream allows it
	AtomicNever  Atomic = "never"  // one by one
)

// What each message of an atomic batch has, and the last one beside it, by NATS ADR-50.
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
)

var (
	errUncommitted = errors.New("the atomic batch was not sent to its end")
	errAtomic      = errors.New("the stream refused the batch")
)

// publishAtomic sends attempts as one atomic batch and returns what is proven of each,
// in their order. With an error nothing of them is stored.
//
// True if we crash here: all of the messages are in the stream, or none (or some, if the
// server broke down just then), and nobody knows. They are still pending, are published
// again, refused by the expected sequence, and found by reading back.
func publishAtomic(s Stream, name string, attempts []attempt, cas bool, timeout time.Duration) ([]answer, error) {
	replies := s.Publish(messages(name, attempts, cas), true, timeout)
	reply := replies[len(replies)-1]
	if errors.Is(reply.Err, errUncommitted) {
		return nil, reply.Err
	}
	all := lostAnswer(reply.Err)
	if reply.Err == nil {
		var err error
		if all, err = classifyAtomic(name, len(attempts), reply.Msg); err != nil {
			return nil, err
		}
	}
	answers := make([]answer, len(attempts))
	for i := range answers {
		answers[i] = all
		if all.outcome == stored { // without gaps, because the server lets nothing in between
			answers[i].sequence += uint64(i)
		}
	}
	return answers, nil
}

// classifyAtomic reads the answer of the server to a batch of n messages: what is known
// of all of them, with the sequence of the first. An error says that they were refused.
func classifyAtomic(stream string, n int, msg *nats.Msg) (answer, error) {
	switch ack, err := readAcknowledgement(msg); {
	case err != nil:
		return lostAnswer(err), nil
	case ack.Error != nil:
		return answer{}, fmt.Errorf("%w: %d: %s", errAtomic, ack.Error.ErrorCode, ack.Error.Description)
	case ack.Stream != stream || ack.Count != n || ack.Sequence < uint64(n):
		return lostAnswer(fmt.Errorf("acknowledgement of %d messages up to sequence %d by stream %q", ack.Count, ack.Sequence, ack.Stream)), nil
	default:
		return answer{outcome: stored, sequence: ack.Sequence - uint64(n) + 1}, nil
	}
}

const (
	fewestAtomic   = 16  // events of an atomic batch; fewer are soon stored one by one
	fewestCompared = 64  // events of a batch that is published both ways
	batchesUntil   = 256 // the next one is
)

// pace knows which way to publish is faster. An atomic batch costs the server more work,
// and one sync instead of as many as it has events: so it depends on whether the server
// syncs before it acknowledges, and on its disk, none of which it tells. Now and then a
// batch is published half this way and half that way.
type pace struct {
	mu     sync.Mutex
	single bool // one by one is faster; not before it is known, because it may be ten times slower
	until  int  // batches until the ways are compared again
}

// next returns how a batch of n events is to be published.
func (p *pace) next(n int) (atomic, compare bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.until > 0 {
		p.until--
	} else if n >= fewestCompared {
		p.until = batchesUntil
		return false, true
	}
	return n >= fewestAtomic && !p.single, false
}

// compared notes how long equal halves of a batch took.
func (p *pace) compared(single, atomic time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.single = single <= atomic
}
