// Package audit compares what should be in a stream with what is. It guarantees
// that each kind of damage is counted by itself: an event that is missing, one
// that is there twice, one that stands behind a later one of its operation, and
// one that no transition accounts for.
package audit

import "fmt"

// Operation is the identity of a push operation.
type Operation struct {
	CompanyID string
	Key       string
}

// Report is the outcome of a comparison. The zero counts of a sound system are
// Lost, Duplicated, OutOfOrder and Unknown.
type Report struct {
	Operations int // in the truth
	Changes    int // transitions stored
	Published  int // messages in the stream
	Lost       int // operations whose stored status is not the truth's, plus transitions without a message
	Duplicated int // messages beyond the first of an event
	OutOfOrder int // messages whose version is not the next one of its operation
	Unknown    int // messages that no transition accounts for
	Waiting    int // transitions that are still to be published: no damage
	Aside      int // transitions whose event was set aside: no damage either, somebody has to decide

	Examples Examples
}

// Examples are the first few event ids of each kind of damage; of a message that is no
// event, its name.
type Examples struct {
	Lost, Duplicated, OutOfOrder, Unknown []string
}

// examples is how many ids of a kind are kept.
const examples = 10

func note(ids *[]string, id string) {
	if len(*ids) < examples {
		*ids = append(*ids, id)
	}
}

// Sound reports whether nothing is lost, duplicated, out of order or unknown.
func (r Report) Sound() bool {
	return r.Lost == 0 && r.Duplicated == 0 && r.OutOfOrder == 0 && r.Unknown == 0
}

func (r Report) String() string {
	return fmt.Sprintf("operations %d, changes %d, published %d, lost %d, duplicated %d, out of order %d",
		r.Operations, r.Changes, r.Published, r.Lost, r.Duplicated, r.OutOfOrder)
}

// Audit gathers three views of one history and compares them. Feed it in any
// order, the stream's messages among themselves in stream order.
type Audit struct {
	truth       map[Operation]string
	stored      map[Operation]string
	transitions map[string]struct{} // event ids
	messages    map[string]int      // event id to how often it is in the stream
	versions    map[Operation]int64 // highest version seen in the stream
	aged        map[Operation]int64 // highest version that may have left the stream by its age
	optional    map[string]struct{} // event ids that need not be in the stream
	waiting     map[string]struct{} // of these, those that will be
	aside       map[string]struct{} // of these, those that somebody has to decide on
	forgotten   map[Operation]int64 // highest version whose transition is pruned
	known       map[string]struct{} // event ids in the stream of pruned transitions
	report      Report
}

// New returns an audit that knows of nothing yet.
func New() *Audit {
	return &Audit{
		truth: map[Operation]string{}, stored: map[Operation]string{}, transitions: map[string]struct{}{},
		messages: map[string]int{}, versions: map[Operation]int64{},
		aged: map[Operation]int64{}, optional: map[string]struct{}{},
		waiting: map[string]struct{}{}, aside: map[string]struct{}{},
		forgotten: map[Operation]int64{}, known: map[string]struct{}{},
	}
}

// Truth tells the status that an operation really has.
func (a *Audit) Truth(op Operation, status string) { a.truth[op] = status }

// Stored tells the status that the database has of an operation.
func (a *Audit) Stored(op Operation, status string) { a.stored[op] = status }

// Transition tells a change that the database has committed.
func (a *Audit) Transition(eventID string) { a.transitions[eventID] = struct{}{} }

// Aged tells a change whose message may have left the stream by its age. Tell it
// before the operation's messages.
func (a *Audit) Aged(op Operation, version int64, eventID string) {
	a.excuse(eventID)
	a.aged[op] = max(a.aged[op], version)
}

// Dropped tells a change of which somebody decided that it is never published:
// later ones of its operation go on behind the gap. Tell it before the operation's
// messages.
func (a *Audit) Dropped(op Operation, version int64, eventID string) { a.Aged(op, version, eventID) }

// Forgotten tells that an operation's changes up to version are pruned: their
// messages may be in the stream or not. Tell it before the operation's messages.
func (a *Audit) Forgotten(op Operation, version int64) {
	a.forgotten[op] = version
	a.aged[op] = max(a.aged[op], version)
}

// Waiting tells a change whose message may be not yet in the stream. Tell it after
// what is aged and dropped, which does not wait.
func (a *Audit) Waiting(eventID string) {
	if _, excused := a.optional[eventID]; !excused {
		a.waiting[eventID] = struct{}{}
	}
	a.excuse(eventID)
}

// SetAside tells a change whose event waits for somebody's decision.
func (a *Audit) SetAside(eventID string) {
	a.aside[eventID] = struct{}{}
	a.excuse(eventID)
}

// excuse tells a change whose message need not be in the stream.
func (a *Audit) excuse(eventID string) {
	a.Transition(eventID)
	a.optional[eventID] = struct{}{}
}

// Message tells the next message of the stream.
func (a *Audit) Message(op Operation, version int64, eventID string) {
	a.report.Published++
	a.messages[eventID]++
	if a.messages[eventID] > 1 {
		a.report.Duplicated++
		note(&a.report.Examples.Duplicated, eventID)
		return
	}
	if before := a.versions[op]; version != before+1 && (version <= before || version > a.aged[op]+1) {
		a.report.OutOfOrder++
		note(&a.report.Examples.OutOfOrder, eventID)
	}
	a.versions[op] = max(a.versions[op], version)
	if version <= a.forgotten[op] {
		a.known[eventID] = struct{}{}
	}
}

// Foreign tells the next message of the stream, which is no event, by a name of its own.
func (a *Audit) Foreign(name string) {
	a.report.Published++
	a.messages[name]++
}

// Report compares what was told.
func (a *Audit) Report() Report {
	r := a.report
	r.Operations, r.Changes = len(a.truth), len(a.transitions)
	r.Waiting, r.Aside = a.missing(a.waiting), a.missing(a.aside)
	for op, status := range a.truth {
		if a.stored[op] != status {
			r.Lost++
		}
	}
	for id := range a.transitions {
		if _, ok := a.optional[id]; !ok && a.messages[id] == 0 {
			r.Lost++
			note(&r.Examples.Lost, id)
		}
	}
	for id := range a.messages {
		_, stored := a.transitions[id]
		if _, forgotten := a.known[id]; !stored && !forgotten {
			r.Unknown++
			note(&r.Examples.Unknown, id)
		}
	}
	return r
}

// missing counts those of ids that are not in the stream.
func (a *Audit) missing(ids map[string]struct{}) (n int) {
	for id := range ids {
		if a.messages[id] == 0 {
			n++
		}
	}
	return n
}
