package embedded

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAClusterKeepsItsDataOverAStop(t *testing.T) {
	dir := dataDir(t)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, writeRow(t.Context(), p.URL()))
	open, err := pgx.Connect(t.Context(), p.URL())
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context()), "an open session is cut off")
	_ = open.Close(t.Context())
	require.ErrorContains(t, p.Alive(), "database system is shut down")
	<-p.Done()
	require.NoError(t, p.Stop(t.Context()), "a second stop is nothing new")
	assert.Equal(t, "42", query(t, startPostgres(t, dir), `select n::text from t`))
}

func TestTheServerIsDurableAndPrivate(t *testing.T) {
	t.Setenv("CODAT_API_KEY", "canary")
	for _, name := range []string{"PGHOST", "PGSERVICE", "PGOPTIONS"} {
		t.Setenv(name, "/nonexistent")
	}
	p := startPostgres(t, dataDir(t))
	for setting, want := range map[string]string{
		"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "data_checksums": "on",
		"listen_addresses": "", "server_encoding": "UTF8", "lc_collate": "C", "TimeZone": "UTC",
	} {
		assert.Equal(t, want, query(t, p, `select current_setting('`+setting+`')`), setting)
	}
	info, err := os.Stat(p.sockets)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())
	assert.NotZero(t, owner(t, p.cluster))

	pid := p.postmaster.process.Pid
	session, _, errno := syscall.Syscall(syscall.SYS_GETSID, uintptr(pid), 0, 0)
	require.Zero(t, errno)
	assert.Equal(t, pid, int(session), "Ctrl-C at our terminal does not reach it")
	out, err := exec.CommandContext(t.Context(), "ps", "ewwp", strconv.Itoa(pid)).Output()
	require.NoError(t, err)
	assert.Contains(t, string(out), "LC_ALL=C", "its environment is seen")
	assert.NotContains(t, string(out), "canary")
}

func owner(t *testing.T, path string) int {
	t.Helper()
	uid, ok := ownerOf(path)
	require.True(t, ok)
	return uid
}

func TestBothServersRunAsAPlainUser(t *testing.T) {
	dir := dataDir(t)
	binary := filepath.Join(dir, "embedded.test")
	self, err := os.Executable()
	require.NoError(t, err)
	copyFile(t, self, binary, 0o755) // go test keeps its own where others cannot enter
	cmd := childCommand(t, "go round", "")
	cmd.Path, cmd.Args, cmd.Dir = binary, []string{binary}, "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	c := startChild(t, cmd)
	assert.NoError(t, c.Wait())
}

func TestAServerThatDiedIsNoticedAndStartedAgainAtItsURL(t *testing.T) {
	dir := filepath.Join(dataDir(t), strings.Repeat("long", 30)) // its socket needs a shorter path
	require.NoError(t, os.Mkdir(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, discard(dir)) })
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, writeRow(t.Context(), p.URL()))
	assert.LessOrEqual(t, len(filepath.Join(p.sockets, socketName)), longestSocket)
	require.NoError(t, p.Alive())
	require.NoError(t, p.postmaster.process.Kill())
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		require.FailNow(t, "nobody noticed")
	}
	require.Error(t, p.Alive())
	require.NoError(t, p.Stop(t.Context()))

	again := startPostgres(t, dir)
	assert.Equal(t, p.URL(), again.URL())
	assert.Equal(t, "42", query(t, again, `select n::text from t`))
}

func TestAThrowAwayClusterIsRemovedByStop(t *testing.T) {
	p, err := StartPostgres(t.Context(), PostgresConfig{UnsafeNoFsync: true})
	require.NoError(t, err)
	assert.Equal(t, "off", query(t, p, `select current_setting('fsync')`))
	hurried, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, p.Stop(hurried), "without time for a clean stop it ends all the same")
	assert.NoDirExists(t, filepath.Dir(p.cluster))
}

func TestADirectoryThatPostgresCannotEnterIsRefusedByName(t *testing.T) {
	parent := dataDir(t)
	closed := filepath.Join(parent, "closed")
	require.NoError(t, os.Mkdir(closed, 0o700))
	if os.Geteuid() != 0 {
		require.NoError(t, os.Chmod(closed, 0))
		_, err := OpenDir(filepath.Join(closed, "data"))
		require.ErrorContains(t, err, closed)
		require.ErrorContains(t, CheckDir(t.Context(), filepath.Join(closed, "data"), true), closed)
		return
	}
	early := CheckDir(t.Context(), filepath.Join(closed, "data"), true)
	require.ErrorContains(t, early, "cannot enter "+closed+": type: chmod o+x '"+closed+"'")
	require.NoError(t, CheckDir(t.Context(), filepath.Join(closed, "data"), false), "NATS runs as ourselves")
	dir, err := OpenDir(filepath.Join(closed, "data"))
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	_, err = StartPostgres(t.Context(), PostgresConfig{Dir: dir.Path})
	require.ErrorContains(t, err, "cannot enter "+closed+": type: chmod o+x '"+closed+"'")
	require.EqualError(t, CheckDir(t.Context(), dir.Path, true), early.Error())

	require.NoError(t, os.Chmod(closed, 0o701), "as it was told")
	startPostgres(t, dir.Path)
}

func TestAKilledInitdbLeavesNothingInTheWay(t *testing.T) {
	dir := dataDir(t)
	half := filepath.Join(dir, "postgres.init-123")
	require.NoError(t, os.Mkdir(half, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(half, "PG_VERSION"), []byte("15\n"), 0o600))
	startPostgres(t, dir)
	assert.NoDirExists(t, half)
}

func TestAServerThatCannotStartSaysWhy(t *testing.T) {
	dir := dataDir(t)
	p, err := StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.NoError(t, err)
	require.NoError(t, p.Stop(t.Context()))
	file, err := os.OpenFile(filepath.Join(p.cluster, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = file.WriteString("no_such_setting = 1\n")
	require.NoError(t, err)
	require.NoError(t, file.Close())
	_, err = StartPostgres(t.Context(), PostgresConfig{Dir: dir})
	require.ErrorContains(t, err, "no_such_setting")
	assert.ErrorContains(t, err, filepath.Join(dir, "postgres.log"))
}

func TestTheLogIsCutAndItsEndKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, cutLog(path, 8, 4), "there may be none yet")
	require.NoError(t, os.WriteFile(path, []byte("12345678"), 0o600))
	require.NoError(t, cutLog(path, 8, 4))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "12345678", string(text))
	require.NoError(t, cutLog(path, 7, 4))
	text, err = os.ReadFile(path)
	require.NoError(t, err)
	assert.Empty(t, text)
	text, err = os.ReadFile(path + ".old")
	require.NoError(t, err)
	assert.Equal(t, "5678", string(text))
}
