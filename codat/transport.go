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
// A connection carries one request. What a broken server sends beyond its answer
// can then neither be taken for the answer to the next request nor end up in a
// log line of net/http, which quotes it; and no request fails for a connection
// that went stale. That costs a handshake per request, which the quota makes
// rare, and which a resumed TLS session makes cheap.
//
// It speaks HTTP/1.1, because only there [unsent] is invisible on the wire.
func newTransport() *http.Transport {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return refuseLinkLocal(network, address)
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  nil,
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, ClientSessionCache: tls.NewLRUClientSessionCache(0)},
		TLSHandshakeTimeout:    10 * time.Second,
		Protocols:              protocols,
		DisableKeepAlives:      true,
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

// unsent is a request body of no bytes. Where a transport reuses connections, as
// one from outside may, net/http silently sends a request without a body a second
// time when its connection breaks before the answer's first byte, though the
// server may have counted the first; a request whose body it cannot rewind it
// does not. Over HTTP/1.1 an empty body leaves no trace.
type unsent struct{}

func (unsent) Read([]byte) (int, error) { return 0, io.EOF }
func (unsent) Close() error             { return nil }
