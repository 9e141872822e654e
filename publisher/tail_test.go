package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tailing is a tail that runs beside the test.
type tailing struct {
	mu    sync.Mutex
	seen  []string // payloads
	ended chan error
}

func (t *tailing) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string{}, t.seen...)
}

// startTail follows everything below the prefix until the test ends.
func startTail(t *testing.T, b *broker, since time.Time, filters ...string) *tailing {
	nc := dial(t, b.url())
	ctx, cancel := context.WithCancel(t.Context())
	running := &tailing{ended: make(chan error, 1)}
	c := TailConfig{Stream: "CODAT_PUSH", Filters: filters, Since: since, Log: slog.New(slog.DiscardHandler)}
	go func() {
		running.ended <- Tail(ctx, nc, c, func(m StoredMessage) error {
			running.mu.Lock()
			defer running.mu.Unlock()
			running.seen = append(running.seen, string(m.Data))
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		require.ErrorIs(t, <-running.ended, context.Canceled)
	})
	return running
}

// put publishes a message and returns when the stream has it.
func put(t *testing.T, b *broker, subject, text string) {
	nc := dial(t, b.url())
	_, err := api(t, nc).Publish(t.Context(), subject, []byte(text))
	require.NoError(t, err)
}

func (t *tailing) requireSees(tt *testing.T, want ...string) {
	tt.Helper()
	require.Eventually(tt, func() bool { return len(t.all()) >= len(want) }, 30*time.Second, 20*time.Millisecond, "%v", t.all())
	require.Equal(tt, want, t.all())
}

func TestATailShowsWhatItsFiltersMatchFromItsBeginningOn(t *testing.T) {
	b := startBroker(t)
	ensure(t, dial(t, b.url()))
	put(t, b, prefix+".c.invoices.k.pending", "old pending")
	put(t, b, prefix+".c.invoices.k.failed", "old failed")
	fromNow := startTail(t, b, time.Time{}, prefix+".*.*.*.failed", prefix+".*.bills.*.success")
	sinceThen := startTail(t, b, time.Now().Add(-time.Hour), prefix+".*.*.*.failed")
	sinceThen.requireSees(t, "old failed")
	require.Never(t, func() bool { return len(fromNow.all()) > 0 }, 300*time.Millisecond, 20*time.Millisecond)
	put(t, b, prefix+".c.invoices.k2.success", "not wanted")
	put(t, b, prefix+".c.bills.k3.success", "bill")
	put(t, b, prefix+".c.invoices.k4.failed", "new failed")
	fromNow.requireSees(t, "bill", "new failed")
	sinceThen.requireSees(t, "old failed", "new failed")
}

func TestATailGoesOnWhereItWasWhenTheServerIsBack(t *testing.T) {
	port := 0
	b := startBroker(t, func(o *server.Options) {
		if port != 0 {
			o.Port = port
		}
	})
	b.mu.Lock()
	port = b.running.Addr().(*net.TCPAddr).Port
	b.mu.Unlock()
	ensure(t, dial(t, b.url()))
	running := startTail(t, b, time.Now().Add(-time.Hour), prefix+".*.*.*.*")
	put(t, b, prefix+".c.invoices.k.pending", "it has begun") // one that cannot begin ends
	want := []string{"it has begun"}
	running.requireSees(t, want...)
	for round := range 3 {
		for i := range 2 {
			text := fmt.Sprintf("%d.%d", round, i)
			put(t, b, prefix+".c.invoices.k"+text[:1]+text[2:]+".pending", text)
			want = append(want, text)
		}
		if round > 0 {
			running.requireSees(t, want...)
		}
		b.stop()
		b.start()
	}
	running.requireSees(t, want...)

	nc := dial(t, b.url())
	require.NoError(t, api(t, nc).DeleteStream(t.Context(), "CODAT_PUSH"))
	ensure(t, nc)
	put(t, b, prefix+".c.invoices.k.pending", "first of the new stream")
	running.requireSees(t, append(want, "first of the new stream")...)
}

func TestATailEndsWithTheErrorOfItsReaderAndKnowsAMissingStream(t *testing.T) {
	b := startBroker(t)
	nc := dial(t, b.url())
	c := TailConfig{Stream: "CODAT_PUSH", Filters: []string{prefix + ".*.*.*.*"}, Since: time.Now().Add(-time.Hour), Log: slog.New(slog.DiscardHandler)}
	require.ErrorIs(t, Tail(t.Context(), nc, c, nil), jetstream.ErrStreamNotFound)
	ensure(t, nc)
	put(t, b, prefix+".c.invoices.k.pending", "x")
	full := errors.New("no space left on the terminal")
	assert.Equal(t, full, Tail(t.Context(), nc, c, func(StoredMessage) error { return full }))
}
