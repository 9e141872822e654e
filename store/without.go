package store

import (
	"context"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/internal/fault"
)

// without returns a statement as it is, or, in a test build that leaves a
// mechanism out, as it would be without it.
func without(mechanism, with, less, statement string) string {
	if !fault.Off(mechanism) {
		return statement
	}
	return strings.Replace(statement, with, less, 1)
}

// afterwards runs a statement of a transaction that is about to be committed in
// another one behind it, as a store without [fault.OneCommit] would.
func (s *Store) afterwards(statement string, arguments ...any) {
	time.Sleep(50 * time.Millisecond)
	_, _ = s.pool.Exec(context.Background(), statement, arguments...) // nobody hears of it: that is the point
}
