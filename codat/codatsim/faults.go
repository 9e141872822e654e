package codatsim

import (
	"fmt"
	"math/rand/v2"
	"sync"
)

// Fault is one way in which an answer can be worse than documented.
type Fault string

// Faults that replace the whole answer of any request.
const (
	TooManySeconds  Fault = "429_seconds"   // Retry-After: Rule.Seconds
	TooManyDate     Fault = "429_date"      // Retry-After as an HTTP date
	TooManyBare     Fault = "429_bare"      // no Retry-After
	ServerError     Fault = "500"           // with an error body
	Unavailable     Fault = "503"           // likewise
	Unauthorized    Fault = "401"           // though the key is right
	PaymentRequired Fault = "402"           // account limit
	Forbidden       Fault = "403"           // not allowed
	NotFound        Fault = "404"           // this company or operation is gone
	NotReady        Fault = "409"           // not ready
	Redirect301     Fault = "301"           // Location: Rule.To plus the request's path
	Redirect302     Fault = "302"           // likewise
	Redirect307     Fault = "307"           // likewise
	HTMLPage        Fault = "html_page"     // 200 with a login page
	ArrayBody       Fault = "array_body"    // 200 with []
	NullBody        Fault = "null_body"     // 200 with null
	EmptyBody       Fault = "empty_body"    // 200 with nothing
	OrderRefused    Fault = "order_refused" // 400 to a list that asks for an order
	QueryRefused    Fault = "query_refused" // 400 to a list that has a query
)

// Faults in the delivery of an otherwise right answer to any request.
const (
	Reset         Fault = "reset"          // the connection is reset instead
	SlowBody      Fault = "slow_body"      // the body trickles for Rule.Seconds
	CutBody       Fault = "cut_body"       // half of what Content-Length promised
	TruncatedJSON Fault = "truncated_json" // half of the JSON, with the Content-Length of that half
)

// Faults of a page. Where one needs a row of a kind that the page lacks, it waits
// for a page that has it.
const (
	OrderIgnored  Fault = "order_ignored"  // oldest first, whatever was asked
	OrderShuffled Fault = "order_shuffled" // in no order, the same one on every page
	SmallPages    Fault = "small_pages"    // at most Rule.N rows a page
	EmptyPage     Fault = "empty_page"     // no rows, with a next link
	ForeignNext   Fault = "foreign_next"   // the next link leads to Rule.To
	LyingTotals   Fault = "lying_totals"   // totalResults has nothing to do with the truth
	RepeatRow     Fault = "repeat_row"     // the row before the page, or its last one, is there once more
	MissingRow    Fault = "missing_row"    // a row is left out
	TwoStatuses   Fault = "two_statuses"   // a key is there twice, with different statuses
	Shift         Fault = "shift"          // Rule.N operations arrive once the page is made
)

// Faults of how an operation looks, in lists and gets.
const (
	StaleRow   Fault = "stale_row"   // one operation reads as it was before its last step
	MixedDates Fault = "mixed_dates" // each row has another of the four date forms, another at each look
	HugeRow    Fault = "huge_row"    // one operation has an error message of Rule.N MiB
)

// Broken records: in a list each is one row more, at a random place between good
// rows; a get answers with the operation broken in that way.
const (
	NullItem        Fault = "null_item"
	StringItem      Fault = "string_item"
	MissingKey      Fault = "missing_key"
	NumberKey       Fault = "number_key"
	LongKey         Fault = "long_key" // 10 KB
	WrongCompany    Fault = "wrong_company"
	NullStatus      Fault = "null_status"
	NumberStatus    Fault = "number_status"
	DuplicateStatus Fault = "duplicate_status" // two fields, two values
)

// Odd but good records: a real operation of the page is spelled so. Nothing of it
// is lost but the date that cannot be read.
const (
	NULText             Fault = "nul_text"
	LoneSurrogate       Fault = "lone_surrogate"
	UnknownFields       Fault = "unknown_fields"
	UnreadableRequested Fault = "unreadable_requested"
	UnreadableCompleted Fault = "unreadable_completed"
)

type class int

