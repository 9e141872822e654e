package codat

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// newTransport returns the transport of a Client that was given none.
//
// It speaks HTTP/1.1: a handful of requests at a time gains nothing from HTTP/2,
// and only there [unsent] is invisible on the wire. Idle connections are given up
// early, because one that the server closes first costs a failed request.
func newTransport() *http.Transport {
	dialer := &net.Dialer{
		Timeout:   10 * time.Second,
		KeepAlive: 30 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return refuseLinkLocal(network, address)
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		Protocols:              protocols,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// keyed is the last step before the wire: it adds the key, and only to requests
// for the origin that the key was configured for.
type keyed struct {
	next   http.RoundTripper
	origin *url.URL
	header Secret
}

func (k keyed) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != k.origin.Scheme || request.URL.Host != k.origin.Host {
		return nil, errors.New("request for another origin than the configured one")
	}
	request = request.Clone(request.Context())
	request.Header.Set("Authorization", k.header.reveal())
	return k.next.RoundTrip(request)
}

// unsent is a request body of no bytes. net/http silently sends a request
// without a body a second time when its connection breaks before the answer's
// first byte, though the server may have counted the first; a request whose body
// it cannot rewind it does not. Over HTTP/1.1 an empty body leaves no trace.
type unsent struct{}

func (unsent) Read([]byte) (int, error) { return 0, io.EOF }
func (unsent) Close() error             { return nil }
