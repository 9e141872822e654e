package codat

import (
	"sync"
	"time"
)

// order judges whether the records of a walk come newest first. It counts usable
// times only, and is proved by at least one strict decrease: a list of equal
// times is in any order.
type order struct {
	oldest   time.Time // of the records seen so far
	previous time.Time // on this page
	proved   bool
	broken   bool
}

// newPage must be called before the first record of each page.
func (o *order) newPage() { o.previous = time.Time{} }

// see takes in the next record. Within a page, which is one look of the server,
// times must never increase. Across pages a record that the walk has seen before
// is no breach: rows that arrive between two pages shift older ones onto the next.
func (o *order) see(requestedOn time.Time, known bool) {
	if requestedOn.IsZero() {
		return
	}
	o.compare(o.previous, requestedOn)
	o.previous = requestedOn
	if known {
		return
	}
	o.compare(o.oldest, requestedOn)
	if o.oldest.IsZero() || requestedOn.Before(o.oldest) {
		o.oldest = requestedOn
	}
}

func (o *order) compare(before, after time.Time) {
	switch {
	case before.IsZero():
	case after.After(before):
		o.broken = true
	case after.Before(before):
		o.proved = true
	}
}

// holds reports whether newest first is proved of everything seen. A breach is
// for ever; a proof that is lacking may still come.
func (o *order) holds() bool { return o.proved && !o.broken }

// orderlessFor is how long a refused order is remembered.
const orderlessFor = time.Hour

// orderless remembers whose lists refuse to be ordered, so that not every walk
// burns a request on learning it again. The zero value is ready.
type orderless struct {
	mu    sync.Mutex
	until map[string]time.Time // by company; protected by mu
}

func (o *orderless) refused(companyID string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.until == nil {
		o.until = map[string]time.Time{}
	}
	for id, until := range o.until {
		if !now.Before(until) {
			delete(o.until, id) // so that the map never outgrows an hour's companies
		}
	}
	o.until[companyID] = now.Add(orderlessFor)
}

func (o *orderless) remembered(companyID string, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return now.Before(o.until[companyID])
}
