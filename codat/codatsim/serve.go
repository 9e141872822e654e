package codatsim

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Listen opens addr for Serve. Without a host it is 127.0.0.1; port 0 takes a
// free one, which the listener's Addr tells. A taken port is an error that wraps
// syscall.EADDRINUSE.
func Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("codatsim: listen: %w", err)
	}
	setDefault(&host, "127.0.0.1")
	listener, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("codatsim: %w", err)
	}
	return listener, nil
}

// Serve answers requests on listener, which it closes, until ctx ends. Then it
// breaks off bodies that trickle, gives other requests a few seconds, and returns
// nil. Any other end is an error.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		server.Close()
		return fmt.Errorf("codatsim: serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second)
	defer cancel()
	if err := server.Shutdown(last); err != nil {
		server.Close()
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("codatsim: serve on %s: %w", listener.Addr(), err)
	}
	return nil
}
