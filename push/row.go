package push

import "time"

// Row is one record of an answer. What decides is read at once: which operation it
// shows, in which status, and where it stands in a list. Everything else is read when
// [Row.Read] is called, because most rows of most pages are known.
type Row struct {
	Key         string
	Status      Status
	RequestedOn time.Time // zero when absent or unusable

	// Digest is of the record's bytes as they came, and of how they are read. Rows of
	// one key with the same digest tell the same; with another one they may, too.
	Digest [16]byte
	// Read returns the whole operation, the same each time. It may be called by
	// several goroutines at once. It holds the answer that it reads: a row that is kept
	// keeps all of its page's bytes.
	Read func() Operation
}

// RowOf returns the row of an operation that is at hand, for tests and measurements:
// its digest is of what it tells, for want of bytes.
func RowOf(op Operation) Row {
	return Row{Key: op.Key, Status: op.Status, RequestedOn: op.RequestedOn,
		Digest: [16]byte(op.Fingerprint()), Read: func() Operation { return op }}
}

// RowsOf is RowOf for several.
func RowsOf(operations ...Operation) []Row {
	rows := make([]Row, len(operations))
	for i, op := range operations {
		rows[i] = RowOf(op)
	}
	return rows
}

// Whole returns the operations of rows, each read whole, for tests.
func Whole(rows []Row) []Operation {
	operations := make([]Operation, len(rows))
	for i, row := range rows {
		operations[i] = row.Read()
	}
	return operations
}
