package push

import "time"

// Source says which request showed an operation.
type Source string

// The two ways to look at an operation.
const (
	FromList Source = "list"
	FromGet  Source = "get"
)

// SecondReading is how long after a dispute arose a list page must have begun
// to count as its second reading. A get counts at once, because it is asked for
// that one operation.
const SecondReading = 60 * time.Second

// Known is what the store holds of an operation: the previous state of the rule.
type Known struct {
	Status   Status
	LookedAt time.Time // start of the look that last wrote the row

	DisputedStatus Status    // what a terminal status was read as instead; empty when undisputed
	DisputedAt     time.Time // start of the look that raised the dispute
	UndecidedAt    time.Time // start of the newest look after that which could not decide it
}

// Sight is what one look showed.
type Sight struct {
	Status   Status
	LookedAt time.Time // start of the look's request
	Source   Source
}

// Verdict is what a sight means for an operation.
type Verdict int

// Every sight has exactly one of these verdicts.
const (
	// Stale: the look began before the one that wrote the row, or before one that an
	// open dispute has seen since. Nothing changes.
	Stale Verdict = iota
	// Same: the status is the stored one. Other columns may be refreshed.
	Same
	// First: the operation was unknown.
	First
	// Changed: a transition. An open dispute ends with it.
	Changed
	// Disputed: a terminal status reads differently for the first time, or a
	// disputed one in yet another way. Only the dispute is noted.
	Disputed
	// Undecided: a dispute is open and this look may not decide it. If it began after
	// the dispute arose, its start is noted and nothing else: decided by an older look,
	// the dispute would be over, and this one, recorded again, be taken for news.
	Undecided
	// Cleared: the second reading shows the stored status again. The dispute ends.
	Cleared
)

var verdictNames = [...]string{"stale", "same", "first", "changed", "disputed", "undecided", "cleared"}

func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdictNames) {
		return "invalid"
	}
	return verdictNames[v]
}

// Transition reports whether the verdict is a change of status: the operation
// gets its next version, a transition row and an event.
func (v Verdict) Transition() bool { return v == First || v == Changed }

// Observe is the rule of this system: it tells what a sight means for an
// operation of which previous is known, or nil when nothing is. It is pure, and
// must be called with the state of a locked row: comparing with an unlocked read
// would let two pollers announce one change twice.
func Observe(previous *Known, seen Sight) Verdict {
	switch {
	case previous == nil:
		return First
	case seen.LookedAt.Before(previous.LookedAt), seen.LookedAt.Before(previous.UndecidedAt):
		return Stale
	case previous.DisputedStatus != "":
		return settle(*previous, seen)
	case seen.Status == previous.Status:
		return Same
	case previous.Status.Terminal():
		return Disputed
	default:
		return Changed
	}
}

// settle judges a sight of an operation under dispute.
func settle(previous Known, seen Sight) Verdict {
	second := seen.LookedAt.After(previous.DisputedAt)
	if seen.Source != FromGet {
		second = !seen.LookedAt.Before(previous.DisputedAt.Add(SecondReading))
	}
	switch {
	case !second:
		return Undecided
	case seen.Status == previous.Status:
		return Cleared
	case seen.Status == previous.DisputedStatus:
		return Changed
	default:
		// A third value: the dispute starts anew over it.
		return Disputed
	}
}
