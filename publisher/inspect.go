package publisher

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Inspect looks at the stream as [EnsureStream] would and changes nothing. It
// reports whether the stream is there, and one warning per harmless difference.
// A missing stream is an error only where c does not let it be made; one that
// EnsureStream would edit is judged as it would be then.
func Inspect(ctx context.Context, nc *nats.Conn, c StreamConfig) (there bool, warnings []string, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return false, nil, fmt.Errorf("stream %s: %w", c.Name, err)
	}
	s := &JetStream{nc: nc, js: js, want: c.wanted()}
	is, err := s.config(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if c.Manage == ManageVerify {
			_, err = s.create(ctx, c.Manage) // refuses, and says what to type
			return false, nil, err
		}
		return false, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	if c.Manage == ManageUpdate {
		for _, d := range append(breaking(is, s.want), drift(is, s.want)...) {
			warnings = append(warnings, fmt.Sprintf("stream %s: %s; the next start of pushwatch edits it", c.Name, d))
		}
		return true, warnings, s.verify(edited(is, s.want))
	}
	return true, s.warnings(is), s.verify(is)
}
