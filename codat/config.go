package codat

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	DefaultBaseURL        = "https://api.codat.io"
	DefaultRequestTimeout = 30 * time.Second
	DefaultSettleTimeout  = 5 * time.Second
	defaultUserAgent      = "pushwatch"
)

// Config is what a Client is made of.
type Config struct {
	// BaseURL is where the API lives, optionally with a path prefix. It must be
	// https, or http to a loopback address, without user information, query and
	// fragment, and never a link-local address. Empty means DefaultBaseURL.
	BaseURL string
	// AllowHTTP takes http to other hosts than loopback: the key then travels
	// in the clear.
	AllowHTTP bool
	// Key is the API key: raw, or a ready "Basic …" header value. One trailing
	// line break is cut off. Required.
	Key Secret
	// Gate stands around every request. Required.
	Gate Gate
	// Now is the clock that looks are timed with. It is called concurrently. Nil
	// means time.Now.
	Now func() time.Time
	// UserAgent is sent with every request, such as "pushwatch/1.2.3". Empty
	// means "pushwatch".
	UserAgent string
	// RequestTimeout bounds a request from its sending to the last byte of its
	// answer, not the wait at the gate. 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// SettleTimeout bounds a call of Gate.Settle. 0 means DefaultSettleTimeout.
	SettleTimeout time.Duration
	// CA is the certificates, in PEM, that vouch for the server in place of the
	// system's. Empty means the system's. There is no way to go on without any.
	CA string
	// Transport sends the requests, for tests and for those who need a proxy. It
	// must not follow redirects, and knows by itself whom to trust. Nil means a transport of the Client's own: TLS
	// 1.2 or newer, no proxy, no connection to a link-local address.
	Transport http.RoundTripper
}

// CheckBaseURL says why [New] would not take an address. Its error does not show it.
func CheckBaseURL(raw string, allowHTTP bool) error {
	_, err := parseBase(raw, allowHTTP)
	return err
}

// parseBase checks a base URL and returns it without a trailing slash. Its
// errors do not repeat the URL, because a wrong one may hold a password.
func parseBase(raw string, allowHTTP bool) (*url.URL, error) {
	if raw == "" {
		raw = DefaultBaseURL
	}
	base, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("it is not a URL")
	}
	switch {
	case base.Scheme != "https" && base.Scheme != "http":
		return nil, errors.New("it must begin with https://")
	case base.Hostname() == "" || base.Opaque != "":
		return nil, errors.New("it names no host")
	case base.User != nil:
		return nil, errors.New("it must not hold a user or a password")
	case base.RawQuery != "" || base.ForceQuery:
		return nil, errors.New("it must not hold a query")
	case strings.Contains(raw, "#"):
		return nil, errors.New("it must not hold a fragment")
	case !validPort(base):
		return nil, errors.New("its port is not one from 1 to 65535")
	case linkLocal(base.Hostname()):
		return nil, errors.New("it must not be a link-local address")
	case base.Scheme == "http" && !allowHTTP && !loopback(base.Hostname()):
		return nil, errors.New("http is taken for loopback addresses only; use https, or set codat.allow_http")
	case slices.ContainsFunc(strings.Split(base.Path, "/"), dotSegment):
		return nil, errors.New(`its path must not hold "." or ".." segments`)
	}
	return &url.URL{
		Scheme:  base.Scheme,
		Host:    base.Host,
		Path:    strings.TrimRight(base.Path, "/"),
		RawPath: strings.TrimRight(base.RawPath, "/"),
	}, nil
}

func validPort(base *url.URL) bool {
	if base.Port() == "" {
		return !strings.HasSuffix(base.Host, ":")
	}
	port, err := strconv.ParseUint(base.Port(), 10, 16)
	return err == nil && port > 0
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// linkLocal reports whether host is an address that only means something on one
// network segment, where cloud machines keep their metadata service. A zone
// makes an address such a one.
func linkLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	ip4 := ip.Unmap()
	return ip.Zone() != "" || ip4.IsLinkLocalUnicast() || ip4.IsLinkLocalMulticast()
}

func dotSegment(segment string) bool { return segment == "." || segment == ".." }

// refuseLinkLocal is the dialer's last word: a name may resolve to an address
// that the configuration would have refused.
func refuseLinkLocal(_, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if linkLocal(host) {
		return errors.New("the host resolves to a link-local address, which is refused")
	}
	return nil
}

// timeout returns the configured duration or its default.
func timeout(name string, configured, byDefault time.Duration) (time.Duration, error) {
	switch {
	case configured < 0:
		return 0, fmt.Errorf("%s is negative", name)
	case configured == 0:
		return byDefault, nil
	}
	return configured, nil
}
