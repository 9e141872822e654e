package event

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

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
		ConnectionID:     optional(op.ConnectionID),
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

// MaxSize is the largest body of an event, in bytes: far enough below what NATS
// servers take for headers to fit beside it.
const MaxSize = 256 << 10

// Encode renders the event as a CloudEvents 1.0 message in binary mode, below
// prefix. Equal events give equal bytes. The subject's data type token is
// subjectDataType: that of the operation's first recorded sight, which later
// sights do not move. An event without company, key, status or name is an error:
// its subject would be illegal, and no server would ever take it.
func Encode(prefix, subjectDataType string, e Event) (Message, error) {
	if e.CompanyID == "" || e.PushOperationKey == "" || e.Status == "" || e.Event == "" {
		return Message{}, fmt.Errorf("encode event %s: company id, key, status and event name must not be empty", e.ID)
	}
	data, err := body(e)
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
		"ce-dataschema":      SchemaURN(e.Type),
		"ce-datacontenttype": "application/json",
		"content-type":       "application/json",
	}
	if e.ReplayID != "" {
		header["ce-replayid"] = e.ReplayID
	}
	for name, value := range header {
		if strings.HasPrefix(name, "ce-") {
			header[name] = percentEncode(value)
		}
	}
	return Message{ID: e.ID, Subject: stem.Subject(e.Event), Filter: stem.Filter(), Header: header, Data: data}, nil
}

// body renders the event's body. What makes it too large is left out and named:
// an event that no server takes would hold up its operation for ever, and the
// rest is in the database.
func body(e Event) ([]byte, error) {
	data, err := json.Marshal(e)
	if err != nil || len(data) <= MaxSize {
		return data, err
	}
	e.Validation, e.Changes, e.Omitted = nil, nil, []string{"validation", "changes"}
	if data, err = json.Marshal(e); err != nil || len(data) <= MaxSize {
		return data, err
	}
	e.ErrorMessage, e.Omitted = nil, append(e.Omitted, "errorMessage")
	if data, err = json.Marshal(e); err == nil && len(data) > MaxSize {
		err = fmt.Errorf("%d bytes without any text, at most %d", len(data), MaxSize)
	}
	return data, err
}

// percentEncode encodes a header value as the CloudEvents NATS protocol binding
// asks in 3.1.3.2 (the text of the HTTP binding's section of that number): space,
// double quote, percent and everything outside U+0021 to U+007E, each byte of its
// UTF-8 as % and two upper-case digits.
func percentEncode(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); i++ {
		if c := value[i]; '!' <= c && c <= '~' && c != '"' && c != '%' {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}