const (
	whole class = iota
	refusal
	delivery
	ofPage
	ofLook
	broken
	odd
)

var catalogue = [...]struct {
	fault Fault
	class class
}{
	{TooManySeconds, whole}, {TooManyDate, whole}, {TooManyBare, whole}, {ServerError, whole}, {Unavailable, whole},
	{Unauthorized, whole}, {PaymentRequired, whole}, {Forbidden, whole}, {NotFound, whole}, {NotReady, whole},
	{Redirect301, whole}, {Redirect302, whole}, {Redirect307, whole},
	{HTMLPage, whole}, {ArrayBody, whole}, {NullBody, whole}, {EmptyBody, whole},
	{OrderRefused, refusal}, {QueryRefused, refusal},
	{Reset, delivery}, {SlowBody, delivery}, {CutBody, delivery}, {TruncatedJSON, delivery},
	{OrderIgnored, ofPage}, {OrderShuffled, ofPage}, {SmallPages, ofPage}, {EmptyPage, ofPage}, {ForeignNext, ofPage},
	{LyingTotals, ofPage}, {RepeatRow, ofPage}, {MissingRow, ofPage}, {TwoStatuses, ofPage}, {Shift, ofPage},
	{StaleRow, ofLook}, {MixedDates, ofLook}, {HugeRow, ofLook},
	{NullItem, broken}, {StringItem, broken}, {MissingKey, broken}, {NumberKey, broken}, {LongKey, broken},
	{WrongCompany, broken}, {NullStatus, broken}, {NumberStatus, broken}, {DuplicateStatus, broken},
	{NULText, odd}, {LoneSurrogate, odd}, {UnknownFields, odd}, {UnreadableRequested, odd}, {UnreadableCompleted, odd},
}

// AllFaults returns every fault that there is.
func AllFaults() []Fault {
	faults := make([]Fault, len(catalogue))
	for i, entry := range catalogue {
		faults[i] = entry.fault
	}
	return faults
}

func (f Fault) class() (class, bool) {
	for _, entry := range catalogue {
		if entry.fault == f {
			return entry.class, true
		}
	}
	return 0, false
}

// covers reports whether the fault can befall a request of this kind.
func (c class) covers(req Request) bool {
	switch c {
	case whole, delivery:
		return true
	case refusal, ofPage:
		return req.Kind == List
	}
	return req.Kind == List || req.Kind == Get
}

// Rule lets a fault strike the requests that match it. Empty fields match all.
type Rule struct {
	Fault     Fault  `json:"fault"`
	Request   Kind   `json:"request,omitempty"`
	CompanyID string `json:"companyId,omitempty"`
	Page      int    `json:"page,omitempty"` // of a list, from 1
	// Key is the operation that a get asks for; for StaleRow, TwoStatuses, MissingRow
	// and HugeRow in a list it is the row that is struck, else any one is.
	Key string `json:"key,omitempty"`

	Chance float64 `json:"chance,omitempty"` // that a matching request is struck; 0 means 1
	Times  int     `json:"times,omitempty"`  // strikes after which the rule ends; 0: it never does

	N       int     `json:"n,omitempty"`       // of SmallPages (0: 40), Shift (0: 1) and HugeRow (0: 17)
	Seconds float64 `json:"seconds,omitempty"` // of the 429s and SlowBody; 0: 2
	To      string  `json:"to,omitempty"`      // base URL of redirects and ForeignNext; empty: https://elsewhere.example.com
	Status  string  `json:"status,omitempty"`  // what StaleRow and TwoStatuses show; empty: the status before

	// Finished lets StaleRow strike operations alone that have ended: of others nobody
	// can tell an older status from one that they went back to.
	Finished bool `json:"finished,omitempty"`
}

// Once returns a rule that strikes the next request that the fault can befall.
func Once(fault Fault) Rule { return Rule{Fault: fault, Times: 1} }

// Always returns a rule that strikes every request that the fault can befall.
func Always(fault Fault) Rule { return Rule{Fault: fault} }

