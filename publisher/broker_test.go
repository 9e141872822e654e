package publisher

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

const prefix = "codat.push"

// broker is a NATS server in this process whose stream lives in a directory of
// the test, so that it can be stopped and started.
type broker struct {
	t       *testing.T
	dir     string
	change  func(*server.Options)
	mu      sync.Mutex
	running *server.Server
}

func startBroker(t *testing.T, change ...func(*server.Options)) *broker {
	b := &broker{t: t, dir: t.TempDir(), change: func(*server.Options) {}}
	if len(change) > 0 {
		b.change = change[0]
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: b.dir, NoLog: true, NoSigs: true}
	b.change(o)
	s, err := server.NewServer(o)
	require.NoError(b.t, err)
	s.Start()
	require.True(b.t, s.ReadyForConnections(10*time.Second))
	b.mu.Lock()
	b.running = s
	b.mu.Unlock()
}

func (b *broker) stop() {
	b.mu.Lock()
	s := b.running
	b.mu.Unlock()
	s.Shutdown()
	s.WaitForShutdown()
}

func (b *broker) url() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running.ClientURL()
}

func (b *broker) address() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.running.Addr().String()
}

func dial(t *testing.T, url string) *nats.Conn {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	nc, err := Dial(ctx, DialConfig{URL: url})
	require.NoError(t, err)
	t.Cleanup(func() { closeConnection(nc) })
	return nc
}

// closeConnection waits until the connection's goroutines are on their way out.
func closeConnection(nc *nats.Conn) {
	closed := nc.StatusChanged(nats.CLOSED)
	if nc.IsClosed() {
		return
	}
	nc.Close()
	<-closed
}

func streamConfig() StreamConfig {
	return StreamConfig{Name: "CODAT_PUSH", SubjectPrefix: prefix, Manage: ManageCreate, MaxAge: 720 * time.Hour}
}

func ensure(t *testing.T, nc *nats.Conn) *JetStream {
	s, warnings, err := EnsureStream(t.Context(), nc, streamConfig())
	require.NoError(t, err)
	require.Empty(t, warnings)
	return s
}

func api(t *testing.T, nc *nats.Conn) jetstream.JetStream {
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return js
}

// shortWindow makes the stream forget message ids after 100 ms, the least that
// the server grants, so that only the expected sequence is left as a guard.
func shortWindow(t *testing.T, nc *nats.Conn) {
	c := streamConfig().wanted()
	c.Duplicates = 100 * time.Millisecond
	_, err := api(t, nc).CreateStream(t.Context(), c)
	require.NoError(t, err)
}

func readAll(t *testing.T, nc *nats.Conn) []StoredMessage {
	var all []StoredMessage
	require.NoError(t, ReadAll(t.Context(), nc, "CODAT_PUSH", func(m StoredMessage) error {
		all = append(all, m)
		return nil
	}))
	return all
}
