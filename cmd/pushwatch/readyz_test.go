package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// readyz is what a running daemon answers.
type readyz struct {
	Ready  bool             `json:"ready"`
	Checks map[string]check `json:"checks"`
}

// readyz asks the daemon that wrote the log last.
func (w *world) readyz(t *testing.T) (r readyz) {
	t.Helper()
	addresses := regexp.MustCompile(`msg=running .*http=(\S+)`).FindAllStringSubmatch(w.log.String(), -1)
	require.NotEmpty(t, addresses, "no daemon runs")
	answer, err := http.Get("http://" + addresses[len(addresses)-1][1] + "/readyz")
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&r))
	assert.Equal(t, r.Ready, answer.StatusCode == http.StatusOK)
	return r
}

// embeddedIn starts the program with servers of its own below a directory that
// PostgreSQL's user can enter, and returns it.
func (w *world) embeddedIn(t *testing.T, environ ...string) (dir string, daemon *exec.Cmd) {
	base, err := os.MkdirTemp("", "pushwatch-e2e-") // not t.TempDir: PostgreSQL's user could not enter it
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o711))
	dir = filepath.Join(base, "data")
	daemon = w.start(t, environ, "--data-dir", dir)
	databaseURL, natsURL, running, err := embedded.Running(dir)
	require.NoError(t, err)
	require.True(t, running)
	if w.natsURL = natsURL; w.poolerURL == "" {
		w.databaseURL = databaseURL
	}
	return dir, daemon
}

// TestAnEmbeddedServerThatDiesOrHangsIsToldAndStartedAgain harms each server in a
// running pushwatch: /readyz names the check that fails, and is well again.
func TestAnEmbeddedServerThatDiesOrHangsIsToldAndStartedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	dir, daemon := w.embeddedIn(t, w.environ("DATABASE_URL=", "NATS_URL=")...)
	postmaster := func() int {
		text, err := os.ReadFile(filepath.Join(dir, "postgres", "postmaster.pid"))
		require.NoError(t, err)
		first, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(first)
		require.NoError(t, err)
		return pid
	}
	for _, c := range []struct {
		name, check string
		harm        func() error
	}{
		{"PostgreSQL is killed", "database", func() error { return syscall.Kill(postmaster(), syscall.SIGKILL) }},
		{"PostgreSQL hangs", "database", func() error { return syscall.Kill(postmaster(), syscall.SIGSTOP) }},
		{"the store of NATS is gone", "stream", func() error { return lose(filepath.Join(dir, "nats")) }},
	} {
		require.Eventually(t, func() bool { return w.readyz(t).Ready }, time.Minute, 50*time.Millisecond, "before "+c.name)
		began := time.Now()
		require.NoError(t, c.harm(), c.name)
		var told readyz
		require.Eventually(t, func() bool { told = w.readyz(t); return !told.Checks[c.check].OK }, time.Minute, 5*time.Millisecond, c.name)
		noticed := time.Since(began)
		assert.False(t, told.Ready, c.name)
		assert.NotEmpty(t, told.Checks[c.check].Reason, c.name)
		require.Eventually(t, func() bool { return w.readyz(t).Ready }, time.Minute, 50*time.Millisecond, c.name)
		t.Logf("%s: told after %s as %q, well after %s", c.name, noticed.Round(time.Millisecond), told.Checks[c.check].Reason,
			time.Since(began).Round(time.Millisecond))
	}
	w.damaged(t) // the stream is there again: only then can it be compared
	w.finish(t, daemon.Process)
	require.NoError(t, daemon.Wait())
}

func TestSinceWhenTheDatabaseIsAwayIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	there, err := pgx.ParseConfig(w.databaseURL)
	require.NoError(t, err)
	proxy, err := faultproxy.New(faultproxy.To(pgconn.NetworkAddress(there.Host, there.Port)))
	require.NoError(t, err)
	defer proxy.Close()
	through := url.URL{Scheme: "postgres", User: url.UserPassword(there.User, there.Password), Host: proxy.Addr(), Path: there.Database,
		RawQuery: "sslmode=disable"}
	daemon := w.start(t, w.environ("DATABASE_URL="+through.String()))
	require.Eventually(t, func() bool { return w.readyz(t).Ready }, time.Minute, 50*time.Millisecond)
	proxy.Close()
	require.Eventually(t, func() bool {
		since := w.readyz(t).Checks["database"].Since
		return since != nil && time.Since(*since) > 2*time.Second
	}, time.Minute, 50*time.Millisecond)
	require.NoError(t, daemon.Process.Kill())
	require.Error(t, daemon.Wait())
}

// TestADatabaseThatRefusesWhatIsSeenIsNotReady lets the database answer, and take
// everything but new operations, as one does whose disk is full.
func TestADatabaseThatRefusesWhatIsSeenIsNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{})
	daemon := w.start(t, w.environ())
	require.Eventually(t, func() bool { return w.readyz(t).Ready }, time.Minute, 50*time.Millisecond)
	w.execute(t, `
create function public.refuse() returns trigger language plpgsql as
    $$ begin raise exception 'could not extend file: No space left on device' using errcode = 'disk_full'; end $$;
create trigger refused before insert on pushwatch.operation for each statement execute function public.refuse()`)
	var told readyz
	require.Eventually(t, func() bool { told = w.readyz(t); return !told.Ready }, time.Minute, 20*time.Millisecond)
	assert.Contains(t, told.Checks["database"].Reason, "No space left on device")
	w.execute(t, `drop trigger refused on pushwatch.operation`)
	require.Eventually(t, func() bool { return w.readyz(t).Ready }, time.Minute, 20*time.Millisecond)
	w.finish(t, daemon.Process)
	require.NoError(t, daemon.Wait())
	storetest.CheckInvariants(t, w.databaseURL)
}
