package push

import "strings"

// Status is the status of a push operation as Codat spells it, trimmed of
// surrounding white space and otherwise untouched. The set is open: a status
// this program has never heard of is kept, published and followed, never mapped
// to one that it resembles.
type Status string

// The statuses that Codat documents.
const (
	Pending  Status = "Pending"
	Success  Status = "Success"
	Failed   Status = "Failed"
	TimedOut Status = "TimedOut"
)

// ParseStatus returns the status that raw spells, trimmed. The empty status
// means that raw held none; callers quarantine such a record.
func ParseStatus(raw string) Status { return Status(strings.TrimSpace(raw)) }

// Documented returns the documented status that s is a spelling of, ignoring
// the case of ASCII letters, and whether there is one. It serves classification
// only: two spellings of one status are still two different raw statuses.
func (s Status) Documented() (Status, bool) {
	for _, known := range []Status{Pending, Success, Failed, TimedOut} {
		// EqualFold alone also takes "ſuccess", whose first letter folds to s. Such
		// letters are longer than those they fold to, so the length tells.
		if len(s) == len(known) && strings.EqualFold(string(s), string(known)) {
			return known, true
		}
	}
	return "", false
}

// Terminal reports whether Codat is done with the operation: Success, Failed or
// TimedOut. An unknown status is not terminal, so that it is followed on.
func (s Status) Terminal() bool {
	known, ok := s.Documented()
	return ok && known != Pending
}

// OutcomeCertain tells whether s settles if the write happened: true for
// Success and Failed, nil while Pending, false for TimedOut (the write may have
// happened, or happen later) and for unknown statuses.
func (s Status) OutcomeCertain() *bool {
	known, ok := s.Documented()
	if ok && known == Pending {
		return nil
	}
	certain := ok && known != TimedOut
	return &certain
}
