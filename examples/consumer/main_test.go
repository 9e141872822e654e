package main

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pushwatch/pushwatch/internal/embedded"
)

var (
	postgresURL string
	databases   atomic.Int64
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(suite{m}) }

// suite is the tests with a database around them, which has ended when goroutines
// that are left are looked for.
type suite struct{ m *testing.M }

// Run implements goleak.TestingM.
func (s suite) Run() int { return serve(s.m) }

func serve(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{UnsafeNoFsync: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := postgres.Stop(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	postgresURL = postgres.URL()
	return m.Run()
}

// rig is a NATS server with pushwatch's stream, and a database without tables.
type rig struct {
	*testing.T
	natsURL, databaseURL string
	pool                 *pgxpool.Pool
	js                   jetstream.JetStream
	log                  *lockedBuffer
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, log: &lockedBuffer{}}
	dir, err := embedded.OpenTempDir(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, dir.Close()) })
	server, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir.Path, Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	r.natsURL = server.URL()

	admin, err := pgxpool.New(t.Context(), postgresURL)
	require.NoError(t, err)
	t.Cleanup(admin.Close)
	name := fmt.Sprintf("consumer_%d", databases.Add(1))
	_, err = admin.Exec(t.Context(), "create database "+name)
	require.NoError(t, err)
	u, err := url.Parse(postgresURL)
	require.NoError(t, err)
	u.Path = "/" + name
	r.databaseURL = u.String()
	r.pool, err = pgxpool.New(t.Context(), r.databaseURL)
	require.NoError(t, err)
	t.Cleanup(r.pool.Close)

	r.js, err = jetstream.New(r.connect())
	require.NoError(t, err)
	_, err = r.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CODAT_PUSH", Subjects: []string{"codat.push.>"}})
	require.NoError(t, err)
	return r
}

func (r *rig) connect() *nats.Conn {
	nc, err := nats.Connect(r.natsURL)
	require.NoError(r, err)
	r.Cleanup(nc.Close)
	return nc
}

// lockedBuffer collects the log of instances that run side by side.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
