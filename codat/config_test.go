package codat

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBaseURL(t *testing.T) {
	for _, c := range []struct {
		name, url string
		allowHTTP bool
		base      string // what requests go to
		refused   string
	}{
		{name: "none means Codat itself", url: "", base: "https://api.codat.io"},
		{name: "https is taken", url: "https://codat.example.com", base: "https://codat.example.com"},
		{name: "a trailing slash is cut off", url: "https://example.com/", base: "https://example.com"},
		{name: "a path prefix is kept", url: "https://example.com/codat/v1/", base: "https://example.com/codat/v1"},
		{name: "http to loopback is taken", url: "http://127.0.0.1:8080", base: "http://127.0.0.1:8080"},
		{name: "http to the whole loopback net is taken", url: "http://127.9.9.9", base: "http://127.9.9.9"},
		{name: "http to IPv6 loopback is taken", url: "http://[::1]:8080", base: "http://[::1]:8080"},
		{name: "http to localhost is taken", url: "http://localhost:1", base: "http://localhost:1"},
		{name: "http elsewhere is refused", url: "http://example.com", refused: "loopback"},
		{name: "http to a name that begins like loopback is refused", url: "http://127.0.0.1.example.com", refused: "loopback"},
		{name: "http elsewhere is taken when allowed", url: "http://codatsim:8090", allowHTTP: true, base: "http://codatsim:8090"},
		{name: "no scheme is refused", url: "api.codat.io", refused: "https://"},
		{name: "a file is refused", url: "file:///etc/passwd", refused: "https://"},
		{name: "no host is refused", url: "https://", refused: "host"},
		{name: "a port alone is refused", url: "https://:443", refused: "host"},
		{name: "no slashes are refused", url: "https:example.com", refused: "host"},
		{name: "a user is refused", url: "https://user@example.com", refused: "user"},
		{name: "a query is refused", url: "https://example.com?a=b", refused: "query"},
		{name: "an empty query is refused", url: "https://example.com?", refused: "query"},
		{name: "a fragment is refused", url: "https://example.com#a", refused: "fragment"},
		{name: "an empty fragment is refused", url: "https://example.com#", refused: "fragment"},
		{name: "port 0 is refused", url: "https://example.com:0", refused: "port"},
		{name: "a port too high is refused", url: "https://example.com:65536", refused: "port"},
		{name: "a colon without a port is refused", url: "https://example.com:", refused: "port"},
		{name: "the metadata service is refused", url: "https://169.254.169.254", refused: "link-local"},
		{name: "the metadata service in IPv6 clothes is refused", url: "https://[::ffff:169.254.169.254]", refused: "link-local"},
		{name: "link-local is refused even when http is allowed", url: "http://169.254.169.254", allowHTTP: true, refused: "link-local"},
		{name: "IPv6 link-local is refused", url: "https://[fe80::1]", refused: "link-local"},
		{name: "an IPv6 zone is refused", url: "https://[fe80::1%25eth0]", refused: "link-local"},
		{name: "steps up the path are refused", url: "https://example.com/a/../b", refused: "segments"},
		{name: "what is no URL is refused", url: "https://exa mple.com", refused: "not a URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, err := New(Config{BaseURL: c.url, AllowHTTP: c.allowHTTP, Key: NewSecret("k"), Gate: &gate{}})
			if c.refused != "" {
				require.ErrorContains(t, err, "codat: base URL: ")
				require.ErrorContains(t, err, c.refused)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, c.base, client.base.String())
		})
	}
}

func TestErrorsOfTheBaseURLHoldNoPassword(t *testing.T) {
	for _, url := range []string{"https://u:" + canary + "@example.com", "https://u:" + canary + "@exa mple.com", "ftp://u:" + canary + "@x", "https://x/?token=" + canary} {
		_, err := New(Config{BaseURL: url, Key: NewSecret("k"), Gate: &gate{}})
		require.Error(t, err)
		assert.NotContains(t, err.Error(), canary)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	good := func() Config { return Config{Key: NewSecret("k"), Gate: &gate{}} }
	for name, c := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"no key":                      {func(c *Config) { c.Key = Secret{} }, "API key is empty"},
		"no gate":                     {func(c *Config) { c.Gate = nil }, "no gate"},
		"a negative request timeout":  {func(c *Config) { c.RequestTimeout = -1 }, "request timeout is negative"},
		"a negative settle timeout":   {func(c *Config) { c.SettleTimeout = -1 }, "settle timeout is negative"},
		"a CA that is none":           {func(c *Config) { c.CA = "canary" }, "the CA holds no certificate"},
		"a CA beside a transport":     {func(c *Config) { c.CA, c.Transport = "canary", http.DefaultTransport }, "client's own transport"},
		"a line break in user agents": {func(c *Config) { c.UserAgent = "a\r\nb: c" }, "user agent"},
	} {
		config := good()
		c.change(&config)
		_, err := New(config)
		require.ErrorContains(t, err, c.says, name)
	}
	client, err := New(good())
	require.NoError(t, err)
	assert.Equal(t, 30*time.Second, client.requestTimeout)
	assert.Equal(t, 5*time.Second, client.settleTimeout)
}

func TestTheOwnTransport(t *testing.T) {
	transport := newTransport(nil)
	assert.Nil(t, transport.Proxy, "no proxy, not even the environment's")
	assert.GreaterOrEqual(t, transport.TLSClientConfig.MinVersion, uint16(0x0303), "TLS 1.2")
	assert.False(t, transport.TLSClientConfig.InsecureSkipVerify)

	for _, address := range []string{"169.254.169.254:80", "[fe80::1%lo]:80"} {
		_, err := transport.DialContext(t.Context(), "tcp", address)
		require.ErrorContains(t, err, "link-local", "whatever name resolved to it")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := transport.DialContext(ctx, "tcp", "127.0.0.1:1")
	assert.NotContains(t, err.Error(), "link-local")
}

type tripper func(*http.Request) (*http.Response, error)

func (t tripper) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

func TestTheKeyIsAddedOnlyForTheConfiguredOrigin(t *testing.T) {
	base, err := parseBase("https://example.com:8443/codat", false)
	require.NoError(t, err)
	var header string
	wire := keyed{origin: base, header: NewSecret("Basic x"), next: tripper(func(r *http.Request) (*http.Response, error) {
		header = r.Header.Get("Authorization")
		return &http.Response{}, nil
	})}
	for url, own := range map[string]bool{
		"https://example.com:8443/codat/companies": true,
		"http://example.com:8443/codat":            false,
		"https://example.com/codat":                false,
		"https://example.com:8444/codat":           false,
		"https://example.org:8443/codat":           false,
	} {
		header = ""
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(t, err)
		_, err = wire.RoundTrip(request)
		assert.Equal(t, own, err == nil, url)
		assert.Equal(t, own, header == "Basic x", url)
		assert.Empty(t, request.Header, "the caller's request stays without the key")
	}
}
