package poller

import (
	"fmt"
	"math"
	"time"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// Codat's limits (its guide to rate limits) and what pushwatch takes of them.
const (
	perMinute      = 960                     // of 1,000 a minute from one address
	burst          = 30                      // requests that may go at once after a quiet time
	slot           = time.Minute / perMinute // distance of requests in the long run
	perCompany     = 5                       // at once: half of Codat's ten, for a replica that died may have as many under way
	stopRemaining  = 0.03                    // of the limit: the rest belongs to whoever pushes
	walkShare      = 0.2                     // of the day's share: baselines and sweeps
	perClient      = 1000                    // requests a day for the client, and again for each company
	probePeriod    = 5 * time.Minute         // between requests while the key is refused
	longestPause   = 24 * time.Hour
	longestBackoff = 5 * time.Minute
)

// rules are the quota's rules: pure functions of the ledger and the present.
type rules struct {
	reserve   float64       // share of the day's quota left to other users of the key
	companies int           // configured
	jitter    time.Duration // behind the end of a pause at a reset, so that replicas do not all begin at once
}

// verdict is what the rules say to one request.
type verdict struct {
	granted bool
	wait    time.Duration // not granted: try again after it, because the minute's bucket is empty
	until   time.Time     // not granted and wait 0: when it may be granted again, as far as is known
	kind    push.Kind     // why
	reason  string
}

// limit returns the day's limit: as answered, or what Codat's formula gives.
func (r rules) limit(q push.Quota) int {
	if q.Limit != nil {
		return *q.Limit
	}
	return perClient * (1 + r.companies)
}

// share returns how many requests pushwatch may make on the day.
func (r rules) share(q push.Quota) int {
	return int(math.Floor((1-r.reserve)*float64(r.limit(q)) + 1e-6)) // 1 - 0.8 is a little less than 0.2
}

// Share returns the day's limit and how many of its requests pushwatch may make,
// by the rules of a [Ledger] with that reserve and number of companies.
func Share(q push.Quota, reserve float64, companies int) (limit, share int) {
	r := rules{reserve: reserve, companies: companies}
	return r.limit(q), r.share(q)
}

// admit charges one request to the ledger, or says why not.
func (r rules) admit(now time.Time, q *push.Quota, ask push.Ask) verdict {
	person := ask.Purpose == push.ForUser
	if now.Before(q.BlockedUntil) && !(person && refusesKey(q.BlockedBy)) {
		return verdict{until: q.BlockedUntil, kind: q.BlockedBy, reason: fmt.Sprintf("paused: %s", q.BlockedBy)}
	}
	reset := q.Day.Add(24 * time.Hour).Add(r.jitter)
	walks := ask.Purpose == push.ForBaseline || ask.Purpose == push.ForSweep
	if reason := r.spent(*q); reason != "" {
		return verdict{until: reset, kind: push.KindQuota, reason: reason}
	}
	if walks && q.UsedWalks >= int(walkShare*float64(r.share(*q))) {
		return verdict{until: reset, kind: push.KindQuota, reason: "baselines and sweeps have spent their fifth of the day's share"}
	}
	// A clock that was set back, or another server's after a failover, would leave the
	// schedule far ahead, and nothing to be sent before that; no grant leaves it further
	// ahead than a burst.
	if furthest := now.Add(burst * slot); q.NextSlot.After(furthest) {
		q.NextSlot = furthest
	}
	// The minute's bucket as a virtual schedule (GCRA): NextSlot is when a request
	// would be on time without any burst, and it may come burst-1 slots early.
	if early := q.NextSlot.Add(-(burst - 1) * slot).Sub(now); early > 0 {
		return verdict{wait: early}
	}
	if q.NextSlot.Before(now) {
		q.NextSlot = now
	}
	q.NextSlot = q.NextSlot.Add(slot)
	q.Used++
	if walks {
		q.UsedWalks++
	}
	switch {
	case person && refusesKey(q.BlockedBy): // may try another key; the answer tells
	case refusesKey(q.BlockedBy):
		// One request looks whether the key is taken again; the next one may go in
		// five minutes, unless this one's answer clears the way.
		q.BlockedUntil = now.Add(probePeriod)
	default:
		q.BlockedBy, q.BlockedUntil = "", time.Time{}
	}
	return verdict{granted: true}
}

// spent says why nothing may be sent on a day any more; empty: something may.
func (r rules) spent(q push.Quota) string {
	switch limit, share := r.limit(q), r.share(q); {
	case q.Used >= share:
		return fmt.Sprintf("the day's share of %d requests is spent", share)
	case q.Remaining != nil && float64(*q.Remaining) <= stopRemaining*float64(limit):
		return fmt.Sprintf("%d of %d requests of the day remain for all users of the key", *q.Remaining, limit)
	}
	return ""
}

// await pauses everything when a day that is the server's and not ours is spent,
// until it ends by the server's clock: no admit would look at its row, and with a
// server whose clock is hours off ours nothing would bind for hours.
func (r rules) await(now time.Time, q *push.Quota, date time.Time) {
	if r.spent(*q) == "" {
		return
	}
	hold(q, now.Add(q.Day.Add(24*time.Hour).Sub(date)).Add(r.jitter), push.KindQuota)
}

// hold lets nothing go before until. A pause that is longer stays as it is; one for a
// refused key, which an answer under way may lift, becomes one that none lifts.
func hold(q *push.Quota, until time.Time, kind push.Kind) {
	if !until.After(q.BlockedUntil) {
		if !refusesKey(q.BlockedBy) {
			return
		}
		until = q.BlockedUntil
	}
	q.BlockedUntil, q.BlockedBy = until, kind
}

func refusesKey(kind push.Kind) bool {
	return kind == push.KindUnauthorised || kind == push.KindPayment || kind == push.KindForbidden
}

// settle learns from an answer. Backoff is how long a 429 without a readable
// Retry-After pauses. A key that is refused at somebody's command line says nothing
// of the daemons' own.
func (r rules) settle(now time.Time, q *push.Quota, ask push.Ask, a push.Answer, backoff time.Duration) {
	if a.Limits.Limit != nil {
		if q.Limit != nil && *q.Limit != *a.Limits.Limit {
			q.Remaining = nil // another limit: what remained of the old one says nothing
		}
		limit := *a.Limits.Limit
		q.Limit = &limit
	}
	if a.Limits.Remaining != nil && (q.Remaining == nil || *a.Limits.Remaining < *q.Remaining) {
		remaining := *a.Limits.Remaining
		q.Remaining = &remaining
	}
	switch kind := statusKind(a.Status); {
	case kind == push.KindThrottled && fault.Off(fault.Pause):
	case kind == push.KindThrottled:
		wait := backoff
		if a.HasRetryAfter {
			wait = min(a.RetryAfter, longestPause)
		}
		reset := now.Truncate(24 * time.Hour).Add(24 * time.Hour)
		until := now.Add(wait)
		if until.After(reset) {
			until = reset.Add(r.jitter)
		}
		hold(q, until, push.KindThrottled)
	case kind != "" && ask.Purpose == push.ForUser:
	case kind != "" && now.Before(q.BlockedUntil) && !refusesKey(q.BlockedBy):
		// Was under way when the pause began, and does not end it: what is asked after it
		// tells whether the key is refused still, as it told the first time.
	case kind != "":
		q.BlockedUntil, q.BlockedBy = now.Add(probePeriod), kind
	case a.Status != 0 && a.Status < 500 && refusesKey(q.BlockedBy):
		q.BlockedUntil, q.BlockedBy = time.Time{}, ""
	}
}

// statusKind returns the kinds of failure that pause the whole client.
func statusKind(status int) push.Kind {
	switch status {
	case 401:
		return push.KindUnauthorised
	case 402:
		return push.KindPayment
	case 403:
		return push.KindForbidden
	case 429:
		return push.KindThrottled
	}
	return ""
}
