package codat

import "bytes"

// maxDepth is how deep JSON may nest: objects and arrays inside one another, the
// record or the page itself being the first.
const maxDepth = 64

// eachMember calls visit for every member of the object that data is, in order
// and with repeated names. Name and value are raw: they only end where a string
// and brackets do, so that visit must check them with json.Valid unless data is
// known to be valid. Nothing recurses, so that a value of any depth can be passed
// over. It reports whether data is one object and nothing else; visit returning
// false ends it early.
func eachMember(data []byte, visit func(name, value []byte, depth int) bool) bool {
	return eachOf(data, '{', '}', func(at int) (end int, more, ok bool) {
		name, start, ok := nameAt(data, at)
		if !ok {
			return 0, false, false
		}
		end, depth, ok := endOfValue(data, start)
		if !ok {
			return 0, false, false
		}
		return end, visit(name, data[start:end], depth), true
	})
}

// nameAt returns the raw name of the member that begins at an index, and the
// index at which its value begins.
func nameAt(data []byte, at int) (name []byte, value int, ok bool) {
	if data[at] != '"' {
		return nil, 0, false
	}
	end, ok := endOfString(data, at)
	if !ok {
		return nil, 0, false
	}
	colon := skipSpace(data, end)
	if colon == len(data) || data[colon] != ':' {
		return nil, 0, false
	}
	return data[at:end], skipSpace(data, colon+1), true
}

// eachElement is eachMember for the elements of an array.
func eachElement(data []byte, visit func(value []byte, depth int) bool) bool {
	return eachOf(data, '[', ']', func(at int) (end int, more, ok bool) {
		end, depth, ok := endOfValue(data, at)
		if !ok {
			return 0, false, false
		}
		return end, visit(data[at:end], depth), true
	})
}

// eachOf reads a comma-separated list between two brackets, which all of data is, as
// listAt does.
func eachOf(data []byte, open, closing byte, read func(at int) (end int, more, ok bool)) bool {
	end, more, ok := listAt(data, skipSpace(data, 0), open, closing, read)
	return ok && (!more || skipSpace(data, end) == len(data))
}

// listAt reads the comma-separated list between two brackets that begins at an index,
// and returns the index after it; read reads the entry that begins at an index inside
// data. More is false where read ended it early.
func listAt(data []byte, at int, open, closing byte, read func(at int) (end int, more, ok bool)) (end int, more, ok bool) {
	if at == len(data) || data[at] != open {
		return 0, false, false
	}
	at = skipSpace(data, at+1)
	if at < len(data) && data[at] == closing {
		return at + 1, true, true
	}
	for at < len(data) {
		end, more, ok := read(at)
		if !ok || !more {
			return 0, false, ok
		}
		at = skipSpace(data, end)
		switch {
		case at == len(data):
			return 0, false, false
		case data[at] == closing:
			return at + 1, true, true
		case data[at] != ',':
			return 0, false, false
		}
		at = skipSpace(data, at+1)
	}
	return 0, false, false
}

// endOfValue returns the index after the value that begins at an index, and how
// deep it nests: 0 for a scalar.
func endOfValue(data []byte, at int) (end, depth int, ok bool) {
	if at >= len(data) {
		return 0, 0, false
	}
	switch data[at] {
	case '"':
		end, ok = endOfString(data, at)
		return end, 0, ok
	case '{', '[':
		return endOfNested(data, at)
	}
	end = at
	for end < len(data) && !endsScalar(data[end]) {
		end++
	}
	return end, 0, end > at
}

func endsScalar(c byte) bool {
	switch c {
	case ',', ']', '}', ':', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

func endOfNested(data []byte, at int) (end, depth int, ok bool) {
	var shallow [maxDepth]byte
	closers := shallow[:0]
	for i := at; i < len(data); i++ {
		switch c := data[i]; c {
		case '"':
			after, ok := endOfString(data, i)
			if !ok {
				return 0, 0, false
			}
			i = after - 1
		case '{', '[':
			closers = append(closers, c+2) // both closing brackets come two after their opening ones
			depth = max(depth, len(closers))
		case '}', ']':
			if closers[len(closers)-1] != c {
				return 0, 0, false
			}
			closers = closers[:len(closers)-1]
			if len(closers) == 0 {
				return i + 1, depth, true
			}
		}
	}
	return 0, 0, false
}

func endOfString(data []byte, at int) (end int, ok bool) {
	quote := at // the next one; looked for again only when it was escaped, so that no text takes long
	for at++; ; {
		if quote < at {
			next := bytes.IndexByte(data[at:], '"')
			if next < 0 {
				return 0, false
			}
			quote = at + next
		}
		escape := bytes.IndexByte(data[at:quote], '\\')
		if escape < 0 {
			return quote + 1, true
		}
		at += escape + 2
	}
}

func skipSpace(data []byte, at int) int {
	for at < len(data) && (data[at] == ' ' || data[at] == '\t' || data[at] == '\r' || data[at] == '\n') {
		at++
	}
	return at
}
