package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// whole waits until the stream is whole again and returns how long that took.
// Lost is counted against the database while everything runs on, so it is looked
// at through the command that an operator would use.
func (w *world) whole(t *testing.T, environ []string, args ...string) time.Duration {
	t.Helper()
	started := time.Now()
	var last result
	require.Eventually(t, func() bool {
		last = run(t, environ, append([]string{"audit"}, args...)...)
		return last.code == 0
	}, time.Minute, 500*time.Millisecond, "pushwatch audit still finds damage after a minute")
	t.Logf("whole again after %s: %s", time.Since(started).Round(100*time.Millisecond), last.stdout)
	return time.Since(started)
}

// TestAnEmbeddedStoreThatIsDeletedComesBackByItself deletes JetStream's files
// under a running pushwatch.
func TestAnEmbeddedStoreThatIsDeletedComesBackByItself(t *testing.T) {
	w := newWorld(t, codatsim.Config{})
	base, err := os.MkdirTemp("", "pushwatch-e2e-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(base)) })
	require.NoError(t, os.Chmod(base, 0o711))
	dir := filepath.Join(base, "data")
	environ := w.environ("DATABASE_URL=", "NATS_URL=")
	cmd := w.start(t, environ, "--data-dir", dir)
	var running bool
	w.databaseURL, w.natsURL, running, err = embedded.Running(dir)
	require.NoError(t, err)
	require.True(t, running)
	w.changes(t, 60)
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "nats", "jetstream")))
	w.damaged(t)
	w.whole(t, environ, "--data-dir", dir)
	w.finish(t, cmd.Process)
	require.NoError(t, cmd.Wait())
}

// TestABrokerThatLosesItsStoreIsHealed loses the store of an external broker, or
// brings back an older copy of it, under a running pushwatch.
func TestABrokerThatLosesItsStoreIsHealed(t *testing.T) {
	for name, older := range map[string]bool{"all of it is gone": false, "an older copy comes back": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, codatsim.Config{})
			w.poolerURL = storetest.Pooler(t, w.databaseURL)
			cmd := w.start(t, w.environ())
			jetstream, copied := filepath.Join(w.natsDir, "nats", "jetstream"), filepath.Join(t.TempDir(), "copy")
			w.changes(t, 60)
			w.broker.Stop()
			if older {
				require.NoError(t, os.CopyFS(copied, os.DirFS(jetstream)))
			}
			w.restartBroker(t)
			w.changes(t, 150)
			w.broker.Stop()
			require.NoError(t, os.RemoveAll(jetstream))
			if older {
				require.NoError(t, os.CopyFS(jetstream, os.DirFS(copied)))
			}
			w.restartBroker(t)
			w.whole(t, w.environ())
			w.finish(t, cmd.Process)
			require.NoError(t, cmd.Wait())
		})
	}
}

// changes waits until that many changes are published.
func (w *world) changes(t *testing.T, n int64) {
	require.Eventually(t, func() bool { return w.query(t, `select count(*) from pushwatch.publication`) >= n },
		time.Minute, 50*time.Millisecond)
}

// damaged waits until the loss shows: until then the server answers from memory.
func (w *world) damaged(t *testing.T) {
	require.Eventually(t, func() bool { return w.query(t, `select count(*) from pushwatch.stream`) > 1 },
		time.Minute, 50*time.Millisecond, "the stream was not made again")
}

func (w *world) restartBroker(t *testing.T) {
	again, err := w.broker.Restart()
	require.NoError(t, err)
	w.broker = again
}

// finish freezes the world, audits against the truth and ends the program.
func (w *world) finish(t *testing.T, process *os.Process) {
	w.sim.Freeze()
	report := w.settled(t)
	t.Log(report)
	assert.True(t, report.Sound(), report)
	storetest.CheckInvariants(t, w.databaseURL)
	require.NoError(t, process.Signal(os.Interrupt))
}
