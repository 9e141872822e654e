package codat

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pushwatch/pushwatch/push"
)

func TestRetryAfter(t *testing.T) {
	ahead := func(d time.Duration) time.Time { return noon.Add(d) }
	for _, c := range []struct {
		name    string
		headers []string
		want    time.Duration
		none    bool
	}{
		{name: "no header", none: true},
		{name: "seconds", headers: []string{"120"}, want: 2 * time.Minute},
		{name: "no second", headers: []string{"0"}, want: 0},
		{name: "seconds between spaces", headers: []string{" 7 "}, want: 7 * time.Second},
		{name: "negative seconds are none", headers: []string{"-5"}, want: 0},
		{name: "a day", headers: []string{"86400"}, want: 24 * time.Hour},
		{name: "more than a day is a day", headers: []string{"99999999999"}, want: 24 * time.Hour},
		{name: "more than any number is a day", headers: []string{"99999999999999999999999999"}, want: 24 * time.Hour},
		{name: "a fraction is not read", headers: []string{"1.5"}, none: true},
		{name: "a plus sign is not read", headers: []string{"+5"}, none: true},
		{name: "an exponent is not read", headers: []string{"1e3"}, none: true},
		{name: "an empty header is not read", headers: []string{""}, none: true},
		{name: "a minus alone is not read", headers: []string{"-"}, none: true},
		{name: "a list in one header is not read", headers: []string{"120, 60"}, none: true},
		{name: "garbage is not read", headers: []string{"soon"}, none: true},
		{name: "an ISO date is not read", headers: []string{"2026-11-24T12:02:00Z"}, none: true},
		{name: "a date with a numeric zone is not read", headers: []string{"Tue, 24 Nov 2026 12:02:00 +0000"}, none: true},
		{name: "an RFC 1123 date", headers: []string{ahead(90 * time.Second).Format(http.TimeFormat)}, want: 90 * time.Second},
		{name: "an RFC 850 date", headers: []string{"Tuesday, 24-Nov-26 12:01:30 GMT"}, want: 90 * time.Second},
		{name: "an asctime date", headers: []string{"Tue Nov 24 12:01:30 2026"}, want: 90 * time.Second},
		{name: "a date of the past is none", headers: []string{ahead(-time.Hour).Format(http.TimeFormat)}, want: 0},
		{name: "a date of next year is a day", headers: []string{ahead(9000 * time.Hour).Format(http.TimeFormat)}, want: 24 * time.Hour},
		{name: "of two the larger", headers: []string{"60", "120"}, want: 2 * time.Minute},
		{name: "of two the larger, in either order", headers: []string{"120", "60"}, want: 2 * time.Minute},
		{name: "of two the readable", headers: []string{"soon", "60"}, want: time.Minute},
		{name: "of a date and seconds the larger", headers: []string{"60", ahead(90 * time.Second).Format(http.TimeFormat)}, want: 90 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := largestRetryAfter(c.headers, noon)
			assert.Equal(t, !c.none, ok)
			assert.Equal(t, c.want, got)
		})
	}
}

