package embedded

import (
	"bytes"
	"context"
	"fmt"
	"net"
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

// childDir makes the test binary a child that starts both servers in that
// directory, says so on stdout and waits to be killed.
const childDir = "EMBEDDED_TEST_CHILD_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		os.Exit(child(dir))
	}
	os.Exit(m.Run())
}

func child(dir string) int {
	p, err := StartPostgres(context.Background(), PostgresConfig{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	n, err := StartNATS(NATSConfig{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := writeBoth(p.URL(), n.URL()); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	select {}
}

func writeBoth(databaseURL, natsURL string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, `create table t as select 42 as n`); err != nil {
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
	if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
		return err
	}
	_, err = js.Publish(ctx, "s.1", []byte("hello"))
	return err
}

// dataDir returns a directory that PostgreSQL's user can enter.
func dataDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "pushwatch-embedded-test-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func startPostgres(t *testing.T, dir string) *Postgres {
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Stop(context.WithoutCancel(t.Context()))) })
	return p
}

func answer(t *testing.T, p *Postgres) int {
	conn, err := pgx.Connect(t.Context(), p.URL())
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var n int
	require.NoError(t, conn.QueryRow(t.Context(), `select n from t`).Scan(&n))
	return n
}

// orphan starts a child with both servers in dir, kills it and returns the pid of
// the PostgreSQL that it leaves behind.
func orphan(t *testing.T, dir string) int {
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	said := make([]byte, 512)
	n, err := out.Read(said)
	require.NoError(t, err)
	require.Equal(t, "ready\n", string(said[:n]))
	require.NoError(t, cmd.Process.Kill())
	_ = cmd.Wait()
	text, err := os.ReadFile(filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, 0), "PostgreSQL lives on")
	return pid
}

func TestAClusterKeepsItsDataOverAStop(t *testing.T) {
	dir := dataDir(t)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), p.URL())
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `create table t as select 42 as n`)
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context())) // with a session still open
	_ = conn.Close(t.Context())
	require.Error(t, p.Alive())
	assert.Equal(t, 42, answer(t, startPostgres(t, dir)))
}

func TestAnOrphanedPostgresIsAdoptedAndNATSHasItsStream(t *testing.T) {
	dir := dataDir(t)
	pid := orphan(t, dir)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	assert.Equal(t, pid, p.pid)
	require.NoError(t, p.Alive())
	assert.Equal(t, 42, answer(t, p))
	require.NoError(t, p.Stop(t.Context()), "an adopted server is stopped like any other")
	require.Error(t, p.Alive())

	n, err := StartNATS(NATSConfig{Dir: dir})
	require.NoError(t, err)
	defer n.Stop()
	nc, err := nats.Connect(n.URL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	stream, err := js.Stream(t.Context(), "S")
	require.NoError(t, err)
	assert.Equal(t, uint64(1), stream.CachedInfo().State.Msgs)
}

func TestAnOrphanThatDoesNotAnswerIsEnded(t *testing.T) {
	dir := dataDir(t)
	pid := orphan(t, dir)
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	p := startPostgres(t, dir)
	assert.NotEqual(t, pid, p.pid)
	assert.Equal(t, 42, answer(t, p))
}

func TestAStalePIDFileOfAStrangerNeitherBlocksNorKills(t *testing.T) {
	dir := dataDir(t)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context()))
	stranger := exec.CommandContext(t.Context(), "sleep", "600")
	require.NoError(t, stranger.Start())
	defer func() { _ = stranger.Process.Kill(); _ = stranger.Wait() }()
	file := filepath.Join(dir, "postgres", "data", "postmaster.pid")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "%d\n%s\n", stranger.Process.Pid, dir), 0o600))
	startPostgres(t, dir)
	assert.NoError(t, syscall.Kill(stranger.Process.Pid, 0))
}

func TestADataDirectoryHasOneUser(t *testing.T) {
	path := dataDir(t)
	first, err := OpenDir(path)
	require.NoError(t, err)
	_, err = OpenDir(path)
	var inUse *InUseError
	require.ErrorAs(t, err, &inUse)
	assert.Equal(t, os.Getpid(), inUse.PID)
	assert.Contains(t, err.Error(), path)
	require.NoError(t, first.Close())
	second, err := OpenDir(path)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestConnectEnvIsForThisUserAndForAShell(t *testing.T) {
	dir, err := OpenDir(dataDir(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	path, err := dir.WriteConnectEnv("postgres://u@/db?host=/a&x='", "nats://t@127.0.0.1:1")
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	out, err := exec.CommandContext(t.Context(), "sh", "-c", ". \"$1\"; printf '%s %s' \"$DATABASE_URL\" \"$NATS_URL\"", "sh", path).Output()
	require.NoError(t, err)
	assert.Equal(t, "postgres://u@/db?host=/a&x=' nats://t@127.0.0.1:1", string(out))
}

func TestADirectoryThatPostgresCannotEnterIsRefusedByName(t *testing.T) {
	who, err := findAccount()
	require.NoError(t, err)
	closed := dataDir(t)
	require.NoError(t, os.Chmod(closed, 0o700))
	who.drop = true
	if who.uid == os.Geteuid() {
		who.uid, who.gid = who.uid+1, who.gid+1
	}
	err = who.canEnter(filepath.Join(closed, "postgres"))
	require.Error(t, err)
	assert.Contains(t, err.Error(), closed)
	assert.Contains(t, err.Error(), who.name)
}

func TestALongDataDirectoryGetsAShortSocket(t *testing.T) {
	dir := filepath.Join(dataDir(t), strings.Repeat("long", 30))
	p := startPostgres(t, dir)
	assert.Less(t, len(filepath.Join(p.sockets, ".s.PGSQL.5432")), 108)
	require.NoError(t, p.Alive())
}

func TestMissingProgramsSayWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	saved := places
	places = nil
	defer func() { places = saved }()
	_, _, err := findPrograms(0)
	require.ErrorIs(t, err, ErrNoPrograms)
	assert.Contains(t, err.Error(), "apt-get install postgresql")
	_, _, err = findPrograms(16)
	assert.ErrorContains(t, err, "apt-get install postgresql-16")
}

func TestNATSTakesTheNextFreePortAndAsksForItsToken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:4222")
	if err == nil {
		defer func() { _ = taken.Close() }()
	}
	dir := dataDir(t)
	n, err := StartNATS(NATSConfig{Dir: dir})
	require.NoError(t, err)
	assert.NotEqual(t, 4222, n.Port())
	require.NoError(t, n.Healthy())
	_, err = nats.Connect(fmt.Sprintf("nats://127.0.0.1:%d", n.Port()))
	require.ErrorIs(t, err, nats.ErrAuthorization)
	first := n.token
	n.Stop()
	require.Error(t, n.Healthy())
	again, err := StartNATS(NATSConfig{Dir: dir})
	require.NoError(t, err)
	defer again.Stop()
	assert.Equal(t, first, again.token, "the token outlives a restart")
	assert.Less(t, again.StreamMaxBytes(), again.limit)
}

func TestLastLines(t *testing.T) {
	assert.Equal(t, "3 | 4 | 5 | 6 | 7", lastLines(bytes.Join([][]byte{{'1'}, {'2'}, {'3'}, {'4'}, {'5'}, {'6'}, {'7'}}, []byte("\n"))))
}
