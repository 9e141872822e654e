package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// UnavailableError says that NATS or its JetStream cannot be used now: it is not
// reachable, not enabled, does not let us in, or does not answer. Waiting or the
// operator of NATS may help; the configuration of pushwatch need not be wrong.
type UnavailableError struct {
	Op  string // what was attempted
	Err error
}

func (e *UnavailableError) Error() string { return e.Op + ": " + e.Err.Error() }

func (e *UnavailableError) Unwrap() error { return e.Err }

// MismatchError says that the stream, as it is or as it is wanted, cannot carry
// the guarantees. Only a change of configuration helps: of the stream's, or of
// pushwatch's.
type MismatchError struct {
	Stream      string
	Differences []Difference // at least one
	Remedy      string       // a command to type, or what else to do
}

// Difference is one setting of a stream that is not as it should be.
type Difference struct {
	Field  string // as the JetStream API spells it
	Is     string
	Should string
	flags  string // of `nats stream edit`; empty when the server does not let it be edited
}

func (d Difference) String() string {
	return fmt.Sprintf("%s is %s, should be %s", d.Field, d.Is, d.Should)
}

func (e *MismatchError) Error() string {
	list := make([]string, len(e.Differences))
	for i, d := range e.Differences {
		list[i] = d.String()
	}
	return fmt.Sprintf("stream %s: %s; %s", e.Stream, strings.Join(list, "; "), e.Remedy)
}

// unavailable explains err, the outcome of an API request over nc.
func unavailable(nc *nats.Conn, op string, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		err = errors.New("JetStream is not enabled on this NATS server (nats-server -js)")
	case errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		err = errors.New("JetStream is not enabled for this NATS account")
	case errors.Is(err, nats.ErrReconnectBufExceeded): // nothing is buffered, see Dial: what is lacking is the connection
		err = nats.ErrDisconnected
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		// A refused request gets no answer; the refusal comes as a note on the connection.
		if last := nc.LastError(); errors.Is(last, nats.ErrPermissionViolation) {
			err = last
		} else {
			err = fmt.Errorf("no answer from JetStream: %w", err)
		}
	}
	return &UnavailableError{Op: op, Err: err}
}
