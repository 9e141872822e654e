package codatsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// WireOperation is a push operation as the API spells it. List and get answer
// with the same object. It, and what it holds, is there for whoever renders answers
// beforehand; see [RenderPage].
type WireOperation struct {
	Changes           []WireChange    `json:"changes"`
	DataType          *string         `json:"dataType"`
	CompanyID         string          `json:"companyId"`
	PushOperationKey  string          `json:"pushOperationKey"`
	DataConnectionKey string          `json:"dataConnectionKey"`
	RequestedOnUTC    string          `json:"requestedOnUtc"`
	CompletedOnUTC    *string         `json:"completedOnUtc"`
	TimeoutInMinutes  *int            `json:"timeoutInMinutes"`
	TimeoutInSeconds  *int            `json:"timeoutInSeconds"`
	Status            string          `json:"status"`
	ErrorMessage      *string         `json:"errorMessage"`
	Validation        *WireValidation `json:"validation"`
	StatusCode        int             `json:"statusCode"`
}

// WireChange is a record that a push made, changed or deleted.
type WireChange struct {
	Type         string        `json:"type"`
	RecordRef    WireRecordRef `json:"recordRef"`
	AttachmentID *string       `json:"attachmentId"`
}

// WireRecordRef names that record.
type WireRecordRef struct {
	ID       string `json:"id"`
	DataType string `json:"dataType"`
}

// WireValidation is what the accounting platform said.
type WireValidation struct {
	Errors   []WireValidationItem `json:"errors"`
	Warnings []WireValidationItem `json:"warnings"`
}

// WireValidationItem is one remark of it.
type WireValidationItem struct {
	ItemID        *string `json:"itemId"`
	Message       *string `json:"message"`
	ValidatorName *string `json:"validatorName"`
}

// wireError is the body of every answer that is not 200. CanBeRetried is a string
// in Codat's schema.
type wireError struct {
	StatusCode        int             `json:"statusCode"`
	Service           string          `json:"service"`
	Error             string          `json:"error"`
	CorrelationID     string          `json:"correlationId"`
	Validation        *WireValidation `json:"validation"`
	CanBeRetried      string          `json:"canBeRetried"`
	DetailedErrorCode int             `json:"detailedErrorCode"`
}

// dateForm is one of the ways in which Codat may spell a point in time. All of
// them tell the same instant.
type dateForm int

const (
	dateZ      dateForm = iota // with Z and as many digits as it takes
	dateOffset                 // with an offset other than zero
	dateNaive                  // without any zone
	dateSeven                  // with Z and always seven digits
	dateForms                  // how many there are
)

func (f dateForm) spell(t time.Time) string {
	switch f {
	case dateOffset:
		return t.In(time.FixedZone("", 2*60*60)).Format("2006-01-02T15:04:05.9999999-07:00")
	case dateNaive:
		return t.UTC().Format("2006-01-02T15:04:05.9999999")
	case dateSeven:
		return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
	}
	return t.UTC().Format("2006-01-02T15:04:05.9999999Z")
}

// render spells an operation of a company.
func (v view) render(companyID string, dates dateForm) WireOperation {
	w := WireOperation{
		DataType:          optional(v.dataType),
		CompanyID:         companyID,
		PushOperationKey:  v.key,
		DataConnectionKey: v.connection,
		RequestedOnUTC:    dates.spell(v.requested),
		Status:            v.now.Status,
		StatusCode:        statusCode(v.now.Status),
		ErrorMessage:      v.errorMessage(),
		Validation:        v.validation(),
		Changes:           v.changes(),
	}
	if finished(v.now.Status) {
		completed := dates.spell(v.now.At)
		w.CompletedOnUTC = &completed
	}
	if v.timeout > 0 {
		minutes, seconds := v.timeout, v.timeout*60
		w.TimeoutInMinutes, w.TimeoutInSeconds = &minutes, &seconds
	}
	return w
}

// statusCode is the write's own code, which is inside a 200 answer.
func statusCode(status string) int {
	switch status {
	case Success:
		return 200
	case Failed, Cancelled:
		return 400
	case TimedOut:
		return 408
	}
	return 202
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// encode returns v as JSON, with angle brackets and ampersands left as they are.
func encode(v any) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil { // only types of this package come here
		panic(fmt.Sprintf("codatsim: encode %T: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// wireLinks are the links of a page, relative to the base URL.
type wireLinks struct {
	Current  wireLink  `json:"current"`
	Self     wireLink  `json:"self"`
	Next     *wireLink `json:"next,omitempty"`
	Previous *wireLink `json:"previous,omitempty"`
}

type wireLink struct {
	Href string `json:"href"`
}

// RenderPage returns the body of a page of a company's list of total operations, as
// the simulator answers it when nothing is disturbed.
func RenderPage(companyID string, operations []WireOperation, number, size, total int) []byte {
	rows := make([][]byte, len(operations))
	for i, op := range operations {
		rows[i] = encode(op)
	}
	links := pageLinks(Request{CompanyID: companyID, Page: number}, size, number*size < total)
	return encodePage(rows, number, size, total, links)
}

// encodePage puts a page together from rows that are JSON already, and may be no
// operations at all.
func encodePage(rows [][]byte, number, size, total int, links wireLinks) []byte {
	var b bytes.Buffer
	b.WriteString(`{"results":[`)
	b.Write(bytes.Join(rows, []byte(",")))
	fmt.Fprintf(&b, `],"pageNumber":%d,"pageSize":%d,"totalResults":%d,"_links":%s}`, number, size, total, encode(links))
	return b.Bytes()
}