func (r Rule) validate() error {
	if _, ok := r.Fault.class(); !ok {
		return fmt.Errorf("fault %q does not exist", r.Fault)
	}
	if !(r.Chance >= 0 && r.Chance <= 1) || r.Times < 0 || r.N < 0 || !(r.Seconds >= 0) {
		return fmt.Errorf("fault %s: chance must be between 0 and 1, times, n and seconds not negative", r.Fault)
	}
	return nil
}

func (r Rule) matches(req Request) bool {
	return (r.Request == "" || r.Request == req.Kind) &&
		(r.CompanyID == "" || r.CompanyID == req.CompanyID) &&
		(r.Page == 0 || r.Page == req.Page) &&
		(r.Key == "" || req.Kind == List || r.Key == req.Key)
}

// armed is a rule in force.
type armed struct {
	Rule
	class class
	left  int // strikes; negative when without end
}

// faultBook holds the rules in force.
type faultBook struct {
	mu     sync.Mutex // guards all below, and left of every rule
	rules  []*armed
	struck map[Fault]int
}

// SetFaults replaces all rules; without any, answers are good again. Rules are
// tried in their order, and of those that replace or hurt a whole answer only the
// first strikes. An unknown fault is an error and changes nothing.
func (s *Sim) SetFaults(rules ...Rule) error {
	fresh, err := arm(rules)
	if err != nil {
		return err
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules = fresh
	return nil
}

// Script appends rules to those in force, so that several [Once] strike one
// request after the other.
func (s *Sim) Script(rules ...Rule) error {
	more, err := arm(rules)
	if err != nil {
		return err
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.rules = append(s.faults.rules, more...)
	return nil
}

// Faults returns the rules that can still strike, with the strikes that they have
// left in Times.
func (s *Sim) Faults() []Rule {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	rules := []Rule{}
	for _, r := range s.faults.rules {
		if r.left == 0 {
			continue
		}
		rule := r.Rule
		rule.Times = max(r.left, 0)
		rules = append(rules, rule)
	}
	return rules
}

func arm(rules []Rule) ([]*armed, error) {
	fresh := make([]*armed, 0, len(rules))
	for _, r := range rules {
		if err := r.validate(); err != nil {
			return nil, err
		}
		setDefault(&r.Chance, 1)
		setDefault(&r.Seconds, 2)
		setDefault(&r.To, "https://elsewhere.example.com")
		class, _ := r.Fault.class()
		left := r.Times
		if left == 0 {
			left = -1
		}
		fresh = append(fresh, &armed{Rule: r, class: class, left: left})
	}
	return fresh, nil
}

// blow is a fault about to hit one answer.
type blow struct {
	*armed
	landed bool
}

type blows []*blow

// draw takes the blows of one request from the book, in the order of the rules.
// Each is taken off its rule at once, so that no two requests share it.
func (b *faultBook) draw(req Request, d *rand.Rand) blows {
	b.mu.Lock()
	defer b.mu.Unlock()
	var taken blows
	hurt := false // the whole answer is spoken for
	for _, r := range b.rules {
		entire := r.class == whole || r.class == delivery
		if r.left == 0 || !r.class.covers(req) || !r.matches(req) || entire && hurt {
			continue
		}
		if r.Chance < 1 && d.Float64() >= r.Chance {
			continue
		}
		hurt = hurt || entire
		if r.left > 0 {
			r.left--
		}
		taken = append(taken, &blow{armed: r})
	}
	return taken
}

// settle gives back the blows that found nothing to hit, and counts the others.
func (b *faultBook) settle(taken blows) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, blow := range taken {
		switch {
		case blow.landed:
			if b.struck == nil {
				b.struck = map[Fault]int{}
			}
			b.struck[blow.Fault]++
		case blow.left >= 0:
			blow.left++
		}
	}
}

// land returns the rule of the given fault, if it struck; its blow has landed.
func (b blows) land(fault Fault) (Rule, bool) {
	for _, blow := range b {
		if blow.Fault == fault {
			blow.landed = true
			return blow.Rule, true
		}
	}
	return Rule{}, false
}

// of returns the blows of one class.
func (b blows) of(class class) blows {
	var found blows
	for _, blow := range b {
		if blow.class == class {
			found = append(found, blow)
		}
	}
	return found
}
