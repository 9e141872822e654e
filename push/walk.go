package push

import "time"

// Overlap is how far below the progress of a company a discover walk reads on,
// for operations that became visible late.
const Overlap = 5 * time.Minute

// WalkKind says what a list walk is for.
type WalkKind string

// The kinds of walk. A discover walk stops where everything is known; the two
// others read the whole history and resume where they were interrupted.
const (
	WalkDiscover WalkKind = "discover"
	WalkBaseline WalkKind = "baseline"
	WalkSweep    WalkKind = "sweep"
)

// ListWalk asks for the pages of one company, newest operations first.
type ListWalk struct {
	CompanyID string
	Purpose   Purpose
	FirstPage int // from 1
	PageSize  int // wanted, and what FirstPage counts in; the server may grant less
	GrowTo    int // the size to which smaller pages grow as the walk goes on; 0: none larger than PageSize
}

// Walk is one list walk of a company, as the store opened it.
type Walk struct {
	CompanyID string
	Kind      WalkKind
	StartedAt time.Time // start of the walk; a resumed one keeps its first start
	FirstPage int       // where to begin: 1, or one page of overlap before the interruption
	PageSize  int       // as last granted; 0 when none was
	// Floor is below which a page of known operations ends a discover walk.
	Floor time.Time
}

// MayEndAt reports whether page, if everything on it is known, ends the walk:
// only a discover walk, in verified order, below its floor.
func (w Walk) MayEndAt(page Page) bool {
	oldest := page.Oldest()
	return w.Kind == WalkDiscover && page.Ordered && !oldest.IsZero() && oldest.Before(w.Floor)
}

// Finish says whether recording a page ends its walk.
type Finish int

// A walk goes on, ends if every record of the page was known, or ends.
const (
	GoOn Finish = iota
	IfKnown
	Done
)

// Record is what the store is asked to keep of one look.
type Record struct {
	Company Company
	Page    Page  // its Rows are distinct
	Walk    *Walk // nil for a look that belongs to no walk
	Finish  Finish
}

// Recorded is what became of a look, after its commit.
type Recorded struct {
	Known    bool     // every record of the page was known before the walk began
	Finished bool     // the walk has ended and the company's progress stands
	Events   int      // events committed to the outbox
	First    int      // operations seen for the first time
	Changed  int      // transitions of known operations
	Disputed []string // keys whose dispute waits for a get_operation
	Edges    []Edge   // one for each event
	Flags    []string // of the operations that were written
}

// Edge is a change of an operation's status, as far as statistics want to know it.
type Edge struct {
	From, To    Status    // From is empty at the first sight
	Baseline    bool      // requested before the first look
	CompletedOn time.Time // zero while unfinished, or unusable
}

// Company is a company that this process may work on, and what is known of it.
type Company struct {
	ID    string
	Name  string
	Fence Fence

	FirstLookAt   time.Time // zero before the first look
	Answered      bool      // Codat has answered a list of it
	DiscoveredAt  time.Time // start of the last finished discover or baseline walk; zero if none
	SweepTickedAt time.Time // when a baseline or sweep was last begun or gone on with: it takes up the ticks until then
	Baselined     bool      // the baseline walk is finished
	SweepOpen     bool      // a sweep is unfinished
	AbsentUntil   time.Time // Codat said 404: not to be listed before; zero otherwise
}

// Fence proves the right to write under a lease: a write whose token is no
// longer the lease's is refused.
type Fence struct {
	Lease string
	Token int64
}

// Due is an unfinished or disputed operation that wants to be asked.
type Due struct {
	CompanyID   string
	Key         string
	RequestedOn time.Time // zero when unusable
	OnFirstPage bool      // lay on the first page of the company's last list
	Disputed    bool
}
