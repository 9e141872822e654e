package codat

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// transportOf returns the transport that a Config asks for.
func transportOf(config Config) (http.RoundTripper, error) {
	var authorities *x509.CertPool // nil: the system's
	switch {
	case config.CA == "":
	case config.Transport != nil:
		return nil, errors.New("the CA is for the client's own transport, and another one is given")
	default:
		authorities = x509.NewCertPool()
		if !authorities.AppendCertsFromPEM([]byte(config.CA)) {
			return nil, errors.New("the CA holds no certificate in PEM")
		}
	}
	if config.Transport != nil {
		return config.Transport, nil
	}
	return newTransport(authorities), nil
}

// newTransport returns the transport of a Client that was given none. It trusts
// what authorities vouch for; nil stands for the system's.
//
// A connection carries one request. What a broken server sends beyond its answer
// can then neither be taken for the answer to the next request nor end up in a
// log line of net/http, which quotes it; and no request fails for a connection
// that went stale. That costs a handshake per request, which the quota makes
// rare, and which a resumed TLS session makes cheap.
//
// It speaks HTTP/1.1, because only there [unsent] is invisible on the wire.
func newTransport(authorities *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{
		Timeout: 10 * time.Second,
		ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
			return refuseLinkLocal(network, address)
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:       nil,
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities,
			ClientSessionCache: tls.NewLRUClientSessionCache(0)},
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
