package chaos

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
	"github.com/pushwatch/pushwatch/publisher"
)

const (
	key    = "canary-5f3a9c"
	stream = "CODAT_PUSH"
)

// world is everything around the daemons of a trial, and the daemons.
type world struct {
	*trial
	sim       *codatsim.Sim
	companies []string
	api       *httptest.Server
	spoil     atomic.Pointer[spoiler] // of answers, nil: none

	databaseURL  string            // directly
	broker       *embedded.NATS    // of natsURL; nil when the daemon brings its own
	natsURL      string            // directly
	postgres     *faultproxy.Proxy // between daemon and PostgreSQL
	nats         *faultproxy.Proxy // between daemon and NATS
	codat        *faultproxy.Proxy // between daemon and Codat
	forced       []string          // mechanisms that are left out as the fault itself
	environ      []string          // more for the daemons; the last one wins
	reserve      float64           // of the quota
	log          log
	heard        heard
	dayLimit     int // of the simulator
	natsDir      string
	streamConfig jetstream.StreamConfig
}

// spoiler answers a request in place of the simulator, or returns false.
type spoiler func(http.ResponseWriter, *http.Request) bool

// log is written to by several daemons at once, and keeps the end of it.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text.Len() > 64<<20 {
		l.text.Next(32 << 20)
	}
	return l.text.Write(p)
}

// count returns how often a text is in the log.
func (l *log) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.text.Bytes(), []byte(text))
}

// end returns the last lines of the log.
func (l *log) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.text.Bytes()
	return string(text[max(0, len(text)-1000):])
}

// options are how a world differs from the usual one.
type options struct {
	sim         codatsim.Config
	databaseURL string // empty: a database of the shared server
	embedded    bool   // the daemon brings its own servers
	stream      jetstream.StreamConfig
	singly      bool // the stream takes no atomic batches
}

// smallPages makes every walk one of several pages.
const smallPages = "PUSHWATCH_POLL_PAGE_SIZE=5"

// newWorld makes a world in which four companies push an operation a second each,
// the daemon looks every second, and the stream remembers message ids for a tenth
// of a second.
func newWorld(t *trial, o options) *world {
	w := &world{trial: t, databaseURL: o.databaseURL}
	o.sim.Seed, o.sim.Key = 7, key
	if o.sim.Companies == nil {
		o.sim.Companies = codatsim.MakeCompanies(7, 4)
	}
	o.sim.Rate, o.sim.History, o.sim.DayLimit = cmp.Or(o.sim.Rate, 60), cmp.Or(o.sim.History, 20), cmp.Or(o.sim.DayLimit, 1<<30)
	w.dayLimit = o.sim.DayLimit
	w.sim = must(codatsim.New(o.sim))(t)
	w.api = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if spoil := w.spoil.Load(); spoil == nil || !(*spoil)(rw, r) {
			w.sim.ServeHTTP(rw, r)
		}
	}))
	t.Cleanup(w.api.Close)
	w.codat = must(faultproxy.New(faultproxy.To("tcp", w.api.Listener.Addr().String())))(t)
	t.Cleanup(w.codat.Close)
	for _, c := range o.sim.Companies {
		w.companies = append(w.companies, c.ID)
	}
	if o.embedded {
		return w
	}
	if w.databaseURL == "" {
		w.databaseURL = server.URL(t)
	}
	w.postgres = must(faultproxy.Postgres(dialPostgres(t, w.databaseURL)))(t)
	t.Cleanup(w.postgres.Close)
	w.natsDir = t.TempDir()
	w.broker = must(embedded.StartNATS(embedded.NATSConfig{Dir: w.natsDir, Port: -1}))(t)
	t.Cleanup(func() { w.broker.Stop() })
	w.natsURL = w.broker.URL()
	w.nats = must(faultproxy.NATS(faultproxy.To("tcp", strings.TrimPrefix(w.broker.Address(), "nats://"))))(t)
	t.Cleanup(w.nats.Close)
	w.streamConfig = o.stream
	w.streamConfig.Name, w.streamConfig.Subjects = stream, []string{"codat.push.>"}
	w.streamConfig.Duplicates, w.streamConfig.Discard = 100*time.Millisecond, jetstream.DiscardNew
	w.streamConfig.AllowAtomicPublish = !o.singly
	w.makeStream()
	w.listen()
	return w
}

// must ends the trial on an error: must(f())(t).
func must[T any](value T, err error) func(*trial) T {
	return func(t *trial) T {
		t.Helper()
		require.NoError(t, err)
		return value
	}
}

// dialPostgres reaches the server of a connection string.
func dialPostgres(t *trial, databaseURL string) func() (net.Conn, error) {
	c := must(pgconn.ParseConfig(databaseURL))(t)
	network, address := pgconn.NetworkAddress(c.Host, c.Port)
	return faultproxy.To(network, address)
}

// through returns a connection string that goes through a proxy.
func through(p *faultproxy.Proxy, databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // the test's own
	}
	u.Host, u.RawQuery = p.Addr(), "sslmode=disable"
	return u.String()
}

