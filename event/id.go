package event

import (
	"strconv"
	"strings"
)

// Identity is what the id of an event says: which database made it, for which
// operation, and the operation's how many-th event it is.
type Identity struct {
	Instance  string // eight hex digits, made with the database
	Operation string // 32 hex digits, a digest of company id and key
	Version   int64  // from 1
}

// ParseID takes apart an id that [ID] made. It reports false for everything
// else, also for spellings of the same numbers that ID never uses.
func ParseID(id string) (Identity, bool) {
	parts := strings.Split(id, "-")
	if len(parts) != 3 || !lowerHex(parts[0], 8) || !lowerHex(parts[1], 32) {
		return Identity{}, false
	}
	version, err := strconv.ParseInt(parts[2], 10, 64)
	if err != nil || version < 1 || strconv.FormatInt(version, 10) != parts[2] {
		return Identity{}, false
	}
	return Identity{Instance: parts[0], Operation: parts[1], Version: version}, true
}

func lowerHex(s string, length int) bool {
	return len(s) == length && strings.Trim(s, "0123456789abcdef") == ""
}
