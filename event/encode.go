package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/pushwatch/pushwatch/push"
)

// ID returns the id of an operation's event: the same in body, ce-id, Nats-Msg-Id
// and SQL, and the same however often the event is encoded. Instance is the
// eight hex digits that were made with the database.
func ID(instance, companyID, key string, version int64) string {
	digest := sha256.Sum256([]byte(companyID + "\x00" + key))
	return fmt.Sprintf("%s-%s-%d", instance, hex.EncodeToString(digest[:])[:32], version)
}

// New returns the event of a status change as far as the operation tells it.
// The caller adds what the look and the history tell: PreviousStatus,
// ObservedAt, LastSeenPreviousAt, Source and Baseline.
func New(instance string, op push.Operation, version int64) Event {
	return Event{
		ID:               ID(instance, op.CompanyID, op.Key, version),
		Type:             StatusChanged,
		Event:            Name(op.Status),
		Version:          version,
		CompanyID:        op.CompanyID,
		ConnectionID:     op.ConnectionID,
		DataType:         optional(op.DataType),
		PushOperationKey: op.Key,
		Status:           op.Status,
		Terminal:         op.Status.Terminal(),
		OutcomeCertain:   op.Status.OutcomeCertain(),
		StatusCode:       op.StatusCode,
		ErrorMessage:     op.ErrorMessage,
		Validation:       op.Validation,
		Changes:          op.Changes,
		RequestedOn:      At(op.RequestedOn),
		CompletedOn:      At(op.CompletedOn),
		TimeoutInMinutes: op.TimeoutInMinutes,
	}
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Encode renders the event as a CloudEvents 1.0 message in binary mode, below
// prefix. Equal events give equal bytes. The subject's data type token is
// subjectDataType: that of the operation's first recorded sight, which later
// sights do not move.
func Encode(prefix, subjectDataType string, e Event) (Message, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return Message{}, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	stem := Subjects(prefix, e.CompanyID, subjectDataType, e.PushOperationKey)
	header := map[string]string{
		"ce-specversion":     "1.0",
		"ce-id":              e.ID,
		"ce-source":          "codat/companies/" + e.CompanyID,
		"ce-type":            string(e.Type),
		"ce-subject":         e.PushOperationKey,
		"ce-time":            e.ObservedAt.String(),
		"ce-dataschema":      "urn:pushwatch:schema:" + string(e.Type),
		"ce-datacontenttype": "application/json",
		"content-type":       "application/json",
	}
	for name, value := range header {
		if strings.HasPrefix(name, "ce-") {
			header[name] = percentEncode(value)
		}
	}
	return Message{ID: e.ID, Subject: stem.Subject(e.Event), Filter: stem.Filter(), Header: header, Data: data}, nil
}

// percentEncode encodes a header value as the CloudEvents NATS protocol binding
// asks (by reference to section 3.1.3.2 of its HTTP binding): space, double
// quote, percent and everything outside printable ASCII, as UTF-8 bytes.
func percentEncode(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if c := value[i]; c > ' ' && c < utf8.RuneSelf-1 && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}
