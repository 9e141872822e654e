package push

import (
	"fmt"
	"strings"
	"time"
)

// Request names one of the three operations of Codat's push API.
type Request string

// The three requests that pushwatch makes.
const (
	ListOperations  Request = "list_operations"
	GetOperation    Request = "get_operation"
	GetModelOptions Request = "get_model_options"
)

// Purpose says what a request is made for; the quota knows purposes.
type Purpose string

// The purposes. Baseline and Sweep walk whole histories and share a fifth of
// the day's share.
const (
	ForDiscover Purpose = "discover"
	ForTrack    Purpose = "track"
	ForSweep    Purpose = "sweep"
	ForBaseline Purpose = "baseline"
	ForUser     Purpose = "user" // a person at the command line waits for it
)

// Ask is one request about to be made.
type Ask struct {
	Request   Request
	CompanyID string
	Purpose   Purpose
}

// Grant is the permission to send one request; its cost is already counted.
type Grant struct {
	Ask Ask
	Day time.Time // the UTC day that was charged, at 00:00
	At  time.Time // when it was given, by the ledger's clock
}

// Answer is what the quota learns from a request that was sent, answered or not.
type Answer struct {
	Status     int       // HTTP status; 0 when no answer came
	Date       time.Time // the Date header; zero when absent
	Limits     Limits
	RetryAfter time.Duration // as the server asked, from the Date header on; meaningful when HasRetryAfter
	// HasRetryAfter tells a Retry-After header that could be read from none.
	HasRetryAfter bool
	// Unreadable names the headers of limits and times that are there and say
	// nothing that can be used. They count as absent.
	Unreadable []string
}

// Limits are the X-Rate-Limit headers of an answer; nil where absent or unreadable.
type Limits struct {
	Limit     *int
	Remaining *int
}

// Kind is the closed set of ways in which a request can fail.
type Kind string

// The kinds of failure, and what each asks of the caller.
const (
	KindQuota        Kind = "quota"        // not sent: the day's share is spent, or a pause is on; see Until
	KindThrottled    Kind = "throttled"    // 429: all replicas pause
	KindUnauthorised Kind = "unauthorised" // 401: the key is wrong
	KindPayment      Kind = "payment"      // 402: account limit or plan
	KindForbidden    Kind = "forbidden"    // 403
	KindNotFound     Kind = "not_found"    // 404, 410: this company or operation is gone
	KindRefused      Kind = "refused"      // any other 4xx
	KindUnavailable  Kind = "unavailable"  // 5xx
	KindRedirected   Kind = "redirected"   // 3xx: never followed
	KindTransport    Kind = "transport"    // no complete answer
	KindMalformed    Kind = "malformed"    // an answer that is not what was asked for
	KindTooLarge     Kind = "too_large"    // a body over the limit
)

// Kinds lists every Kind, for tests.
var Kinds = []Kind{KindQuota, KindThrottled, KindUnauthorised, KindPayment, KindForbidden, KindNotFound,
	KindRefused, KindUnavailable, KindRedirected, KindTransport, KindMalformed, KindTooLarge}

// Blocking reports whether the failure concerns the whole client, so that no
// other company needs to be asked.
func (k Kind) Blocking() bool {
	switch k {
	case KindQuota, KindThrottled, KindUnauthorised, KindPayment, KindForbidden:
		return true
	}
	return false
}

// AskError is a request that brought no usable answer.
type AskError struct {
	Ask           Ask
	Kind          Kind
	Status        int       // HTTP status, 0 when none
	Message       string    // what the server or the client said; holds no secret and no record
	CorrelationID string    // what Codat's support asks for
	Until         time.Time // when asking makes sense again; zero when unknown
	Err           error     // the cause, if any
}

func (e *AskError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s", e.Ask.Request)
	if e.Ask.CompanyID != "" {
		fmt.Fprintf(&b, " of company %s", e.Ask.CompanyID)
	}
	fmt.Fprintf(&b, ": %s", e.Kind)
	if e.Status != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.Status)
	}
	if e.Message != "" {
		fmt.Fprintf(&b, ": %s", e.Message)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	if !e.Until.IsZero() {
		fmt.Fprintf(&b, ", until %s", e.Until.UTC().Format(time.RFC3339))
	}
	if e.CorrelationID != "" {
		fmt.Fprintf(&b, " [correlation id %s]", e.CorrelationID)
	}
	return b.String()
}

func (e *AskError) Unwrap() error { return e.Err }
