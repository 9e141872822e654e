package publisher

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// StoredMessage is a message as it is in the stream.
type StoredMessage struct {
	Sequence uint64
	Subject  string
	ID       string // its Nats-Msg-Id; empty when it has none
	Header   nats.Header
	Data     []byte
	Time     time.Time // when the stream stored it
}

// getRequest asks for one message: the last one of a filter, or the first one of
// a filter from a sequence on.
type getRequest struct {
	Last     string `json:"last_by_subj,omitempty"`
	Next     string `json:"next_by_subj,omitempty"`
	Sequence uint64 `json:"seq,omitempty"`
}

// get asks the stream's leader, through the API that only the leader answers.
// The library's GetMsg would use direct get wherever the stream allows it, which
// any replica or mirror answers: a stale "nothing there". It returns nil when
// there is no such message.
func get(ctx context.Context, nc *nats.Conn, stream string, request getRequest) (*StoredMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	reply, err := nc.RequestWithContext(ctx, jetstream.DefaultAPIPrefix+"STREAM.MSG.GET."+stream, body)
	if err != nil {
		return nil, unavailable(nc, "read stream "+stream, err)
	}
	var response struct {
		Error   *jetstream.APIError `json:"error"`
		Message *struct {
			Subject  string    `json:"subject"`
			Sequence uint64    `json:"seq"`
			Header   []byte    `json:"hdrs"`
			Data     []byte    `json:"data"`
			Time     time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(reply.Data, &response); err != nil {
		return nil, fmt.Errorf("read stream %s: %w", stream, err)
	}
	switch {
	case response.Error != nil && response.Error.ErrorCode == codeNoMessage:
		return nil, nil
	case response.Error != nil && response.Error.ErrorCode == codeStreamNotFound:
		return nil, fmt.Errorf("read stream %s: %w", stream, jetstream.ErrStreamNotFound)
	case response.Error != nil:
		return nil, &UnavailableError{Op: "read stream " + stream, Err: response.Error}
	case response.Message == nil:
		return nil, fmt.Errorf("read stream %s: neither a message nor an error", stream)
	}
	m := response.Message
	stored := &StoredMessage{Sequence: m.Sequence, Subject: m.Subject, Data: m.Data, Time: m.Time, Header: nats.Header{}}
	if len(m.Header) > 0 {
		if stored.Header, err = nats.DecodeHeadersMsg(m.Header); err != nil {
			return nil, fmt.Errorf("headers of sequence %d of stream %s: %w", m.Sequence, stream, err)
		}
	}
	stored.ID = stored.Header.Get(jetstream.MsgIDHeader)
	return stored, nil
}

// last returns the last message of filter, nil for none.
func (s *Stream) last(ctx context.Context, filter string) (*StoredMessage, error) {
	return get(ctx, s.nc, s.want.Name, getRequest{Last: filter})
}

// find returns the sequence of the message with id among those of filter, 0 for
// none. An operation has a handful of messages, so it walks them.
func (s *Stream) find(ctx context.Context, filter, id string) (uint64, error) {
	for from := uint64(1); ; {
		msg, err := get(ctx, s.nc, s.want.Name, getRequest{Next: filter, Sequence: from})
		switch {
		case err != nil:
			return 0, err
		case msg == nil:
			return 0, nil
		case msg.ID == id:
			return msg.Sequence, nil
		}
		from = msg.Sequence + 1
	}
}

// readers is how many read-backs run at once: enough to hide the way to a
// distant server when a whole batch is unclear.
const readers = 16

// lasts returns the last message of the operation of each attempt, nil for none,
// or the first error. No goroutine outlives the call.
func (s *Stream) lasts(ctx context.Context, attempts []attempt) ([]*StoredMessage, error) {
	messages := make([]*StoredMessage, len(attempts))
	err := inParallel(ctx, len(attempts), func(ctx context.Context, i int) (err error) {
		messages[i], err = s.last(ctx, attempts[i].pending.Filter)
		return err
	})
	if err != nil {
		return nil, err
	}
	return messages, nil
}

// ReadAll calls fn with every message of the stream in order, up to the one that
// is the last when it is called. It reads from the stream's leader, one message
// a request, and leaves nothing behind on the server. An error of fn ends it and
// is returned as it is.
func ReadAll(ctx context.Context, nc *nats.Conn, stream string, fn func(StoredMessage) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	s := &Stream{nc: nc, js: js, want: jetstream.StreamConfig{Name: stream}}
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	for from := uint64(1); from <= info.State.LastSeq; {
		msg, err := get(ctx, nc, stream, getRequest{Next: ">", Sequence: from})
		if err != nil {
			return err
		}
		if msg == nil || msg.Sequence > info.State.LastSeq {
			return nil // what was left has reached its age
		}
		if err := fn(*msg); err != nil {
			return err
		}
		from = msg.Sequence + 1
	}
	return nil
}
