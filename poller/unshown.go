package poller

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// unshown remembers the operations that their last get did not show, so that one
// which never will be neither hurts its neighbours nor costs a request a tick. It
// is ready when zero. A crash forgets it all: each is asked once more.
type unshown struct {
	mu    sync.Mutex
	asked map[operation]vainGet
}

type operation struct{ companyID, key string }

// vainGet is a get that did not show its operation.
type vainGet struct {
	at  time.Time
	why blamed
}

// blamed tells what a failure concerns.
type blamed int

const (
	nobody    blamed = iota
	item             // one operation alone
	server           // one operation or all of them: the next one will show
	everybody        // the key, the quota, the database: the next one fails too
)

// errSetAside says that a get has shown what is no operation.
var errSetAside = errors.New("the record was set aside")

func blame(err error) blamed {
	var ask *push.AskError
	var panicked *panicError
	switch {
	case err == nil:
		return nobody
	case errors.Is(err, errSetAside):
		return item
	case errors.As(err, &panicked):
		return server
	case !errors.As(err, &ask), ask.Kind.Blocking():
		return everybody
	}
	switch ask.Kind {
	case push.KindNotFound, push.KindRefused, push.KindMalformed, push.KindTooLarge:
		return item
	}
	return server
}

// absent reports whether Codat does not know what it was asked for.
func absent(err error) bool {
	var ask *push.AskError
	return errors.As(err, &ask) && ask.Kind == push.KindNotFound
}

// note remembers how the get of an operation went.
func (u *unshown) note(companyID, key string, at time.Time, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	id := operation{companyID, key}
	switch why := blame(err); why {
	case nobody:
		delete(u.asked, id)
	case item, server:
		if u.asked == nil {
			u.asked = map[operation]vainGet{}
		}
		u.asked[id] = vainGet{at, why}
	}
}

// sort puts the operations last whose last get has failed, and leaves those out
// that only they themselves can be blamed for and that would not be due if that
// get had shown them. Disputed ones are always asked. What is not due any more, of
// the companies that were looked at, is forgotten.
func (u *unshown) sort(due []push.Due, companies []push.Company, now time.Time, period time.Duration) []push.Due {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.asked) == 0 {
		return due
	}
	still := make(map[operation]vainGet, len(u.asked))
	var first, last []push.Due
	for _, d := range due {
		id := operation{d.CompanyID, d.Key}
		vain, ok := u.asked[id]
		if !ok {
			first = append(first, d)
			continue
		}
		still[id] = vain
		if vain.why == server || d.Disputed || now.Sub(vain.at) >= pause(d, now, period) {
			last = append(last, d)
		}
	}
	for id, vain := range u.asked {
		if !slices.ContainsFunc(companies, func(c push.Company) bool { return c.ID == id.companyID }) {
			still[id] = vain
		}
	}
	u.asked = still
	return append(first, last...)
}

// pause is how long an operation is not due after it was seen: the rule of the
// store, where an unknown age is a great one.
func pause(d push.Due, now time.Time, period time.Duration) time.Duration {
	if d.RequestedOn.IsZero() {
		return time.Hour
	}
	return min(time.Hour, max(period, now.Sub(d.RequestedOn)/10))
}
