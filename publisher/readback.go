package publisher

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Get implements [Stream].
func (s *JetStream) Get(ctx context.Context, q Query) (*StoredMessage, error) {
	msg, err := get(ctx, s.nc, s.want.Name, q)
	return msg, s.withRemedy(err)
}

// get asks the stream's leader, through the API that only the leader answers.
// The library's GetMsg would use direct get wherever the stream allows it, which
// any replica or mirror answers: a stale "nothing there". It returns nil when
// there is no such message.
func get(ctx context.Context, nc *nats.Conn, stream string, q Query) (*StoredMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	body, err := json.Marshal(q)
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
		// The server keeps whatever was sent. Headers that are none are nobody's of ours, and
		// stand in the way of their own operation alone.
		if header, err := nats.DecodeHeadersMsg(m.Header); err == nil {
			stored.Header = header
		}
	}
	stored.ID = stored.Header.Get(jetstream.MsgIDHeader)
	return stored, nil
}

// last returns the last message of filter, nil for none.
func last(ctx context.Context, s Stream, filter string) (*StoredMessage, error) {
	return s.Get(ctx, Query{Last: filter})
}

// find returns the message with id among those of filter, nil for none. An
// operation has a handful of messages, so it walks them.
func find(ctx context.Context, s Stream, filter, id string) (*StoredMessage, error) {
	for from := uint64(1); ; {
		msg, err := s.Get(ctx, Query{Next: filter, Sequence: from})
		if err != nil || msg == nil || msg.ID == id {
			return msg, err
		}
		from = msg.Sequence + 1
	}
}

// readers is how many read-backs run at once: enough to hide the way to a
// distant server when a whole batch is unclear.
const readers = 16

// lasts returns the last message of the operation of each attempt, nil for none,
// or the first error. No goroutine outlives the call.
func lasts(ctx context.Context, s Stream, attempts []attempt) ([]*StoredMessage, error) {
	messages := make([]*StoredMessage, len(attempts))
	err := inParallel(ctx, len(attempts), func(ctx context.Context, i int) (err error) {
		messages[i], err = last(ctx, s, attempts[i].pending.Filter)
		return err
	})
	if err != nil {
		return nil, err
	}
	return messages, nil
}

// readAhead is how many sequences ReadAll asks for before it looks at what came.
const readAhead = 128

// ReadAll calls fn with every message of the stream in order, up to the one that
// is the last when it is called. It reads from the stream's leader, one message
// a request and several requests at once, and leaves nothing behind on the server.
// An error of fn ends it and is returned as it is.
func ReadAll(ctx context.Context, nc *nats.Conn, stream string, fn func(StoredMessage) error) error {
	js, err := jetstream.New(nc)
	if err != nil {
		return fmt.Errorf("read stream %s: %w", stream, err)
	}
	s := &JetStream{nc: nc, js: js, want: jetstream.StreamConfig{Name: stream}}
	info, err := s.info(ctx)
	if err != nil {
		return err
	}
	last := info.State.LastSeq
	for from := uint64(1); from <= last; {
		first := from
		ahead := make([]*StoredMessage, min(readAhead, last-first+1))
		err := inParallel(ctx, len(ahead), func(ctx context.Context, i int) (err error) {
			ahead[i], err = get(ctx, nc, stream, Query{Next: ">", Sequence: first + uint64(i)})
			return err
		})
		if err != nil {
			return err
		}
		for _, msg := range ahead {
			if msg == nil || msg.Sequence > last {
				return nil // what was left has reached its age
			}
			if msg.Sequence < from {
				continue // a gap: asked for by the sequences in it too
			}
			if err := fn(*msg); err != nil {
				return err
			}
			from = msg.Sequence + 1
		}
	}
	return nil
}
