package embedded

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// These make the test binary a child that does as the first says in the directory
// that the second names.
const (
	childTask = "EMBEDDED_TEST_CHILD"
	childDir  = "EMBEDDED_TEST_DIR"
)

func TestMain(m *testing.M) {
	if task := os.Getenv(childTask); task != "" {
		os.Exit(child(context.Background(), task))
	}
	goleak.VerifyTestMain(m)
}

// child does its task, says "ready" and waits to be killed; told to go round, it
// stops its servers instead.
func child(ctx context.Context, task string) int {
	tasks := map[string]func(context.Context) error{"serve": serve, "throw away": throwAway, "go round": goRound}
	if err := tasks[task](ctx); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	if task != "go round" {
		select {}
	}
	return 0
}

func serve(ctx context.Context) error {
	dir, err := OpenDir(os.Getenv(childDir))
	if err != nil {
		return err
	}
	p, err := StartPostgres(ctx, PostgresConfig{Dir: dir.Path})
	if err != nil {
		return err
	}
	n, err := StartNATS(NATSConfig{Dir: dir.Path, Port: -1})
	if err != nil {
		return err
	}
	return writeBoth(ctx, p.URL(), n.URL())
}

func throwAway(ctx context.Context) error {
	p, err := StartPostgres(ctx, PostgresConfig{UnsafeNoFsync: true})
	if err != nil {
		return err
	}
	fmt.Println(p.postmaster.process.Pid)
	return nil
}

func goRound(ctx context.Context) error {
	dir, err := OpenTempDir(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	p, err := StartPostgres(ctx, PostgresConfig{Dir: dir.Path})
	if err != nil {
		return err
	}
	n, err := StartNATS(NATSConfig{Dir: dir.Path, Port: -1})
	if err != nil {
		return err
	}
	if err := writeBoth(ctx, p.URL(), n.URL()); err != nil {
		return err
	}
	n.Stop()
	return p.Stop(ctx)
}

// writeBoth leaves a row and a message that both servers acknowledged.
func writeBoth(ctx context.Context, databaseURL, natsURL string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := writeRow(ctx, databaseURL); err != nil {
		return err
	}
	nc, err := nats.Connect(natsURL)
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	if _, err := js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "s.1", []byte("hello"))
	return err
}

func writeRow(ctx context.Context, databaseURL string) error {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, `create table if not exists t as select 42 as n`)
	return err
}

// started is a child process that said it is ready.
type started struct {
	*exec.Cmd
	said []string // its lines before that
}

// startChild runs a task until it is ready; the child is killed at the end of the
// test if it still lives.
func startChild(t *testing.T, cmd *exec.Cmd) started {
	t.Helper()
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { kill(cmd) })
	c := started{Cmd: cmd}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if lines.Text() == "ready" {
			return c
		}
		c.said = append(c.said, lines.Text())
	}
	require.FailNow(t, "the child ended: "+strings.Join(c.said, "\n"))
	return c
}

// childCommand runs this test binary with a task.
func childCommand(t *testing.T, task, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childTask+"="+task, childDir+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

// kill ends a child as kill -9 does, and waits for it.
func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
}

// dataDir returns the path of a data directory that PostgreSQL's user can enter.
// At the end of the test a server that is left in it is ended, and it is removed.
func dataDir(t *testing.T) string {
	t.Helper()
	path, err := os.MkdirTemp("", "pushwatch-embedded-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(path, 0o755))
	t.Cleanup(func() { require.NoError(t, discard(path)) })
	return path
}

func startPostgres(t *testing.T, dir string) *Postgres {
	t.Helper()
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(context.WithoutCancel(t.Context()))) })
	return p
}

func startNATS(t *testing.T, config NATSConfig) *NATS {
	t.Helper()
	n, err := StartNATS(config)
	require.NoError(t, err)
	t.Cleanup(n.Stop)
	return n
}

// query returns the one text that a statement answers.
func query(t *testing.T, p *Postgres, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var answer string
	require.NoError(t, conn.QueryRow(t.Context(), sql).Scan(&answer))
	return answer
}

// orphan starts a child with both servers in dir, kills it, and returns the pid of
// the PostgreSQL that it leaves behind.
func orphan(t *testing.T, dir string) int {
	t.Helper()
	kill(startChild(t, childCommand(t, "serve", dir)).Cmd)
	found, ok := readPIDFile(filepath.Join(dir, "postgres"))
	require.True(t, ok)
	require.NoError(t, syscall.Kill(found.pid, 0), "PostgreSQL lives on")
	return found.pid
}

func copyFile(t *testing.T, from, to string, mode os.FileMode) {
	t.Helper()
	in, err := os.Open(from)
	require.NoError(t, err)
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_EXCL, mode)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, err)
	require.NoError(t, out.Close())
}
