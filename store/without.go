package store

import (
	"strings"

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
