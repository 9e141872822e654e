package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/poller"
)

const (
	sweepPage  = 5000    // operations of a page: the largest, which sweeps ask for
	sweepQuota = 1 << 30 // requests a day
)

// api is an HTTP server on this machine.
type api struct {
	server *http.Server
	url    string
	served chan error
}

func startAPI(ctx context.Context, handler http.Handler) (*api, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &api{url: "http://" + listener.Addr().String(), served: make(chan error, 1)}
	a.server = &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { a.served <- a.server.Serve(listener) }()
	return a, nil
}

// list serves the pages of one company's list as they were rendered, so that the
// server costs next to nothing.
type list struct{ bodies atomic.Pointer[[][]byte] }

func (l *list) ServeHTTP(out http.ResponseWriter, request *http.Request) {
	bodies := *l.bodies.Load()
	number, err := strconv.Atoi(request.URL.Query().Get("page"))
	if err != nil || number < 1 || number > len(bodies) {
		http.NotFound(out, request)
		return
	}
	answerPage(out, bodies[number-1])
}

// answerPage answers with a page and a quota that lasts.
func answerPage(out http.ResponseWriter, body []byte) {
	out.Header().Set("Content-Type", "application/json")
	out.Header().Set("X-Rate-Limit-Limit", strconv.Itoa(sweepQuota))
	out.Header().Set("X-Rate-Limit-Remaining", strconv.Itoa(sweepQuota))
	_, _ = out.Write(body) // a client that went away has its own error
}

func (a *api) close() error {
	err := a.server.Close()
	if served := <-a.served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// newPoller wires client and poller to a world as the daemon does.
func (w *world) newPoller(baseURL string) (*poller.Poller, *codat.Client, error) {
	ledger := poller.NewLedger(w.store, func() (float64, int) { return 0.5, 1 }, quiet)
	client, err := codat.New(codat.Config{BaseURL: baseURL, Key: codat.NewSecret("bench"), Gate: ledger, Now: w.store.Now})
	if err != nil {
		return nil, nil, err
	}
	never, err := poller.ParseSchedule("0 3 1 1 *")
	if err != nil {
		return nil, nil, err
	}
	config := poller.Config{Source: client, Assignments: w.fleet, Recorder: w.store, Logger: quiet, Now: w.store.Now,
		Plan: poller.Plan{Discover: never, Track: never, Sweep: never}}
	if w.relay != nil {
		config.OnEvents = w.relay.Wake
	}
	p, err := poller.New(config)
	if err != nil {
		client.Close()
	}
	return p, client, err
}

// known makes a database, once, in which a company's whole history is recorded as
// its first look showed it, a tenth of it unfinished.
func (r *rig) known(ctx context.Context, a *api, h history) (err error) {
	if r.history != "" {
		return nil
	}
	w, err := r.world(ctx, emptyDatabase, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	p, client, err := w.newPoller(a.url)
	if err != nil {
		return err
	}
	defer client.Close()
	if _, err := p.Discover(ctx); err != nil {
		return err
	}
	r.history = w.database()
	return errors.Join(r.analyze(ctx, w), w.expect(ctx, counts{operations: h.size}))
}

// measureEndToEnd sweeps a company over HTTP with a relay beside it: first a tenth
// of its operations has changed, then nothing has. It ends when the last event is
// recorded as published.
func measureEndToEnd(ctx context.Context, r *rig) (_ samples, err error) {
	served := &list{}
	a, err := startAPI(ctx, served)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	// The same operations in every repetition, as they are in the database.
	h := history{salt: "sweep", size: r.events, newest: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	before, after := render(h.operations(false), sweepPage), render(h.operations(true), sweepPage)
	served.bodies.Store(&before)
	if err := r.known(ctx, a, h); err != nil {
		return nil, err
	}
	w, err := r.world(ctx, r.history, r.lazy)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.discard(ctx, w)) }()
	p, client, err := w.newPoller(a.url)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	relaying := begin(ctx, w.relay.Run)
	defer func() { err = errors.Join(err, relaying.stop()) }()
	served.bodies.Store(&after)

	sweep := func(name string, events int) (time.Duration, error) {
		return r.timed(name, func() error {
			result, err := p.Sweep(ctx)
			if err == nil && (result.Companies != 1 || result.Events != events) {
				err = fmt.Errorf("a sweep of %d companies brought %d events, should be %d", result.Companies, result.Events, events)
			}
			return errors.Join(err, w.until(ctx, h.changed()))
		})
	}
	changed, err := sweep("sweep-changed", h.changed())
	if err != nil {
		return nil, err
	}
	same, err := sweep("sweep-same", 0)
	if err != nil {
		return nil, err
	}
	return samples{"sweep-changed": rateOf(h.size, changed), "sweep-same": rateOf(h.size, same)}, w.expect(ctx,
		counts{operations: h.size, transitions: h.changed(), publications: h.changed(), messages: h.changed()})
}
