package push

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
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

// Fingerprint is a digest of everything that a look tells of an operation
// beside its identity. Equal fingerprints mean that a stored row is up to date.
func (o Operation) Fingerprint() []byte {
	type content Operation // drops methods; field order is the encoding
	encoded, err := json.Marshal(content(o))
	if err != nil { // strings, numbers and times inside year 9999: cannot fail
		panic(fmt.Sprintf("push: encode operation %s: %v", o.Key, err))
	}
	sum := sha256.Sum256(encoded)
	return sum[:16]
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
