package codat

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestKindOfAStatus(t *testing.T) {
	special := map[int]push.Kind{
		200: "", 401: push.KindUnauthorised, 402: push.KindPayment, 403: push.KindForbidden,
		404: push.KindNotFound, 410: push.KindNotFound, 429: push.KindThrottled, 304: push.KindMalformed,
	}
	byClass := map[int]push.Kind{1: push.KindMalformed, 2: push.KindMalformed, 3: push.KindRedirected,
		4: push.KindRefused, 5: push.KindUnavailable, 6: push.KindMalformed, 9: push.KindMalformed}
	for status := 100; status < 1000; status++ {
		want, ok := special[status]
		if !ok {
			want, ok = byClass[status/100]
			if !ok {
				want = push.KindMalformed
			}
		}
		kind, fine := kindOf(status)
		assert.Equal(t, want, kind, status)
		assert.Equal(t, status == 200, fine, status)
	}
}

func TestErrorAnswers(t *testing.T) {
	for _, c := range []struct {
		name    string
		status  int
		header  http.Header
		body    string
		kind    push.Kind
		message string
		id      string
		wait    time.Duration // to Until; negative: none
	}{
		{name: "a key that is wrong", status: 401, body: `{"statusCode":401,"service":"x","error":"Unauthorized","correlationId":"abc-1","canBeRetried":"No"}`,
			kind: push.KindUnauthorised, message: "Unauthorized", id: "abc-1", wait: -1},
		{name: "an expired plan", status: 402, body: `{"error":"plan"}`, kind: push.KindPayment, message: "plan", wait: -1},
		{name: "not allowed", status: 403, kind: push.KindForbidden, wait: -1},
		{name: "gone", status: 410, kind: push.KindNotFound, wait: -1},
		{name: "throttled with seconds", status: 429, header: http.Header{"Retry-After": {"30"}}, body: `{"error":"slow down"}`,
			kind: push.KindThrottled, message: "slow down", wait: 30 * time.Second},
		{name: "throttled with no more", status: 429, kind: push.KindThrottled, wait: -1},
		{name: "maintenance", status: 503, header: http.Header{"Retry-After": {"60"}}, kind: push.KindUnavailable, wait: time.Minute},
		{name: "not ready", status: 409, body: "\xEF\xBB\xBF" + `{"error":"not ready"}`, kind: push.KindRefused, message: "not ready", wait: -1},
		{name: "HTML in place of JSON", status: 502, body: "<html>secret</html>", kind: push.KindUnavailable, wait: -1},
		{name: "a list in place of an object", status: 500, body: "[]", kind: push.KindUnavailable, wait: -1},
		{name: "fields of other types", status: 500, body: `{"error":{"a":1},"correlationId":7}`, kind: push.KindUnavailable, wait: -1},
		{name: "an id of another type does not hide the message", status: 500, body: `{"error":"x","correlationId":null}`, kind: push.KindUnavailable, message: "x", wait: -1},
		{name: "control characters are escaped", status: 500, body: `{"error":"a\r\nlevel=ERROR \u001b[2J","correlationId":"c\n1"}`,
			kind: push.KindUnavailable, message: `a\r\nlevel=ERROR \x1b[2J`, id: `c\n1`, wait: -1},
		{name: "a long message is cut", status: 500, body: `{"error":"` + strings.Repeat("é", 1000) + `"}`, kind: push.KindUnavailable, message: strings.Repeat("é", 150), wait: -1},
		{name: "a body over its limit tells nothing", status: 500, body: `{"error":"x","pad":"` + strings.Repeat("a", 70_000) + `"}`, kind: push.KindUnavailable, wait: -1},
		{name: "no content", status: 204, kind: push.KindMalformed, message: "an unexpected status", wait: -1},
		{name: "part of the content", status: 206, body: `{"results":[]}`, kind: push.KindMalformed, message: "an unexpected status", wait: -1},
		{name: "not modified", status: 304, kind: push.KindMalformed, message: "an unexpected status", wait: -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, ledger := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				for name, values := range c.header {
					w.Header()[name] = values
				}
				w.WriteHeader(c.status)
				if c.body != "" && c.status != 204 && c.status != 304 {
					_, _ = w.Write([]byte(c.body))
				}
			}, func(config *Config) { config.Now = func() time.Time { return noon } })
			_, err := client.Get(t.Context(), company, "k", push.ForTrack)

			var failed *push.AskError
			require.ErrorAs(t, err, &failed)
			assert.Equal(t, push.Ask{Request: push.GetOperation, CompanyID: company, Purpose: push.ForTrack}, failed.Ask)
			assert.Equal(t, c.kind, failed.Kind)
			assert.Equal(t, c.status, failed.Status)
			assert.Equal(t, c.message, failed.Message)
			assert.Equal(t, c.id, failed.CorrelationID)
			answer := ledger.settled(t)[0]
			assert.Equal(t, c.status, answer.Status)
			if c.wait < 0 {
				assert.True(t, failed.Until.IsZero())
				assert.False(t, answer.HasRetryAfter)
			} else {
				assert.Equal(t, noon.Add(c.wait), failed.Until)
				assert.Equal(t, c.wait, answer.RetryAfter)
			}
		})
	}
}

