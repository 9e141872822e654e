package publisher

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of JetStream's API that we branch on.
const (
	codeAccountResources       jetstream.ErrorCode = 10002
	codeInsufficientResources  jetstream.ErrorCode = 10023
	codeInsufficientMemory     jetstream.ErrorCode = 10028
	codeNoMessage              jetstream.ErrorCode = 10037
	codeInsufficientStorage    jetstream.ErrorCode = 10047
	codeInvalidStreamConfig    jetstream.ErrorCode = 10052
	codeMessageTooLarge        jetstream.ErrorCode = 10054
	codeStreamNotFound         jetstream.ErrorCode = 10059
	codeSubjectOverlap         jetstream.ErrorCode = 10065
	codeWrongLastSequence      jetstream.ErrorCode = 10071
	codeReplicasNotSupported   jetstream.ErrorCode = 10074
	codeStoreFailed            jetstream.ErrorCode = 10077
	codeHeaderTooLarge         jetstream.ErrorCode = 10097
	codeMaxBytesRequired       jetstream.ErrorCode = 10113
	codeMaxBytesExceedsAccount jetstream.ErrorCode = 10122
	codeDuplicateInProcess     jetstream.ErrorCode = 10158
	codeTooManyRequests        jetstream.ErrorCode = 10167
	codeLastSequenceNotReady   jetstream.ErrorCode = 10163
	codeWrongLastSequenceConst jetstream.ErrorCode = 10164
)

// outcome is what the answer to one published message proves.
type outcome int

const (
	unclear       outcome = iota // nothing: the stream must be read back
	stored                       // it is in the stream
	full                         // it is not, for want of room: back-pressure
	unpublishable                // it is not, and never will be
	refused                      // it is not, for a reason that concerns more than this message
)

// errDuplicate is an answer that proves that the id was stored within the
// stream's window, not that it still is.
var errDuplicate = errors.New("duplicate")

// answer is the outcome of one attempt to publish.
type answer struct {
	outcome
	sequence uint64 // stored
	class    string // unpublishable
	err      error  // what was answered, or why nothing was; nil only when stored
}

// lostAnswer is the answer of a message that got none.
func lostAnswer(err error) answer { return answer{outcome: unclear, err: err} }

// unsent classifies an error of the client. The message may have left all the
// same only if the connection is in doubt.
func unsent(err error) answer {
	switch {
	case errors.Is(err, nats.ErrMaxPayload):
		return answer{outcome: unpublishable, class: classTooLarge, err: err}
	case errors.Is(err, nats.ErrBadSubject), errors.Is(err, nats.ErrBadHeaderMsg):
		return answer{outcome: unpublishable, class: classBadMessage, err: err}
	}
	return lostAnswer(err)
}

// acknowledgement is what a server answers to a message, or to the last one of a batch.
type acknowledgement struct {
	Stream    string              `json:"stream"`
	Sequence  uint64              `json:"seq"` // of the last one
	Count     int                 `json:"count"`
	Duplicate bool                `json:"duplicate"`
	Error     *jetstream.APIError `json:"error"`
}

// readAcknowledgement reads an answer. An error says why it proves nothing.
func readAcknowledgement(msg *nats.Msg) (ack acknowledgement, err error) {
	if len(msg.Data) == 0 && msg.Header.Get("Status") == "503" {
		return ack, fmt.Errorf("no stream takes subject: %w", nats.ErrNoResponders)
	}
	if err := json.Unmarshal(msg.Data, &ack); err != nil {
		return ack, fmt.Errorf("unreadable acknowledgement: %w", err)
	}
	return ack, nil
}

// classify reads the answer of the server to a message published to stream.
//
// A duplicate, a wrong last sequence in its two spellings, and a conflict with a
// message in flight all mean the same: something of this operation is there, or
// about to be, that we did not know of. None of them says what; and a standalone
// server checks the sequence before the id, a clustered one the other way round.
func classify(stream string, msg *nats.Msg) answer {
	switch ack, err := readAcknowledgement(msg); {
	case err != nil:
		return lostAnswer(err)
	case ack.Error != nil:
		return denied(ack.Error)
	case ack.Stream != stream || ack.Sequence == 0:
		return lostAnswer(fmt.Errorf("acknowledgement of sequence %d by stream %q", ack.Sequence, ack.Stream))
	case ack.Duplicate:
		return lostAnswer(fmt.Errorf("%w of sequence %d", errDuplicate, ack.Sequence))
	default:
		return answer{outcome: stored, sequence: ack.Sequence}
	}
}

func denied(e *jetstream.APIError) answer {
	a := answer{outcome: refused, err: fmt.Errorf("the stream answered %d: %s", e.ErrorCode, e.Description)}
	switch e.ErrorCode {
	case codeWrongLastSequence, codeWrongLastSequenceConst, codeDuplicateInProcess, codeLastSequenceNotReady:
		a.outcome = unclear
	case codeMessageTooLarge, codeHeaderTooLarge:
		a.outcome, a.class = unpublishable, classTooLarge
	case codeStoreFailed:
		a.outcome = full
		if strings.Contains(e.Description, "message too large") {
			a.outcome, a.class = unpublishable, classTooLarge
		}
	case codeInsufficientResources, codeInsufficientStorage, codeInsufficientMemory, codeAccountResources, codeTooManyRequests:
		a.outcome = full
	}
	return a
}