func TestAnswerReadsDateAndLimits(t *testing.T) {
	number := func(n int) *int { return &n }
	for _, c := range []struct {
		name             string
		limit, remaining string
		want             push.Limits
		unreadable       []string
	}{
		{name: "both", limit: "100000", remaining: "99", want: push.Limits{Limit: number(100000), Remaining: number(99)}},
		{name: "none", want: push.Limits{}},
		{name: "nothing remains", limit: "1000", remaining: "0", want: push.Limits{Limit: number(1000), Remaining: number(0)}},
		{name: "a negative number is ignored", limit: "-1", remaining: "5", want: push.Limits{Remaining: number(5)}, unreadable: []string{"X-Rate-Limit-Limit"}},
		{name: "a fraction is ignored", limit: "1.5", remaining: "1e3", unreadable: []string{"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining"}},
		{name: "a limit of nothing is ignored", limit: "0", remaining: "5", want: push.Limits{Remaining: number(5)}, unreadable: []string{"X-Rate-Limit-Limit"}},
		{name: "words are ignored", limit: "unlimited", remaining: "null", unreadable: []string{"X-Rate-Limit-Limit", "X-Rate-Limit-Remaining"}},
		{name: "a number over all bounds is ignored", limit: "99999999999", remaining: "5", want: push.Limits{Remaining: number(5)}, unreadable: []string{"X-Rate-Limit-Limit"}},
		{name: "spaces do no harm", limit: " 7 ", remaining: "5", want: push.Limits{Limit: number(7), Remaining: number(5)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := http.Header{}
			if c.limit+c.remaining != "" {
				header.Set("X-Rate-Limit-Limit", c.limit)
				header.Set("X-Rate-Limit-Remaining", c.remaining)
			}
			header.Set("X-Rate-Limit-Reset", "1679419078923") // its format is not documented: nothing hangs on it
			header.Set("Date", noon.Format(http.TimeFormat))
			got := readAnswer(&http.Response{StatusCode: 503, Header: header}, noon.Add(time.Hour))
			assert.Equal(t, push.Answer{Status: 503, Date: noon, Limits: c.want, Unreadable: c.unreadable}, got)
		})
	}
}

func TestADateFromBeforeTheAPIIsIgnored(t *testing.T) {
	header := http.Header{}
	header.Set("Date", time.Unix(0, 0).UTC().Format(http.TimeFormat))
	header.Set("Retry-After", noon.Add(time.Minute).Format(http.TimeFormat))
	got := readAnswer(&http.Response{StatusCode: 429, Header: header}, noon)
	assert.Equal(t, push.Answer{Status: 429, RetryAfter: time.Minute, HasRetryAfter: true, Unreadable: []string{"Date"}}, got)
}

func TestRetryDatesAreMeasuredFromTheAnswersOwnDate(t *testing.T) {
	header := http.Header{}
	header.Set("Date", noon.Format(http.TimeFormat))
	header.Set("Retry-After", noon.Add(time.Minute).Format(http.TimeFormat))
	skewed := readAnswer(&http.Response{StatusCode: 429, Header: header}, noon.Add(3*time.Hour))
	assert.Equal(t, time.Minute, skewed.RetryAfter)

	header.Set("Date", "yesterday")
	own := readAnswer(&http.Response{StatusCode: 429, Header: header}, noon.Add(30*time.Second))
	assert.Equal(t, 30*time.Second, own.RetryAfter, "without a Date, from our clock")
	assert.True(t, own.Date.IsZero())
	assert.True(t, own.HasRetryAfter)
	assert.Equal(t, []string{"Date"}, own.Unreadable)

	header.Set("Retry-After", "soon")
	assert.Equal(t, []string{"Date", "Retry-After"}, readAnswer(&http.Response{Header: header}, noon).Unreadable)
}

func TestServerAhead(t *testing.T) {
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	for _, c := range []struct {
		name                    string
		date, started, finished time.Time
		want                    time.Duration
	}{
		{"no date proves nothing", time.Time{}, at(0), at(time.Second), 0},
		{"a date within the request agrees", at(0), at(-time.Second), at(time.Second), 0},
		{"a date cut to the second agrees", at(0), at(999 * time.Millisecond), at(1100 * time.Millisecond), 0},
		{"a date after the end is ahead by the gap", at(3 * time.Second), at(0), at(time.Second), 2 * time.Second},
		{"a date a second and more before the start is behind", at(-3 * time.Second), at(0), at(time.Second), -2 * time.Second},
		{"a date whose second ends as the request begins may agree", at(-time.Second), at(0), at(time.Second), 0},
		{"three hours of skew show", at(3 * time.Hour), at(0), at(0), 3 * time.Hour},
	} {
		assert.Equal(t, c.want, serverAhead(c.date, c.started, c.finished), c.name)
	}
}