// The server knows the key, since it is sent to it, and may echo it anywhere.
func TestNoErrorHoldsTheKeyOrABody(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	echo := "you sent " + canary + " and Basic " + encoded + " to BODY-TEXT"
	hijack := func(write string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			connection, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = connection.Write([]byte(write))
				_ = connection.Close()
			}
		}
	}
	for name, handler := range map[string]http.HandlerFunc{
		"the message of an error": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			_, _ = fmt.Fprintf(w, `{"error":%q,"correlationId":%q}`, strings.TrimSuffix(echo, "BODY-TEXT"), canary)
		},
		"a redirect": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://example.com/?"+canary)
			w.WriteHeader(302)
		},
		"a redirect to nowhere": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "::"+canary)
			w.WriteHeader(302)
		},
		"a page that is none": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/"+canary)
			_, _ = w.Write([]byte(echo))
		},
		"a page of the wrong shape":    answering(`{"` + canary + `":"BODY-TEXT"}`),
		"a status line of the key":     hijack(canary + " BODY-TEXT\r\n\r\n"),
		"a header that is none":        hijack("HTTP/1.1 200 OK\r\n" + canary + "\r\n\r\n"),
		"a length of the key":          hijack("HTTP/1.1 200 OK\r\nContent-Length: " + canary + "\r\n\r\n"),
		"an encoding of the key":       hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: " + canary + "\r\n\r\n"),
		"a chunk of the key":           hijack("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + canary + "\r\n"),
		"a status that is no number":   hijack("HTTP/1.1 " + canary + "\r\n\r\n"),
		"a body that ends in its core": hijack("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + echo),
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := serve(t, handler)
			_, errGet := client.Get(t.Context(), company, "k", push.ForTrack)
			_, errOptions := client.Options(t.Context(), company, "c", "invoices")
			var errWalk error
			for _, errWalk = range client.Walk(t.Context(), push.ListWalk{CompanyID: company}) {
				break
			}
			require.Error(t, errWalk)
			require.Error(t, errOptions)
			if name != "a page of the wrong shape" { // there a get sets aside a record
				require.Error(t, errGet)
			}
			for _, err := range []error{errGet, errOptions, errWalk} {
				if err == nil {
					continue
				}
				assert.Contains(t, push.Kinds, kindOfError(t, err))
				for ; err != nil; err = errors.Unwrap(err) {
					for _, text := range []string{err.Error(), fmt.Sprintf("%+v %#v", err, err)} {
						assert.NotContains(t, text, canary)
						assert.NotContains(t, text, encoded)
						assert.NotContains(t, text, "BODY-TEXT")
					}
				}
			}
		})
	}
}
