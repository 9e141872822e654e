package event

import (
	"strings"

	"github.com/pushwatch/pushwatch/push"
)

// DefaultPrefix is the subject prefix under which only the relay publishes.
const DefaultPrefix = "codat.push"

const upperHex = "0123456789ABCDEF"

// Escape returns token as one subject token: each byte outside A-Za-z0-9_-
// becomes =XX in upper-case hex. Distinct tokens stay distinct.
func Escape(token string) string {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if c := token[i]; plain(c) {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'=', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}

func plain(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// dataTypeToken returns the token of a data type: "_" stands for none, so that a
// data type which is literally "_" is written "=5F".
func dataTypeToken(dataType string) string {
	switch dataType {
	case "":
		return "_"
	case "_":
		return "=5F"
	}
	return Escape(dataType)
}

// Name returns the last token of the subject of a status change: the lower-cased
// status, escaped. A status that would read like one of the other events gets a
// trailing "=", which no escape produces.
func Name(status push.Status) string {
	name := Escape(strings.ToLower(string(status)))
	if name == "stalled" || name == "gone" {
		name += "="
	}
	return name
}

// Subjects returns the stem that all subjects of one operation share. The
// subject of an event and the filter of the operation both come from it, because
// the server does not check that they belong together.
func Subjects(prefix, companyID, dataType, key string) Stem {
	return Stem(prefix + "." + Escape(companyID) + "." + dataTypeToken(dataType) + "." + Escape(key))
}

// Stem is the common beginning of the subjects of one operation.
type Stem string

// Subject returns the subject of the event called name; see [Name].
func (s Stem) Subject(name string) string { return string(s) + "." + name }

// Filter returns the filter that matches every event of the operation and
// nothing else: the scope of the compare-and-set by which the relay publishes.
func (s Stem) Filter() string { return string(s) + ".*" }
