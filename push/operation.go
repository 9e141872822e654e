package push

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Operation is one push operation as one look at Codat showed it. Company and
// key together are its identity. Text in it is valid UTF-8 without NUL, and
// times are normalised by [Time]: whoever builds an Operation sees to that once,
// at the edge, so that equal operations compare equal for ever after.
type Operation struct {
	CompanyID    string
	Key          string
	ConnectionID string
	DataType     string // empty when Codat gives none; the set is open
	Status       Status
	StatusCode   *int // the write's own code; nil when absent or unreadable
	ErrorMessage *string
	Validation   *Validation
	Changes      []Change  // nil when Codat gives none
	RequestedOn  time.Time // zero when absent or unusable
	CompletedOn  time.Time // zero while Pending, when absent or unusable

	TimeoutInMinutes *int

	// Flags name what the decoder had to mend, such as
	// "requestedOnUtc:unusable" or "errorMessage:cut"; empty for a clean record.
	Flags []string
}

// Validation is what the accounting platform said of the pushed record.
type Validation struct {
	Errors   []ValidationItem `json:"errors"`
	Warnings []ValidationItem `json:"warnings"`
}

// ValidationItem is one remark; each field may be absent.
type ValidationItem struct {
	ItemID        *string `json:"itemId"`
	Message       *string `json:"message"`
	ValidatorName *string `json:"validatorName"`
}

// Change is one record that the push created, modified or deleted.
type Change struct {
	Type         *string    `json:"type"`
	RecordRef    *RecordRef `json:"recordRef"`
	AttachmentID *string    `json:"attachmentId"`
}

// RecordRef names a record in the accounting platform.
type RecordRef struct {
	ID       *string `json:"id"`
	DataType *string `json:"dataType"`
}

// Fingerprint is a digest, of 16 bytes, of everything that a look tells of an
// operation. Equal fingerprints mean that what is stored is up to date. Where a release
// takes it otherwise, nothing is written for that: rows with the same digest are known.
func (o Operation) Fingerprint() []byte {
	var room [2048]byte // so that most need no memory of their own
	d := digested(room[:0])
	d.text(o.CompanyID)
	d.text(o.Key)
	d.text(o.ConnectionID)
	d.text(o.DataType)
	d.text(string(o.Status))
	d.number(o.StatusCode)
	d.texts(o.ErrorMessage)
	d.number(o.TimeoutInMinutes)
	d.time(o.RequestedOn)
	d.time(o.CompletedOn)
	if d.there(o.Validation != nil) {
		d.items(o.Validation.Errors)
		d.items(o.Validation.Warnings)
	}
	d.length(len(o.Changes), o.Changes == nil)
	for _, c := range o.Changes {
		d.texts(c.Type, c.AttachmentID)
		if d.there(c.RecordRef != nil) {
			d.texts(c.RecordRef.ID, c.RecordRef.DataType)
		}
	}
	d.length(len(o.Flags), false)
	for _, flag := range o.Flags {
		d.text(flag)
	}
	sum := sha256.Sum256(d)
	return sum[:16]
}

// digested is what a fingerprint is taken of: one value after the other, each with
// its length or a mark that it is not there, so that no two operations share it.
type digested []byte

func (d *digested) there(is bool) bool {
	mark := byte(0)
	if is {
		mark = 1
	}
	*d = append(*d, mark)
	return is
}

func (d *digested) length(n int, absent bool) {
	if d.there(!absent) {
		*d = binary.AppendUvarint(*d, uint64(n))
	}
}

func (d *digested) text(s string) {
	*d = binary.AppendUvarint(*d, uint64(len(s)))
	*d = append(*d, s...)
}

func (d *digested) texts(all ...*string) {
	for _, s := range all {
		if d.there(s != nil) {
			d.text(*s)
		}
	}
}

func (d *digested) number(n *int) {
	if d.there(n != nil) {
		*d = binary.AppendVarint(*d, int64(*n))
	}
}

func (d *digested) time(t time.Time) {
	if d.there(!t.IsZero()) {
		*d = binary.AppendVarint(*d, t.UnixMicro())
	}
}

func (d *digested) items(items []ValidationItem) {
	d.length(len(items), items == nil)
	for _, item := range items {
		d.texts(item.ItemID, item.Message, item.ValidatorName)
	}
}

// Time is the one normal form of a point in time: UTC, truncated to
// microseconds. PostgreSQL keeps six digits and rounds where Go truncates, so
// a time must pass here once before it is compared or stored, or every poll
// would see a change. A time outside the years 1 to 9999 in UTC, which JSON
// cannot spell, becomes the zero time: it is as unusable as none.
func Time(t time.Time) time.Time {
	t = t.UTC()
	if year := t.Year(); year < 1 || year > 9999 {
		return time.Time{}
	}
	return t.Truncate(time.Microsecond)
}
