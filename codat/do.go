package codat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// Limits of a body, counted after decompression.
const (
	maxListBody  = 16 << 20
	maxOtherBody = 4 << 20
	maxErrorBody = 64 << 10
)

// request is one request about to be made.
type request struct {
	ask      push.Ask
	segments []string // of the path below the base URL, unescaped
	query    url.Values
	maxBody  int64
}

// reply is an answer with status 200, read to its end.
type reply struct {
	request     request
	body        []byte
	contentType string
	startedAt   time.Time // after the gate, before the request
	finishedAt  time.Time // when the body was complete
	answer      push.Answer
}

// do is the only way to the wire: admit, send, settle.
//
// A failed Settle replaces a good answer. It may hide that the quota is nearly
// spent or that all must pause, and an answer that nobody could book is not worth
// going on blindly: the request is asked again once the ledger answers. When both
// fail they are joined, the answer's failure first, because it is what a caller
// looks for with errors.As.
func (c *Client) do(ctx context.Context, r request) (reply, error) {
	target, err := c.target(r)
	if err != nil {
		return reply{}, &push.AskError{Ask: r.ask, Kind: push.KindRefused, Message: err.Error()}
	}
	grant, err := c.gate.Admit(ctx, r.ask)
	if err != nil {
		var refused *push.AskError
		if errors.As(err, &refused) {
			return reply{}, err
		}
		return reply{}, fmt.Errorf("admit %s of company %s: %w", r.ask.Request, r.ask.CompanyID, err)
	}
	got, err := c.send(ctx, r, target)
	fault.Point(fault.Answered)
	// From here on the request may have been answered. A crash before Settle has
	// ended leaves it counted, as Admit did, and only its news of limits unread.
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.settleTimeout)
	defer cancel()
	if failed := c.gate.Settle(settling, grant, got.answer); failed != nil {
		failed = fmt.Errorf("settle %s of company %s: %w", r.ask.Request, r.ask.CompanyID, failed)
		return reply{}, errors.Join(err, failed)
	}
	return got, err
}

// target returns the URL of a request. A segment that an intermediary could
// take for a step up the path, even when escaped, is refused before it costs
// anything, as is an empty one, which would name another resource.
func (c *Client) target(r request) (*url.URL, error) {
	target := *c.base
	target.RawPath = c.base.EscapedPath()
	for _, segment := range r.segments {
		if segment == "" || dotSegment(segment) {
			return nil, fmt.Errorf("an id of the request is %q, which cannot be part of a path", segment)
		}
		target.Path += "/" + segment
		target.RawPath += "/" + url.PathEscape(segment)
	}
	target.RawQuery = r.query.Encode()
	return &target, nil
}

// send sends one admitted request and reads its answer. What the answer says of
// limits is returned also beside an error.
func (c *Client) send(ctx context.Context, r request, target *url.URL) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, c.requestTimeout)
	defer cancel()
	message := (&http.Request{
		Method: http.MethodGet,
		URL:    target,
		Header: http.Header{"Accept": {"application/json"}, "User-Agent": {c.userAgent}},
		Body:   unsent{},
	}).WithContext(ctx)

	got := reply{request: r, startedAt: c.now()}
	response, err := c.wire.RoundTrip(message)
	if err != nil {
		return got, c.broken(r.ask, 0, err)
	}
	defer func() { _ = response.Body.Close() }()
	got.answer = readAnswer(response, c.now())
	got.contentType = c.mediaType(response.Header)

	kind, ok := kindOf(response.StatusCode)
	if !ok {
		return got, c.failure(r.ask, kind, response, got.answer)
	}
	got.body, err = readBody(response, r.maxBody)
	got.finishedAt = c.now()
	switch {
	case errors.Is(err, errTooLarge): // got holds as much of the body as may be read
		return got, &push.AskError{Ask: r.ask, Kind: push.KindTooLarge, Status: response.StatusCode,
			Message: fmt.Sprintf("the body is larger than %d MiB", r.maxBody>>20)}
	case err != nil:
		return got, c.broken(r.ask, response.StatusCode, err)
	}
	return got, nil
}

var errTooLarge = errors.New("body over its limit")

// readBody reads a body of at most limit bytes, decompressed: what a gzip bomb
// would become beyond that is never made. Beside errTooLarge it returns as much
// of the body as came within the limit.
func readBody(response *http.Response, limit int64) ([]byte, error) {
	if fault.Off(fault.BodyLimit) {
		limit = math.MaxInt64 - 1
	}
	var body bytes.Buffer
	body.Grow(int(min(max(response.ContentLength, 0), limit)) + bytes.MinRead) // -1 when not announced
	_, err := body.ReadFrom(io.LimitReader(response.Body, limit+1))
	switch {
	case int64(body.Len()) > limit:
		return body.Bytes()[:limit], errTooLarge
	case response.ContentLength > limit && errors.Is(err, io.ErrUnexpectedEOF):
		return body.Bytes(), errTooLarge // the server gave up, over what would not have been read
	}
	return body.Bytes(), err
}

// look returns the times of the reply as a look.
func (r reply) look(source push.Source) push.Look {
	return push.Look{Source: source, StartedAt: r.startedAt, FinishedAt: r.finishedAt}
}

// malformed returns the error of an answer that is not what was asked for.
func (r reply) malformed(format string, args ...any) error {
	return &push.AskError{Ask: r.request.ask, Kind: push.KindMalformed, Status: r.answer.Status,
		Message: fmt.Sprintf(format, args...)}
}

// notJSON returns the error of a body that is no JSON or not all of it.
func (r reply) notJSON() error {
	switch {
	case len(r.body) == 0:
		return r.malformed("the body is empty")
	case !strings.HasSuffix(r.contentType, "json"):
		return r.malformed("not JSON (content type %s)", r.contentType)
	}
	return r.malformed("not complete, valid JSON")
}
