package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

const (
	connectionID = "2e2eb431-c1fa-4dc9-93fa-d29781c12bcd"
	operationGap = time.Second // between the requests of two operations
	changedShare = 10          // one operation of so many is unfinished, and changes
)

// history is a company's operations, newest first, as one look shows them.
type history struct {
	salt   string // keys of another salt are other keys
	size   int
	newest time.Time
}

// key returns the key of the operation i: a UUID, in no order.
func (h history) key(i int) string {
	digest := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(h.salt), uint64(i)))
	return fmt.Sprintf("%x-%x-%x-%x-%x", digest[0:4], digest[4:6], digest[6:8], digest[8:10], digest[10:16])
}

// changes tells which operations are unfinished at first.
func (h history) changes(i int) bool { return i%changedShare == 0 }

// changed returns how many operations change.
func (h history) changed() int { return (h.size + changedShare - 1) / changedShare }

// pending tells the status of the operation i before or after the changes.
func (h history) pending(i int, after bool) bool { return !after && h.changes(i) }

// operation returns an operation as pushwatch reads it: an ordinary invoice, of the
// size that the simulated Codat's have on average.
func (h history) operation(i int, pending bool) push.Operation {
	requested := push.Time(h.newest.Add(-time.Duration(i) * operationGap))
	op := push.Operation{CompanyID: companyID, Key: h.key(i), ConnectionID: connectionID, DataType: "invoices",
		Status: push.Pending, RequestedOn: requested}
	code := 202
	if !pending {
		code = 200
		created, kind := "Created", "invoices"
		id := history{salt: h.salt + "/record"}.key(i)
		op.Status, op.CompletedOn = push.Success, requested.Add(operationGap)
		op.Changes = []push.Change{{Type: &created, RecordRef: &push.RecordRef{ID: &id, DataType: &kind}}}
	}
	op.StatusCode = &code
	return op
}

// operations returns all operations, newest first.
func (h history) operations(after bool) []push.Operation {
	all := make([]push.Operation, h.size)
	for i := range all {
		all[i] = h.operation(i, h.pending(i, after))
	}
	return all
}

// wire is an operation as Codat spells it.
type wire struct {
	Changes           []wireChange     `json:"changes"`
	DataType          string           `json:"dataType"`
	CompanyID         string           `json:"companyId"`
	PushOperationKey  string           `json:"pushOperationKey"`
	DataConnectionKey string           `json:"dataConnectionKey"`
	RequestedOnUTC    string           `json:"requestedOnUtc"`
	CompletedOnUTC    *string          `json:"completedOnUtc"`
	TimeoutInMinutes  *int             `json:"timeoutInMinutes"`
	TimeoutInSeconds  *int             `json:"timeoutInSeconds"`
	Status            string           `json:"status"`
	ErrorMessage      *string          `json:"errorMessage"`
	Validation        *push.Validation `json:"validation"`
	StatusCode        int              `json:"statusCode"`
}

type wireChange struct {
	Type         string        `json:"type"`
	RecordRef    wireRecordRef `json:"recordRef"`
	AttachmentID *string       `json:"attachmentId"`
}

type wireRecordRef struct {
	ID       string `json:"id"`
	DataType string `json:"dataType"`
}

const wireTime = "2006-01-02T15:04:05.0000000Z"

// spell returns an operation as Codat does.
func spell(op push.Operation) wire {
	w := wire{DataType: op.DataType, CompanyID: op.CompanyID, PushOperationKey: op.Key, DataConnectionKey: op.ConnectionID,
		RequestedOnUTC: op.RequestedOn.Format(wireTime), Status: string(op.Status),
		StatusCode: *op.StatusCode, Changes: []wireChange{}}
	if !op.CompletedOn.IsZero() {
		completed := op.CompletedOn.Format(wireTime)
		w.CompletedOnUTC = &completed
	}
	for _, c := range op.Changes {
		w.Changes = append(w.Changes, wireChange{Type: *c.Type, RecordRef: wireRecordRef{*c.RecordRef.ID, *c.RecordRef.DataType}})
	}
	return w
}

// wirePage is a page of the list as Codat spells it.
type wirePage struct {
	Results      []wire    `json:"results"`
	PageNumber   int       `json:"pageNumber"`
	PageSize     int       `json:"pageSize"`
	TotalResults int       `json:"totalResults"`
	Links        wireLinks `json:"_links"`
}

type wireLinks struct {
	Current wireLink  `json:"current"`
	Self    wireLink  `json:"self"`
	Next    *wireLink `json:"next,omitempty"`
}

type wireLink struct {
	Href string `json:"href"`
}

// render returns the bodies of a list's pages.
func render(operations []push.Operation, size int) [][]byte {
	var bodies [][]byte
	total := len(operations)
	for chunk := range slices.Chunk(operations, size) {
		number := len(bodies) + 1
		link := func(n int) wireLink {
			return wireLink{fmt.Sprintf("/companies/%s/push?page=%d&pageSize=%d", companyID, n, size)}
		}
		page := wirePage{PageNumber: number, PageSize: size, TotalResults: total,
			Links: wireLinks{Current: link(number), Self: wireLink{"/companies/" + companyID + "/push"}}}
		if number*size < total {
			next := link(number + 1)
			page.Links.Next = &next
		}
		for _, op := range chunk {
			page.Results = append(page.Results, spell(op))
		}
		body, err := json.Marshal(page)
		if err != nil {
			panic(err) // strings and numbers
		}
		bodies = append(bodies, body)
	}
	return bodies
}
