package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// start starts the program in this world and waits until it has asked.
func (w *world) start(t *testing.T, environ []string, args ...string) *exec.Cmd {
	cmd := program(t.Context(), t, environ, append([]string{"run", "--http-listen", "127.0.0.1:0"}, args...)...)
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	before := w.sim.Stats().Requests
	require.NoError(t, cmd.Start())
	w.awaitRequests(t, before+10)
	return cmd
}

func TestASecondSignalEndsTheProgramAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	cmd := w.start(t, w.environ("PUSHWATCH_SHUTDOWN_TIMEOUT=5m"))
	// A lock that nobody grants keeps the leases from being given back.
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(t.Context()) }()
	lock, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = lock.Exec(t.Context(), `lock table pushwatch.lease in access exclusive mode`)
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "msg=stopping") }, 30*time.Second, 10*time.Millisecond)

	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the second signal was not obeyed")
	}
	status := cmd.ProcessState.Sys().(syscall.WaitStatus)
	assert.True(t, status.Signaled() && status.Signal() == syscall.SIGTERM, "ended by the signal: %v", cmd.ProcessState)
	require.NoError(t, lock.Rollback(t.Context()))
}

// TestKillsOfTheWholeEmbeddedProgramLoseNothing kills a pushwatch with its NATS
// server inside and a PostgreSQL that outlives it, and audits through the
// addresses that the last one wrote down.
func TestKillsOfTheWholeEmbeddedProgramLoseNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	environ := w.environ("DATABASE_URL=", "NATS_URL=")
	dir, last := w.embeddedIn(t, environ...)
	for range 5 {
		require.NoError(t, last.Process.Kill())
		_ = last.Wait()
		last = w.start(t, environ, "--data-dir", dir)
	}
	var running bool
	var err error
	w.databaseURL, w.natsURL, running, err = embedded.Running(dir)
	require.NoError(t, err)
	require.True(t, running)
	assert.Contains(t, w.log.String(), "took over PostgreSQL from an earlier pushwatch")

	second := run(t, environ, "run", "--data-dir", dir)
	assert.Equal(t, exitService, second.code)
	assert.Contains(t, second.stderr, "is in use by process")

	w.sim.Freeze()
	report := w.settled(t)
	t.Log(report)
	assert.Greater(t, report.Changes, 80)
	assert.True(t, report.Sound(), report)
	storetest.CheckInvariants(t, w.databaseURL)
	require.NoError(t, last.Process.Signal(os.Interrupt))
	require.NoError(t, last.Wait())
	_, _, running, err = embedded.Running(dir)
	require.NoError(t, err)
	assert.False(t, running)
	assert.NoFileExists(t, filepath.Join(dir, "postgres", "postmaster.pid"), "no PostgreSQL is left behind")
}

func TestASignalWhileItStartsIsAGracefulStop(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // a PostgreSQL that takes connections and never answers
	require.NoError(t, err)
	t.Cleanup(func() { _ = silent.Close() })
	w := newWorld(t, codatsim.Config{})
	cmd := program(t.Context(), t, w.environ("DATABASE_URL=postgres://pushwatch@"+silent.Addr().String()+"/x?sslmode=disable"), "run")
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	require.NoError(t, cmd.Start())
	conn, err := silent.Accept()
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), w.log.String())
	assert.Contains(t, w.log.String(), "stopped while starting")
}
