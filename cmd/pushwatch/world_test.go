package main

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
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

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		panicWhenAsked()
		os.Exit(execute(os.Args[1:]))
	}
	// These tests wait most of the time, for leases and for programs that start: more of
	// them at once than there are cores, unless the command line, read later, says so.
	if err := flag.Set("test.parallel", "6"); err != nil {
		panic(err)
	}
	storetest.Main(m, func(s *storetest.Server) { server = s })
}

// settled waits until nothing is lost, and returns the audit. These worlds ask more
// than sixteen requests a second can answer: a busy machine needs its time to get to
// the last operation, and an audit that had no answer in its few seconds is made again.
func (w *world) settled(t *testing.T) (report audit.Report) {
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		var err error
		report, err = w.audit(t.Context())
		require.NoError(c, err)
		require.Zero(c, report.Lost, report)
	}, 3*time.Minute, time.Second)
	return report
}

// world is everything around the daemon that is not killed.
type world struct {
	natsURL, codatURL, key string
	databaseURL, poolerURL string // poolerURL is the daemon's way there; empty: none
	companies              []string
	sim                    *codatsim.Sim
	log                    lockedBuffer
	broker                 *embedded.NATS // that of natsURL
	natsDir                string
}

// lockedBuffer is written to by several daemons at once.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// tell shows what the programs of a failed test warned of, and the last they said.
func (b *lockedBuffer) tell(t *testing.T) {
	if !t.Failed() {
		return
	}
	lines := strings.Split(b.String(), "\n")
	const last = 60
	for i, line := range lines {
		if i >= len(lines)-last || !strings.Contains(line, "level=DEBUG") && !strings.Contains(line, "level=INFO") {
			t.Log(line)
		}
	}
}

// newWorld makes a world; what sim leaves out is that of the kill test.
func newWorld(t *testing.T, sim codatsim.Config) *world {
	w := &world{databaseURL: server.URL(t), key: "canary-5f3a9c", natsDir: t.TempDir()}
	var err error
	w.broker, err = embedded.StartNATS(embedded.NATSConfig{Dir: w.natsDir, Port: -1})
	require.NoError(t, err)
	t.Cleanup(func() { w.broker.Stop() })
	t.Cleanup(func() { w.log.tell(t) })
	w.natsURL = w.broker.URL()
	w.makeStream(t)
	sim.Seed, sim.Key = 7, w.key
	if sim.Companies == nil {
		sim.Companies = codatsim.MakeCompanies(7, 4)
	}
	sim.Rate, sim.History, sim.DayLimit = cmp.Or(sim.Rate, 120), cmp.Or(sim.History, 20), cmp.Or(sim.DayLimit, 1<<30)
	w.sim, err = codatsim.New(sim)
	require.NoError(t, err)
	api := httptest.NewServer(w.sim)
	t.Cleanup(api.Close)
	w.codatURL = api.URL
	for _, c := range sim.Companies {
		w.companies = append(w.companies, c.ID)
	}
	return w
}

// makeStream makes the stream beforehand, with a short memory for message ids.
func (w *world) makeStream(t *testing.T) {
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: w.natsURL})
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CODAT_PUSH", Subjects: []string{"codat.push.>"},
		Duplicates: 100 * time.Millisecond, Discard: jetstream.DiscardNew})
	require.NoError(t, err)
}

// environ is the daemon's environment; of what is there twice the last one wins.
func (w *world) environ(more ...string) []string {
	pooler := "none"
	if w.poolerURL != "" {
		pooler = "transaction"
	}
	return append([]string{
		"DATABASE_URL=" + cmp.Or(w.poolerURL, w.databaseURL), "PUSHWATCH_POSTGRES_POOLER=" + pooler, "NATS_URL=" + w.natsURL, "CODAT_API_KEY=" + w.key, "PUSHWATCH_CODAT_BASE_URL=" + w.codatURL,
		"PUSHWATCH_COMPANIES=" + strings.Join(w.companies, ","), "PUSHWATCH_POLL_BASELINE=publish",
		"PUSHWATCH_POLL_DISCOVER=@every 1s", "PUSHWATCH_POLL_TRACK=@every 1s", "PUSHWATCH_POLL_PAGE_SIZE=5",
		"PUSHWATCH_LOG_FORMAT=text", "PUSHWATCH_LOG_LEVEL=debug", "PUSHWATCH_QUOTA_RESERVE=0",
	}, more...)
}

// daemon starts the daemon, with more environment if wanted; the test ends it.
func (w *world) daemon(t *testing.T, environ ...string) *exec.Cmd {
	cmd := program(t.Context(), t, w.environ(environ...), "run", "--http-listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	require.NoError(t, cmd.Start())
	return cmd
}

func (w *world) audit(ctx context.Context) (audit.Report, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	s, err := store.Open(ctx, store.Config{URL: w.databaseURL})
	if err != nil {
		return audit.Report{}, err
	}
	defer s.Close()
	nc, err := publisher.Dial(ctx, publisher.DialConfig{URL: w.natsURL})
	if err != nil {
		return audit.Report{}, err
	}
	defer nc.Close()
	d := &daemon{store: s, nats: nc, settings: settings{stream: publisher.StreamConfig{Name: "CODAT_PUSH"}}}
	return d.auditAgainst(ctx, truthOf(w.sim))
}
