package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/embedded"
)

func TestRestartsThatDoNotHelpBackOffAndNeverEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Time
		g := &guard{
			check: "database", patience: 10 * time.Second, log: slog.New(slog.DiscardHandler),
			probe:   func(context.Context) error { return errors.New("no answer") },
			restart: func(context.Context) error { at = append(at, time.Now()); return errors.New("disk full") },
		}
		began := time.Now()
		running := begin(g.run)
		time.Sleep(time.Hour)
		synctest.Wait()
		checks := map[string]check{"database": {OK: true}}
		(&watch{guards: []*guard{g}}).tell(checks)
		require.NoError(t, running.end(t.Context()))
		assert.False(t, checks["database"].OK)
		assert.Contains(t, checks["database"].Reason, "disk full")
		assert.Equal(t, began.UTC(), *checks["database"].Since)
		require.Greater(t, len(at), 50, "it never gives up")
		assert.Equal(t, 10*time.Second, at[0].Sub(began))
		assert.Equal(t, time.Second, at[1].Sub(at[0]))
		assert.Equal(t, 2*time.Second, at[2].Sub(at[1]))
		assert.Equal(t, longestRetry, at[len(at)-1].Sub(at[len(at)-2]))
	})
}

// supervised starts both embedded servers under supervision.
func supervised(t *testing.T) (s *servers, pool *pgxpool.Pool, pid func() int) {
	t.Helper()
	dir, err := embedded.OpenTempDir(t.Context())
	require.NoError(t, err)
	s = &servers{dir: dir}
	t.Cleanup(func() { require.NoError(t, s.stop(context.Background())) })
	s.postgres, err = embedded.StartPostgres(t.Context(), embedded.PostgresConfig{Dir: dir.Path, UnsafeNoFsync: true, EndWithUs: true})
	require.NoError(t, err)
	s.nats, err = embedded.StartNATS(embedded.NATSConfig{Dir: dir.Path, Port: -1})
	require.NoError(t, err)
	pool, err = pgxpool.New(t.Context(), s.postgres.URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	_, err = pool.Exec(t.Context(), `create table public.kept as select 42 as n`)
	require.NoError(t, err)
	return s, pool, func() int {
		text, err := os.ReadFile(filepath.Join(dir.Path, "postgres", "postmaster.pid"))
		if err != nil {
			return 0
		}
		first, _, _ := strings.Cut(string(text), "\n")
		n, _ := strconv.Atoi(first)
		return n
	}
}

func TestPostgresThatDiesOrHangsIsStartedAgainAtItsURL(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, pool, pid := supervised(t)
			s.guard(slog.New(slog.DiscardHandler))
			s.watch.guards[0].patience = time.Second // a probe takes 2 s to fail
			s.watch.begin()
			first := pid()
			require.NoError(t, syscall.Kill(first, signal))
			require.Eventually(t, func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var n int
				err := pool.QueryRow(ctx, `select n from public.kept`).Scan(&n)
				return err == nil && n == 42 && pid() != first
			}, 20*time.Second, 50*time.Millisecond)
		})
	}
}

func TestAWedgedNATSServerIsStartedAgainOnItsPort(t *testing.T) {
	t.Parallel()
	s, _, _ := supervised(t)
	nc, err := nats.Connect(s.nats.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}
	_, err = js.CreateStream(t.Context(), stream)
	require.NoError(t, err)
	// The whole store goes, token and all: every write into it fails until a restart.
	require.NoError(t, lose(filepath.Join(s.dir.Path, "nats")))
	s.guard(slog.New(slog.DiscardHandler))
	s.watch.begin()
	require.Eventually(t, func() bool {
		_, err := js.CreateStream(t.Context(), stream)
		if err == nil {
			_, err = js.Publish(t.Context(), "s", []byte("x"))
		}
		return err == nil && nc.Stats().Reconnects > 0
	}, 15*time.Second, 100*time.Millisecond)
}
