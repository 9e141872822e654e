package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// serveProfiles serves Go's profiles at a loopback address, away from health and
// metrics, which others may reach. The caller ends it.
func serveProfiles(ctx context.Context, address string, log *slog.Logger) (end func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &serviceError{"http.pprof_listen", fmt.Errorf("%w; give another address, or none", err)}
	}
	// A profile takes as long as it is asked to.
	serving := begin(func(ctx context.Context) error { return serveFor(ctx, listener, profiles(), 0) })
	log.Info("profiles are served", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	return func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := serving.end(stopping); err != nil {
			log.Warn("the server of profiles did not end well", "error", err)
		}
	}, nil
}

// profiles is what net/http/pprof offers, for requests that name this machine.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return namedHere(mux)
}
