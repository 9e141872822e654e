package event

import (
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// Type is a CloudEvents type; a breaking change of the body is a new type,
// published beside the old one.
type Type string

// The types of event.
const (
	StatusChanged Type = "pushwatch.operation.status_changed.v1"
	Stalled       Type = "pushwatch.operation.stalled.v1"
	Gone          Type = "pushwatch.operation.gone.v1"
)

// Event is one change of one push operation: the body of its message. Every key
// is always present and null when unknown; the body is enough without headers.
// Version 1 of the schema only ever gains optional fields.
type Event struct {
	ID    string `json:"id"`
	Type  Type   `json:"type"`
	Event string `json:"event"` // last token of the subject; see [Name]

	Version          int64   `json:"version"` // counts the operation's events from 1, without gaps
	CompanyID        string  `json:"companyId"`
	ConnectionID     *string `json:"connectionId"`
	DataType         *string `json:"dataType"`
	PushOperationKey string  `json:"pushOperationKey"`

	PreviousStatus *push.Status `json:"previousStatus"` // null at first sight
	Status         push.Status  `json:"status"`         // raw
	Terminal       bool         `json:"terminal"`
	OutcomeCertain *bool        `json:"outcomeCertain"`

	StatusCode   *int             `json:"statusCode"`
	ErrorMessage *string          `json:"errorMessage"`
	Validation   *push.Validation `json:"validation"`
	Changes      []push.Change    `json:"changes"`

	RequestedOn      *Timestamp `json:"requestedOn"`
	CompletedOn      *Timestamp `json:"completedOn"`
	TimeoutInMinutes *int       `json:"timeoutInMinutes"`

	// ObservedAt is when the answer that showed the change was complete;
	// LastSeenPreviousAt the latest start of a look that still showed the
	// previous state. Together they bound when the change happened.
	ObservedAt         Timestamp   `json:"observedAt"`
	LastSeenPreviousAt *Timestamp  `json:"lastSeenPreviousAt"`
	Source             push.Source `json:"source"`
	Baseline           bool        `json:"baseline"`
	Replay             bool        `json:"replay"`

	// ReplayID names the request by which the event was published again; see
	// [Replayed]. It is absent from the body otherwise.
	ReplayID string `json:"replayId,omitempty"`

	// Omitted names the keys that [Encode] left out because the event would have
	// been larger than [MaxSize]. It is absent from the body otherwise.
	Omitted []string `json:"omitted,omitempty"`
}

// HeaderReplayed is the header, with the value 1, of a message that the stream had and
// lost: it is published again, with the same id and body.
const HeaderReplayed = "Pushwatch-Replayed"

// Message is an encoded event, ready to be stored in the outbox and published.
// It is rendered once, in the transaction that changed the row.
type Message struct {
	ID      string // of the event; becomes Nats-Msg-Id
	Subject string
	Filter  string            // matches every subject of the same operation, and nothing else
	Header  map[string]string // without the Nats-* headers, which belong to the act of publishing
	Data    []byte
}

// Pending is an event in the outbox, waiting to be published: the next one of
// its operation.
type Pending struct {
	Message
	CompanyID string
	Key       string
	Version   int64
	Bucket    int16
	CreatedAt time.Time
	Place     int64 // in the order of service

	PreviousID       string    // id of version-1, as this database would name it; empty for version 1
	PreviousSequence uint64    // stream sequence of version-1; 0 when there is none
	PreviousAt       time.Time // when version-1 was published; zero when there is none
	ReadAt           time.Time // when all this was read, by the same clock
}

// Sent is a pending event that is in the stream.
type Sent struct {
	Pending  *Pending
	Epoch    string // identity of the stream: its name and creation time
	Sequence uint64
	// At is when the stream stored it, or a moment shortly before: however late it
	// is recorded, its age counts from then.
	At time.Time
}

// Kept is a published event whose bytes are still kept, as the database believes
// it to be in the stream.
type Kept struct {
	Operation
	Version     int64
	ID          string
	Filter      string
	Sequence    uint64
	PublishedAt time.Time
}

// Operation names an operation and the outbox bucket that it belongs to.
type Operation struct {
	CompanyID string
	Key       string
	Bucket    int16
}

// Heir is an operation that has no version yet, with the filter of its subjects:
// an earlier database may have published events of it.
type Heir struct {
	Operation
	Filter string
}

// Lost is an operation of which the stream has lost every event above Above.
type Lost struct {
	Operation
	Above int64
}

// Foreign is a message of an operation that its database does not know: another one
// published it, or a commit that is lost.
type Foreign struct {
	Event    Event // as decoded from its body
	Sequence uint64
	StoredAt time.Time
}