func (w *world) jetStream() (jetstream.JetStream, func()) {
	nc, err := publisher.Dial(w.Context(), publisher.DialConfig{URL: w.natsURL})
	require.NoError(w, err)
	js, err := jetstream.New(nc)
	require.NoError(w, err)
	return js, nc.Close
}

// makeStream makes the stream as the trial wants it, with a short memory for
// message ids.
func (w *world) makeStream() {
	js, done := w.jetStream()
	defer done()
	_, err := js.CreateStream(w.Context(), w.streamConfig)
	require.NoError(w, err)
}

// heard is when events came into the stream, by what the broker tells subscribers.
type heard struct {
	mu sync.Mutex
	at []time.Time
}

func (w *world) listen() {
	nc, err := nats.Connect(w.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(20*time.Millisecond), nats.RetryOnFailedConnect(true))
	require.NoError(w, err)
	closed := nc.StatusChanged(nats.CLOSED)
	w.Cleanup(func() {
		nc.Close()
		<-closed
	})
	_, err = nc.Subscribe("codat.push.>", func(*nats.Msg) {
		w.heard.mu.Lock()
		defer w.heard.mu.Unlock()
		w.heard.at = append(w.heard.at, time.Now())
	})
	require.NoError(w, err)
	require.NoError(w, nc.Flush())
}

// forget drops what was heard so far.
func (w *world) forget() {
	w.heard.mu.Lock()
	defer w.heard.mu.Unlock()
	w.heard.at = nil
}

// firstSince returns when the first event after a moment came, and whether one did.
func (w *world) firstSince(moment time.Time) (time.Time, bool) {
	w.heard.mu.Lock()
	defer w.heard.mu.Unlock()
	for _, at := range w.heard.at {
		if at.After(moment) {
			return at, true
		}
	}
	return time.Time{}, false
}

// recovers waits for the first event after a moment and notes how long it took.
func (w *world) recovers(v *verdict, since time.Time, limit time.Duration) {
	var at time.Time
	if !w.within(limit, func() (ok bool) { at, ok = w.firstSince(since); return ok }) {
		v.demand(false, "no event within %s of the fault's end", limit)
		return
	}
	v.Recovery = append(v.Recovery, at.Sub(since))
}

// daemon is a pushwatch that runs.
type daemon struct {
	*exec.Cmd
	started time.Time
}

// daemon starts one. It runs the program as shipped, unless the trial leaves a
// mechanism out or the environment names a point to die at.
func (w *world) daemon(environ ...string) *daemon {
	w.Helper()
	return w.command(append(environ, w.without()...), "run", "--http-listen", "127.0.0.1:0")
}

// without is the environment that leaves mechanisms out.
func (w *world) without() []string {
	off := w.forced
	if w.off != "" {
		off = append(off[:len(off):len(off)], w.off)
	}
	if len(off) == 0 {
		return nil
	}
	return []string{"FAULTS_OFF=" + strings.Join(off, ",")}
}

func (w *world) command(environ []string, args ...string) *daemon {
	w.Helper()
	path := must(program())(w.trial)
	for _, variable := range environ {
		if strings.HasPrefix(variable, "FAULTS_") {
			path = must(faultyProgram())(w.trial)
		}
	}
	cmd := exec.CommandContext(w.Context(), path, args...)
	cmd.Env = append(w.environment(), environ...)
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	cmd.SysProcAttr = tied()
	require.NoError(w, cmd.Start())
	return &daemon{cmd, time.Now()}
}

func (w *world) environment() []string {
	environ := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(buildDir, "home"), "CODAT_API_KEY=" + key,
		"PUSHWATCH_CODAT_BASE_URL=http://" + w.codat.Addr(), "PUSHWATCH_COMPANIES=" + strings.Join(w.companies, ","),
		"PUSHWATCH_POLL_BASELINE=publish", "PUSHWATCH_POLL_DISCOVER=@every 1s", "PUSHWATCH_POLL_TRACK=@every 1s",
		"PUSHWATCH_POLL_PAGE_SIZE=100", "PUSHWATCH_LOG_FORMAT=text", fmt.Sprintf("PUSHWATCH_QUOTA_RESERVE=%g", w.reserve),
	}
	if w.broker != nil {
		u, err := url.Parse(w.natsURL)
		require.NoError(w, err)
		u.Host = w.nats.Addr()
		environ = append(environ, "DATABASE_URL="+through(w.postgres, w.databaseURL), "NATS_URL="+u.String())
	}
	return append(environ, w.environ...)
}

// kill ends a daemon without warning.
func (d *daemon) kill() {
	_ = d.Process.Kill()
	_ = d.Wait() // says only that it was killed
}

// stop ends a daemon gracefully, and returns how long that took.
func (w *world) stop(d *daemon) time.Duration {
	w.Helper()
	began := time.Now()
	require.NoError(w, d.Process.Signal(syscall.SIGTERM))
	require.NoError(w, d.Wait(), "a graceful stop exits 0: %s", w.log.end())
	return time.Since(began)
}
