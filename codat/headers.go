package codat

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// maxRetryAfter caps what a server may ask: no limit of Codat lasts longer than
// to the next reset, at 00:00 UTC.
const maxRetryAfter = 24 * time.Hour

// limitHeader says how many requests a day has. A day of none is no limit but a
// mistake: an answer that says so was itself let through.
const limitHeader = "X-Rate-Limit-Limit"

// firstYear is older than the API. A date before it comes from a machine that has
// lost its clock, and would move a company's first look and the day of its quota.
const firstYear = 2015

// readAnswer reads what an answer's headers say of limits. Now stands in where
// there is no Date header.
func readAnswer(response *http.Response, now time.Time) push.Answer {
	answer := push.Answer{Status: response.StatusCode}
	read := func(name string, take func(value string) bool) {
		if values := response.Header.Values(name); len(values) > 0 && !take(values[0]) {
			answer.Unreadable = append(answer.Unreadable, name)
		}
	}
	read("Date", func(value string) bool {
		date, err := http.ParseTime(value)
		readable := err == nil && date.Year() >= firstYear
		if readable {
			answer.Date = push.Time(date)
			now = date
		}
		return readable
	})
	for name, to := range map[string]**int{limitHeader: &answer.Limits.Limit, "X-Rate-Limit-Remaining": &answer.Limits.Remaining} {
		read(name, func(value string) bool {
			if n := count(value); n != nil && (*n > 0 || name != limitHeader) {
				*to = n
			}
			return *to != nil
		})
	}
	read("Retry-After", func(string) bool {
		answer.RetryAfter, answer.HasRetryAfter = largestRetryAfter(response.Header.Values("Retry-After"), now)
		return answer.HasRetryAfter
	})
	slices.Sort(answer.Unreadable)
	return answer
}

// count reads a number of requests, or returns nil for anything else.
func count(header string) *int {
	n, err := strconv.ParseUint(strings.TrimSpace(header), 10, 31)
	if err != nil {
		return nil
	}
	value := int(n)
	return &value
}

// largestRetryAfter returns the longest of the waits that could be read.
func largestRetryAfter(headers []string, now time.Time) (wait time.Duration, ok bool) {
	for _, header := range headers {
		if one, read := retryAfter(header, now); read {
			wait, ok = max(wait, one), true
		}
	}
	return wait, ok
}

// retryAfter reads a Retry-After header: whole seconds, or one of the three HTTP
// dates, measured from now, which is the server's own Date where it sent one, so
// that a wrong clock on either side does no harm. What lies in the past is 0 and
// what lies beyond a day is a day. Anything else is unreadable.
func retryAfter(header string, now time.Time) (time.Duration, bool) {
	header = strings.TrimSpace(header)
	digits := strings.TrimPrefix(header, "-")
	if digits != "" && strings.Trim(digits, "0123456789") == "" {
		if header != digits {
			return 0, true
		}
		seconds, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || seconds > int64(maxRetryAfter/time.Second) { // err: too large for any number
			return maxRetryAfter, true
		}
		return time.Duration(seconds) * time.Second, true
	}
	date, err := http.ParseTime(header)
	if err != nil {
		return 0, false
	}
	return min(max(date.Sub(now), 0), maxRetryAfter), true
}

// serverAhead returns how far the server's clock is ahead of ours, as far as one
// answer proves it. The server wrote date, cut to the second, at some moment
// between started and finished of our clock, so the offset lies between
// date-finished and date+1s-started. Where that includes 0 the clocks may agree;
// else the nearest bound is what is certain.
func serverAhead(date, started, finished time.Time) time.Duration {
	if date.IsZero() {
		return 0
	}
	least, most := date.Sub(finished), date.Add(time.Second).Sub(started)
	switch {
	case least > 0:
		return least
	case most < 0:
		return most
	}
	return 0
}
