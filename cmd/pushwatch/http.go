package main

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	defaultListen = "127.0.0.1:8080"
	probeDatabase = 2 * time.Second
	portsTried    = 100
)

// check is one line of /readyz.
type check struct {
	OK     bool       `json:"ok"`
	Reason string     `json:"reason"`
	Since  *time.Time `json:"since"`
}

func checkOf(ok bool, reason string, since time.Time) check {
	c := check{OK: ok, Reason: reason}
	if !since.IsZero() {
		since = since.UTC()
		c.Since = &since
	}
	return c
}

// readiness asks every part of the daemon how it is.
func (d *daemon) readiness(ctx context.Context) (bool, map[string]check) {
	ctx, cancel := context.WithTimeout(ctx, probeDatabase)
	defer cancel()
	now := d.store.Now()
	checks := map[string]check{
		"database":  d.databaseHealth(ctx, now),
		"stream":    checkOf(d.relay.Health()),
		"freshness": checkOf(d.poller.Freshness(now)),
		"codat":     checkOf(d.ledger.Health()),
	}
	d.settings.embedded.tell(checks)
	ready := true
	for _, c := range checks {
		ready = ready && c.OK
	}
	return ready, checks
}

// databaseHealth tells whether the database answers, and takes what is written.
func (d *daemon) databaseHealth(ctx context.Context, now time.Time) check {
	leasing := checkOf(d.leases.Health())
	if err := d.store.Ping(ctx); err != nil {
		gone := checkOf(false, err.Error(), now)
		if !leasing.OK { // for as long, as far as anybody looked
			gone.Since = leasing.Since
		}
		return gone
	}
	if !leasing.OK {
		return leasing
	}
	return checkOf(d.poller.Keeping())
}

// handler serves liveness, readiness and metrics.
func (d *daemon) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, checks := d.readiness(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(struct { // the reader has gone: nothing to do
			Ready  bool             `json:"ready"`
			Checks map[string]check `json:"checks"`
		}{ready, checks})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.registry, promhttp.HandlerOpts{}))
	return mux
}

// authorised asks for a bearer token where one is configured: on addresses that
// others can reach. Liveness needs none, so that an orchestrator can probe it.
// Without a token, which is on loopback alone, requests must name this machine.
func authorised(token string, next http.Handler) http.Handler {
	if token == "" {
		return namedHere(next)
	}
	want := []byte("Bearer " + token)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/livez" && subtle.ConstantTimeCompare([]byte(r.Header.Get("Authorization")), want) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "a bearer token is needed", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// namedHere refuses requests under another name than this machine's. A browser
// that runs here asks a loopback address for any page of the internet whose name
// that page's owner lets point there, and lets the page read the answer.
func namedHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
		if !strings.EqualFold(host, "localhost") && (err != nil || !ip.Unmap().IsLoopback()) {
			http.Error(w, "ask for localhost or 127.0.0.1, or set http.token_file and send the token", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// listenTelling is listen with a warning where the default port gave way.
func listenTelling(ctx context.Context, wanted string, log *slog.Logger) (net.Listener, error) {
	listener, err := listen(ctx, wanted)
	if err == nil && wanted == "" && listener.Addr().String() != defaultListen {
		log.Warn("the default HTTP port is taken", "listen", listener.Addr().String())
	}
	return listener, err
}

// listen opens the web address. The default port gives way to the next free one;
// a wanted one that is taken is an error, also when it is the same port.
func listen(ctx context.Context, wanted string) (net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", cmp.Or(wanted, defaultListen))
	switch {
	case err == nil:
		return listener, nil
	case wanted != "":
		return nil, &serviceError{"http.listen", fmt.Errorf("%w; give another address, or none for the next free port", err)}
	}
	for port := 8081; port < 8081+portsTried; port++ {
		if listener, err = lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return listener, nil
		}
	}
	return nil, &serviceError{"http.listen", err}
}

// serve answers on listener until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	return serveFor(ctx, listener, handler, 30*time.Second)
}

// serveFor is serve with another bound on how long an answer may take; 0: none.
func serveFor(ctx context.Context, listener net.Listener, handler http.Handler, longest time.Duration) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: longest, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	err := server.Shutdown(closing)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	return err
}
