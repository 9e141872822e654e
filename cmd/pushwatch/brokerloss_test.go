package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// loss is what a stream held when it was harmed.
type loss struct {
	at    time.Time
	there int64
}

func (w *world) loss(t *testing.T) loss {
	return loss{time.Now(), w.query(t, `select count(*) from pushwatch.publication`)}
}

// whole waits until the stream is whole again, within a minute of the loss. It is
// looked at through the command that an operator would use, while everything runs
// on: sound, and what was there is there again, not waiting.
func (w *world) whole(t *testing.T, lost loss, environ []string, args ...string) {
	t.Helper()
	var last result
	var report struct {
		Sound              bool
		Changes, Published int64
	}
	require.Eventually(t, func() bool {
		last = run(t, environ, append([]string{"audit", "-o", "json"}, args...)...)
		return last.code == 0 && json.Unmarshal([]byte(last.stdout), &report) == nil && report.Sound && report.Published >= lost.there
	}, time.Minute, 500*time.Millisecond, "pushwatch audit does not find it whole after a minute")
	took := time.Since(lost.at)
	t.Logf("%d of %d events are there %s after the loss of %d", report.Published, report.Changes, took.Round(100*time.Millisecond), lost.there)
	assert.Less(t, took, time.Minute)
}

// TestAnEmbeddedStoreThatIsDeletedComesBackByItself deletes JetStream's files under a
// running pushwatch: one that has a PostgreSQL of its own too, and one whose database
// is elsewhere, behind a pooler in transaction mode.
func TestAnEmbeddedStoreThatIsDeletedComesBackByItself(t *testing.T) {
	t.Parallel()
	for name, pooled := range map[string]bool{"PostgreSQL is embedded too": false, "PostgreSQL is behind a pooler": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, codatsim.Config{})
			environ := w.environ("DATABASE_URL=", "NATS_URL=")
			if pooled {
				w.poolerURL = storetest.Pooler(t, w.databaseURL)
				environ = w.environ("NATS_URL=")
			}
			dir, daemon := w.embeddedIn(t, environ...)
			w.changes(t, 60)
			lost := w.loss(t)
			require.NoError(t, lose(filepath.Join(dir, "nats", "jetstream")))
			w.damaged(t)
			w.whole(t, lost, environ, "--data-dir", dir)
			w.finish(t, daemon.Process)
			require.NoError(t, daemon.Wait())
		})
	}
}

// TestABrokerThatLosesItsStoreIsHealed loses the store of an external broker, or
// brings back an older copy of it, under a running pushwatch.
func TestABrokerThatLosesItsStoreIsHealed(t *testing.T) {
	t.Parallel()
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
			lost := w.loss(t)
			require.NoError(t, os.RemoveAll(jetstream))
			if older {
				require.NoError(t, os.CopyFS(jetstream, os.DirFS(copied)))
			}
			w.restartBroker(t)
			w.whole(t, lost, w.environ())
			w.finish(t, cmd.Process)
			require.NoError(t, cmd.Wait())
		})
	}
}

// lose deletes a directory in which a server is at work, and may make files meanwhile.
func lose(dir string) error {
	gone := dir + ".gone"
	if err := os.Rename(dir, gone); err != nil {
		return err
	}
	return os.RemoveAll(gone)
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
