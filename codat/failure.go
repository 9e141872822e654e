package codat

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/pushwatch/pushwatch/push"
)

// Limits of what an error keeps of the server's words, in bytes.
const (
	maxMessage       = 300
	maxCorrelationID = 100
)

// kindOf maps an HTTP status to the kind of failure it is; ok is true for 200,
// which is none.
func kindOf(status int) (kind push.Kind, ok bool) {
	switch {
	case status == http.StatusOK:
		return "", true
	case status == http.StatusUnauthorized:
		return push.KindUnauthorised, false
	case status == http.StatusPaymentRequired:
		return push.KindPayment, false
	case status == http.StatusForbidden:
		return push.KindForbidden, false
	case status == http.StatusNotFound || status == http.StatusGone:
		return push.KindNotFound, false
	case status == http.StatusTooManyRequests:
		return push.KindThrottled, false
	case status >= 500 && status <= 599:
		return push.KindUnavailable, false
	case status >= 400 && status <= 499:
		return push.KindRefused, false
	case status >= 300 && status <= 399 && status != http.StatusNotModified:
		return push.KindRedirected, false
	}
	return push.KindMalformed, false // 204, 206, 304 and the like, which nobody asked for
}

// failure returns the error of an answer whose status is not 200.
func (c *Client) failure(ask push.Ask, kind push.Kind, response *http.Response, answer push.Answer) error {
	failed := &push.AskError{Ask: ask, Kind: kind, Status: response.StatusCode}
	switch kind {
	case push.KindRedirected:
		failed.Message = "redirects are not followed"
		return failed
	case push.KindMalformed:
		failed.Message = "an unexpected status"
		return failed
	}
	if answer.HasRetryAfter {
		failed.Until = c.now().Add(answer.RetryAfter)
	}
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxErrorBody)) // what came of it is enough
	var told struct {
		Error         text `json:"error"`
		CorrelationID text `json:"correlationId"`
	}
	if json.Unmarshal(withoutBOM(body), &told) == nil {
		failed.Message = printable(c.credential.redact(string(told.Error)), maxMessage)
		failed.CorrelationID = printable(c.credential.redact(string(told.CorrelationID)), maxCorrelationID)
	}
	return failed
}

// text is a JSON string; whatever else stands in its place reads as empty.
type text string

func (t *text) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		read, _ := unquote(raw)
		*t = text(read)
	}
	return nil
}

// broken returns the error of a request that brought no complete answer. What
// net/http says of an answer that breaks the protocol quotes the answer, so only
// errors that cannot hold anything of it are passed on.
func (c *Client) broken(ask push.Ask, status int, err error) error {
	failed := &push.AskError{Ask: ask, Kind: push.KindTransport, Status: status}
	cause := quotable(err)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		failed.Message, failed.Err = "no complete answer in time", context.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		failed.Err = context.Canceled
	case status != 0:
		failed.Message = "the answer ended early or is damaged"
		if errors.Is(err, io.ErrUnexpectedEOF) {
			failed.Err = io.ErrUnexpectedEOF
		}
	case cause != nil:
		failed.Message = printable(c.credential.redact(cause.Error()), maxMessage)
	default:
		failed.Message = "the connection ended or the answer is not HTTP"
	}
	return failed
}

// quotable returns the part of err whose text comes from the network, from TLS or
// from a certificate, and not from an answer; nil when there is none.
func quotable(err error) error {
	var (
		operation   *net.OpError
		name        *net.DNSError
		errno       syscall.Errno
		certificate *tls.CertificateVerificationError
		record      tls.RecordHeaderError
		alert       tls.AlertError
	)
	switch {
	case errors.As(err, &certificate):
		return certificate
	case errors.As(err, &record):
		return record
	case errors.As(err, &operation):
		return operation
	case errors.As(err, &alert):
		return alert
	case errors.As(err, &name):
		return name
	case errors.As(err, &errno):
		return errno
	case errors.Is(err, http.ErrSchemeMismatch):
		return http.ErrSchemeMismatch
	case errors.Is(err, io.EOF):
		return io.EOF
	}
	return nil
}

// mediaType returns the media type of an answer for use in a message: without
// parameters, and only if it looks like one.
func (c *Client) mediaType(header http.Header) string {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	unfit := strings.ContainsFunc(kind, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && !strings.ContainsRune("/+.-", r)
	})
	if err != nil || unfit || len(kind) > 80 {
		return "unknown"
	}
	return c.credential.redact(kind)
}
