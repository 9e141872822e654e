package publisher

import (
	"bytes"
	"fmt"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// verdict is what reading the stream back means for a pending event.
type verdict struct {
	action
	sequence uint64    // found: where the event is; retry, lost: the last sequence that is there, 0 for none
	at       time.Time // found: when the stream stored it
	above    int64     // lost: the last version that is there, 0 for none
	class    string    // reject, adopt: if it cannot be taken over
	detail   string    // reject, adopt, search
}

type action int

const (
	found   action = iota // the event is in the stream
	retry                 // it is not: publish it behind what is there
	expired               // as retry, and what stood before it left by its age
	lost                  // it is not, and events before it are missing that ought to be there
	search                // a later version is there: whether this one is too must be looked up
	adopt                 // other events of the operation stand there: take them over, and go on behind them
	reject                // it can never be published
)

// decide compares p with the last message of its operation's filter, nil for
// none, as the stream's leader showed it after the attempt to publish p. maxAge
// is the stream's, 0 for unlimited.
//
// It depends on its arguments alone, so all of I9 is one table in a test. What
// it decides is only ever a proposal: if another relay, or a delayed message of
// our own, changes the stream in between, the expected sequence of the retry
// does not match, and everything is read and decided again.
func decide(p event.Pending, last *StoredMessage, maxAge time.Duration) verdict {
	if last == nil {
		return behind(p, 0, 0, maxAge)
	}
	mine, _ := event.ParseID(p.ID)
	there, ok := event.ParseID(last.ID)
	switch {
	case !ok || there.Operation != mine.Operation:
		return verdict{action: reject, class: classForeignMessage,
			detail: fmt.Sprintf("sequence %d of the stream, subject %s, is not pushwatch's", last.Sequence, last.Subject)}
	case there.Instance != mine.Instance && last.Sequence == p.PreviousSequence:
		return verdict{action: retry, sequence: last.Sequence} // adopted before
	case there.Version < p.Version:
		return behind(p, last.Sequence, there.Version, maxAge)
	case there.Instance != mine.Instance:
		return inTheWay(last, "made by another database")
	case there.Version == p.Version:
		return same(p, last)
	}
	return verdict{action: search,
		detail: fmt.Sprintf("sequence %d of the stream is the later event %s", last.Sequence, last.ID)}
}

// same decides where a message has the id of p. The bytes of an event are committed
// with its id: other ones are from a commit that this database, an older copy, has
// lost.
func same(p event.Pending, there *StoredMessage) verdict {
	if bytes.Equal(there.Data, p.Data) || fault.Off(fault.Adoption) {
		return verdict{action: found, sequence: there.Sequence, at: there.Time}
	}
	return inTheWay(there, "of a commit that this database has lost")
}

// inTheWay decides where an event of another history has the place of a pending one.
func inTheWay(there *StoredMessage, whose string) verdict {
	v := verdict{action: adopt, sequence: there.Sequence, class: classForeignInstance,
		detail: fmt.Sprintf("sequence %d of the stream is event %s, %s", there.Sequence, there.ID, whose)}
	if fault.Off(fault.Adoption) {
		v.action = reject
	}
	return v
}

// behind decides where an older version, or none, is the last one there.
func behind(p event.Pending, sequence uint64, version int64, maxAge time.Duration) verdict {
	switch {
	case version == p.Version-1:
		return verdict{action: retry, sequence: sequence}
	case aged(p, maxAge):
		return verdict{action: expired, sequence: sequence}
	}
	return verdict{action: lost, sequence: sequence, above: version}
}

// aged reports whether the message before p has left, or is about to leave, a
// stream that keeps messages for maxAge. One that was never recorded as published
// counts as gone.
func aged(p event.Pending, maxAge time.Duration) bool {
	if p.PreviousAt.IsZero() {
		return true
	}
	return maxAge > 0 && p.ReadAt.Sub(p.PreviousAt) >= kept(maxAge)
}

// kept returns the age up to which published events must still be in a stream that
// keeps them for maxAge; 0 is any. The stream counts by its own clock, and from a
// little before what is recorded (see [event.Sent]), so the last tenth (an hour at
// most) counts as gone: publishing again what expires within the hour would help
// nobody, and would be a duplicate if it had left by its age.
func kept(maxAge time.Duration) time.Duration {
	return max(maxAge, 0) - min(max(maxAge, 0)/10, time.Hour)
}
