package embedded

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAnOrphanIsAdoptedAndNothingIsLost(t *testing.T) {
	path := dataDir(t)
	pid := orphan(t, path)
	dir, err := OpenDir(path)
	require.NoError(t, err, "the orphan does not hold the lock")
	defer func() { require.NoError(t, dir.Close()) }()

	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: path})
	require.NoError(t, err)
	assert.Equal(t, pid, p.postmaster.process.Pid)
	require.NoError(t, p.Alive())
	assert.Equal(t, "42", query(t, p, `select n::text from t`))
	require.NoError(t, p.Stop(t.Context()), "an adopted server is stopped like any other")
	require.ErrorContains(t, p.Alive(), "database system is shut down")
	<-p.Done()

	n := startNATS(t, NATSConfig{Dir: path, Port: -1})
	nc, err := nats.Connect(n.URL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	message, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	assert.Equal(t, uint64(1), message.CachedInfo().State.Msgs)
}

func TestAnOrphanThatTakesNobodyIsEndedAndReplaced(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(*testing.T, int, string)
	}{
		{"because it was stopped by a signal", func(t *testing.T, pid int, _ string) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
		}},
		{"because it shuts down and waits for a session to end", func(t *testing.T, pid int, dir string) {
			conn, err := pgx.Connect(t.Context(), databaseURL(filepath.Join(dir, "run")))
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
			require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
			require.Eventually(t, func() bool {
				found, _ := readPIDFile(filepath.Join(dir, "postgres"))
				return found.status == "stopping"
			}, 10*time.Second, lookAgain)
		}},
		{"because it was killed", func(t *testing.T, pid int, _ string) {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := dataDir(t)
			pid := orphan(t, dir)
			c.do(t, pid, dir)
			p := startPostgres(t, dir)
			assert.NotEqual(t, pid, p.postmaster.process.Pid)
			assert.False(t, worksIn(pid, p.cluster))
			assert.Equal(t, "42", query(t, p, `select n::text from t`))
		})
	}
}

// The stopped backend stands for one that is deep in a system call: it holds the
// shared memory of a server that is gone.
func TestBackendsOfAKilledServerKeepASecondOneOut(t *testing.T) {
	dir := dataDir(t)
	pid := orphan(t, dir)
	conn, err := pgx.Connect(t.Context(), databaseURL(filepath.Join(dir, "run")))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	backend := int(conn.PgConn().PID())
	require.NoError(t, syscall.Kill(backend, syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(backend, syscall.SIGCONT) }() // it may have ended
	require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))

	came := make(chan error, 1)
	go func() {
		p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
		if err == nil {
			err = p.Stop(context.WithoutCancel(t.Context()))
		}
		came <- err
	}()
	log := filepath.Join(dir, "postgres.log")
	require.Eventually(t, func() bool {
		text, err := os.ReadFile(log)
		return err == nil && strings.Contains(string(text), "pre-existing shared memory block")
	}, 10*time.Second, lookAgain, "PostgreSQL sees the backend")
	require.Empty(t, came, "and we wait")
	require.NoError(t, syscall.Kill(backend, syscall.SIGCONT))
	require.NoError(t, <-came)
}

func TestAStalePIDFileNeitherBlocksNorKills(t *testing.T) {
	dir, other := dataDir(t), dataDir(t)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context()))
	sleeper := p.account.command(t.Context(), "/", "/bin/sleep", "600") // whom PostgreSQL's user may signal
	require.NoError(t, sleeper.Start())
	defer kill(sleeper)
	neighbour := startPostgres(t, other)

	for name, pid := range map[string]int{
		"of a stranger":                        sleeper.Process.Pid,
		"of a PostgreSQL on another directory": neighbour.postmaster.process.Pid,
		"of nobody":                            1 << 30,
	} {
		t.Run(name, func(t *testing.T) {
			lines := fmt.Sprintf("%d\n%s\n1\n5432\n%s\n\n1 1\nready\n", pid, p.cluster, neighbour.sockets)
			for _, file := range []string{filepath.Join(p.cluster, "postmaster.pid"), filepath.Join(p.sockets, socketName+".lock")} {
				require.NoError(t, os.WriteFile(file, []byte(lines), 0o600))
				require.NoError(t, os.Chown(file, p.account.uid, p.account.gid))
			}
			again, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
			require.NoError(t, err)
			assert.NotEqual(t, neighbour.postmaster.process.Pid, again.postmaster.process.Pid)
			require.NoError(t, again.Stop(t.Context()))
			assert.False(t, exited(sleeper.Process))
			assert.NoError(t, neighbour.Alive())
		})
	}
}

// Every moment of a start is hit in turn: initdb, the rename, a server that
// starts, one that is ready.
func TestAStartAfterAKillAtAnyMomentOfAnother(t *testing.T) {
	dir := dataDir(t)
	for moment := 100 * time.Millisecond; moment < 2*time.Second; moment += 250 * time.Millisecond {
		cmd := childCommand(t, "serve", dir)
		require.NoError(t, cmd.Start())
		timer := time.NewTimer(moment)
		<-timer.C
		kill(cmd)
	}
	p := startPostgres(t, dir)
	require.NoError(t, writeRow(t.Context(), p.URL()))
	assert.Len(t, postmasters(t, p.cluster), 1, "never two on one cluster")
}

// postmasters returns the servers that were started on a cluster and still run.
func postmasters(t *testing.T, cluster string) []int {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "ps", "-eww", "-o", "pid=,command=").Output()
	require.NoError(t, err)
	var pids []int
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "/postgres -D "+cluster+" ") {
			pid, err := strconv.Atoi(strings.Fields(line)[0])
			require.NoError(t, err)
			pids = append(pids, pid)
		}
	}
	return pids
}
