package event

import (
	"fmt"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

const timestampLayout = "2006-01-02T15:04:05.000000Z"

// Timestamp is a time as events spell it: UTC, always six digits of fraction.
type Timestamp time.Time

// At returns t as a Timestamp, or nil when t is zero: null in the body.
func At(t time.Time) *Timestamp {
	if t.IsZero() {
		return nil
	}
	at := Timestamp(push.Time(t))
	return &at
}

// Time returns the timestamp as a time in UTC.
func (t Timestamp) Time() time.Time { return time.Time(t).UTC() }

func (t Timestamp) String() string { return push.Time(time.Time(t)).Format(timestampLayout) }

// MarshalJSON writes the timestamp in its one form.
func (t Timestamp) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON reads any RFC 3339 time.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	var at time.Time
	if err := at.UnmarshalJSON(data); err != nil {
		return fmt.Errorf("timestamp: %w", err)
	}
	*t = Timestamp(push.Time(at))
	return nil
}
