package main

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/pushwatch/pushwatch/codat/codatsim"
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

const wireTime = "2006-01-02T15:04:05.0000000Z"

// spell returns an operation as Codat does.
func spell(op push.Operation) codatsim.WireOperation {
	w := codatsim.WireOperation{DataType: &op.DataType, CompanyID: op.CompanyID, PushOperationKey: op.Key, DataConnectionKey: op.ConnectionID,
		RequestedOnUTC: op.RequestedOn.Format(wireTime), Status: string(op.Status),
		StatusCode: *op.StatusCode, Changes: []codatsim.WireChange{}}
	if !op.CompletedOn.IsZero() {
		completed := op.CompletedOn.Format(wireTime)
		w.CompletedOnUTC = &completed
	}
	for _, c := range op.Changes {
		w.Changes = append(w.Changes, codatsim.WireChange{Type: *c.Type,
			RecordRef: codatsim.WireRecordRef{ID: *c.RecordRef.ID, DataType: *c.RecordRef.DataType}})
	}
	return w
}

// render returns the bodies of a list's pages.
func render(operations []push.Operation, size int) [][]byte {
	var bodies [][]byte
	for chunk := range slices.Chunk(operations, size) {
		rows := make([]codatsim.WireOperation, len(chunk))
		for i, op := range chunk {
			rows[i] = spell(op)
		}
		bodies = append(bodies, codatsim.RenderPage(companyID, rows, len(bodies)+1, size, len(operations)))
	}
	return bodies
}
