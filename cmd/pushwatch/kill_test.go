package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

var server *storetest.Server

func TestMain(m *testing.M) { storetest.Main(m, func(s *storetest.Server) { server = s }) }

// kills is how often the daemon is killed: 100 times in about a minute.
const kills = 100

// TestKillsAtRandomMomentsLoseNothing kills the daemon 100 times under load, also
// between the pages of its walks (the page size is 5), then leaves it in peace and
// compares the simulator's truth with database and stream.
func TestKillsAtRandomMomentsLoseNothing(t *testing.T) {
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 2))
	for range kills {
		life := time.Duration(100+random.IntN(500)) * time.Millisecond
		cmd := w.daemon(t)
		timer := time.AfterFunc(life, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		timer.Stop()
	}
	last := w.daemon(t)
	var report audit.Report
	w.sim.Freeze()
	require.Eventually(t, func() bool {
		report = w.audit(t)
		return report.Sound()
	}, time.Minute, time.Second, "after a quiet minute: %s", &report)
	require.NoError(t, last.Process.Signal(os.Interrupt))
	require.NoError(t, last.Wait(), "a graceful stop exits 0")
	t.Logf("%d kills: %s", kills, report)
	assert.Greater(t, report.Changes, 500)
	storetest.CheckInvariants(t, w.databaseURL)
	assert.NotContains(t, w.log.String(), w.key, "the API key is in no log")
}

// world is everything around the daemon that is not killed.
type world struct {
	binary, databaseURL, natsURL, codatURL, key string
	companies                                   []string
	sim                                         *codatsim.Sim
	log                                         bytes.Buffer
}

func newWorld(t *testing.T) *world {
	w := &world{binary: filepath.Join(t.TempDir(), "pushwatch"), databaseURL: server.URL(t), key: "canary-5f3a9c"}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", w.binary, ".")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	broker, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(broker.Stop)
	w.natsURL = broker.URL()
	companies := codatsim.MakeCompanies(7, 4)
	w.sim, err = codatsim.New(codatsim.Config{Seed: 7, Companies: companies, Key: w.key, Rate: 120, History: 20, DayLimit: 1 << 30})
	require.NoError(t, err)
	api := httptest.NewServer(w.sim)
	t.Cleanup(api.Close)
	w.codatURL = api.URL
	for _, c := range companies {
		w.companies = append(w.companies, c.ID)
	}
	return w
}

// daemon starts the daemon; the test ends it.
func (w *world) daemon(t *testing.T) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), w.binary, "run", "--http-listen", "127.0.0.1:0")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "DATABASE_URL=" + w.databaseURL, "NATS_URL=" + w.natsURL,
		"CODAT_API_KEY=" + w.key, "PUSHWATCH_CODAT_BASE_URL=" + w.codatURL,
		"PUSHWATCH_COMPANIES=" + strings.Join(w.companies, ","), "PUSHWATCH_POLL_BASELINE=publish",
		"PUSHWATCH_POLL_DISCOVER=@every 1s", "PUSHWATCH_POLL_TRACK=@every 1s", "PUSHWATCH_POLL_PAGE_SIZE=5",
		"PUSHWATCH_LOG_FORMAT=text", "PUSHWATCH_LOG_LEVEL=debug", "PUSHWATCH_QUOTA_RESERVE=0",
	}
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	require.NoError(t, cmd.Start())
	return cmd
}

func (w *world) audit(t *testing.T) audit.Report {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, store.Config{URL: w.databaseURL})
	require.NoError(t, err)
	defer s.Close()
	nc, err := publisher.Dial(ctx, publisher.DialConfig{URL: w.natsURL})
	require.NoError(t, err)
	defer nc.Close()
	d := &daemon{store: s, nats: nc, settings: settings{stream: publisher.StreamConfig{Name: "CODAT_PUSH"}}}
	report, err := d.auditAgainst(ctx, truthOf(w.sim))
	require.NoError(t, err)
	return report
}
