package codat

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Client asks Codat. It is safe for concurrent use.
type Client struct {
	base           *url.URL
	credential     credential
	gate           Gate
	now            func() time.Time
	userAgent      string
	requestTimeout time.Duration
	settleTimeout  time.Duration
	wire           keyed
	orderless      orderless
	maxPages       int   // of a walk
	maxListBody    int64 // of a page, in bytes after decompression
	maxOtherBody   int64 // of everything else, likewise
}

// maxPages ends a walk that a lying server would make endless.
const maxPages = 100_000

// New returns a Client, or an error that names what is wrong with the
// configuration and holds no secret. It sends nothing.
func New(config Config) (*Client, error) {
	base, err := parseBase(config.BaseURL, config.AllowHTTP)
	if err != nil {
		return nil, fmt.Errorf("codat: base URL: %w", err)
	}
	key, err := newCredential(config.Key)
	if err != nil {
		return nil, fmt.Errorf("codat: %w", err)
	}
	if config.Gate == nil {
		return nil, errors.New("codat: no gate: every request must be counted")
	}
	request, err := timeout("the request timeout", config.RequestTimeout, DefaultRequestTimeout)
	if err != nil {
		return nil, fmt.Errorf("codat: %w", err)
	}
	settle, err := timeout("the settle timeout", config.SettleTimeout, DefaultSettleTimeout)
	if err != nil {
		return nil, fmt.Errorf("codat: %w", err)
	}
	client := &Client{
		base: base, credential: key, gate: config.Gate, now: config.Now, userAgent: config.UserAgent,
		requestTimeout: request, settleTimeout: settle, maxPages: maxPages, maxListBody: maxListBody, maxOtherBody: maxOtherBody,
	}
	if client.now == nil {
		client.now = time.Now
	}
	if client.userAgent == "" {
		client.userAgent = defaultUserAgent
	}
	if strings.ContainsFunc(client.userAgent, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("codat: the user agent must be printable ASCII")
	}
	next, err := transportOf(config)
	if err != nil {
		return nil, fmt.Errorf("codat: %w", err)
	}
	client.wire = keyed{next: next, origin: base, header: key.header}
	return client, nil
}

// Close gives up what the transport keeps between requests: nothing, unless the
// Config brought one that reuses connections. Requests under way are not touched.
func (c *Client) Close() {
	if keeper, ok := c.wire.next.(interface{ CloseIdleConnections() }); ok {
		keeper.CloseIdleConnections()
	}
}
