package codat

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// Limits of what an operation may hold.
const (
	maxText   = 64 << 10 // bytes of any text
	maxID     = 256      // bytes of a key and of what becomes part of a subject
	maxStatus = 64       // bytes of a status
	maxList   = 200      // entries of a list of remarks or changes
	cutMark   = "…[cut]"
)

// What a flag says of the field it names.
const (
	unusable     = "unusable"     // present, but not what the field holds: left empty
	mendedText   = "mended"       // held NUL or no valid text: U+FFFD stands there
	cutText      = "cut"          // longer than maxText; of a list, followed by its true length
	tooLong      = "too_long"     // an id over maxID: left empty
	repeated     = "repeated"     // told more than once: the last one counts
	absent       = "absent"       // not told: what was asked for stands there
	entryDropped = "entry_unread" // an entry of a list was no object: left out
	fromSeconds  = "from_seconds" // timeoutInMinutes is timeoutInSeconds, rounded up
	tooEarly     = "before_requested"
	farFuture    = "far_future" // more than a year ahead of the look; stays while the record is the same
)

// flags collects what had to be mended while a record was read. Its methods each
// read one optional field from raw, valid JSON, of which nil and null say that it
// is absent, and never fail: what cannot be read is empty and flagged.
type flags []string

func (f *flags) add(field, what string) {
	if flag := field + ":" + what; !slices.Contains(*f, flag) {
		*f = append(*f, flag)
	}
}

func isNull(raw []byte) bool   { return raw == nil || string(raw) == "null" }
func isString(raw []byte) bool { return len(raw) > 1 && raw[0] == '"' }
func isObject(raw []byte) bool { return len(raw) > 1 && raw[0] == '{' }

// text reads text of any length, cut to maxText.
func (f *flags) text(field string, raw []byte) *string {
	if isNull(raw) {
		return nil
	}
	if !isString(raw) {
		f.add(field, unusable)
		return nil
	}
	read, mended := unquote(raw)
	if mended {
		f.add(field, mendedText)
	}
	if len(read) > maxText {
		f.add(field, cutText)
		read = cut(read, maxText) + cutMark
	}
	return &read
}

// id reads an identifier, which is whole or empty.
func (f *flags) id(field string, raw []byte) string {
	read := f.text(field, raw)
	if read == nil {
		return ""
	}
	if len(*read) > maxID {
		f.add(field, tooLong)
		return ""
	}
	return *read
}

// integer reads a number that is whole and fits 32 bits, also when it is spelled
// 100.0 or 1e2.
func (f *flags) integer(field string, raw []byte) *int {
	if isNull(raw) {
		return nil
	}
	n, ok := wholeNumber(raw)
	if !ok {
		f.add(field, unusable)
		return nil
	}
	return &n
}

func wholeNumber(raw []byte) (int, bool) {
	var number json.Number
	if len(raw) == 0 || raw[0] == '"' || json.Unmarshal(raw, &number) != nil {
		return 0, false
	}
	// A float64 holds every whole number of 32 bits exactly.
	n, err := strconv.ParseFloat(number.String(), 64)
	if err != nil || n != math.Trunc(n) || n < math.MinInt32 || n > math.MaxInt32 {
		return 0, false
	}
	return int(n), true
}

// minutes reads the timeout: the current field in minutes, or where that says
// nothing the deprecated one in seconds, rounded up, because a timeout that is
// shown too short would have an operation overdue that is not.
func (f *flags) minutes(inMinutes, inSeconds []byte) *int {
	if !isNull(inMinutes) {
		if n := f.integer("timeoutInMinutes", inMinutes); n != nil {
			if *n >= 0 {
				return n
			}
			f.add("timeoutInMinutes", unusable)
		}
	}
	n := f.integer("timeoutInSeconds", inSeconds)
	if n == nil {
		return nil
	}
	if *n < 0 {
		f.add("timeoutInSeconds", unusable)
		return nil
	}
	f.add("timeoutInMinutes", fromSeconds)
	rounded := *n / 60
	if *n%60 > 0 {
		rounded++
	}
	return &rounded
}

// time reads a date-time, or a number that parseTime knows.
func (f *flags) time(field string, raw []byte) time.Time {
	if isNull(raw) {
		return time.Time{}
	}
	spelled := string(raw)
	if isString(raw) {
		spelled, _ = unquote(raw)
	}
	at, ok := parseTime(spelled)
	if !ok {
		f.add(field, unusable)
	}
	return at
}

// list reads the entries of an array that are objects, at most maxList.
func list[T any](f *flags, field string, raw []byte, read func(raw []byte) T) []T {
	if isNull(raw) {
		return nil
	}
	entries, total := []T{}, 0
	ok := eachElement(raw, func(entry []byte, _ int) bool {
		switch total++; {
		case total > maxList:
		case !isObject(entry):
			f.add(field, entryDropped)
		default:
			entries = append(entries, read(entry))
		}
		return true
	})
	if !ok {
		f.add(field, unusable)
		return nil
	}
	if total > maxList {
		f.add(field, cutText+":"+strconv.Itoa(total))
	}
	return entries
}

// members returns the raw values of an object's members called names, in their
// order; nil where there is none, the last where there are several.
func members(raw []byte, names ...string) [][]byte {
	values := make([][]byte, len(names))
	eachMember(raw, func(name, value []byte, _ int) bool {
		plain := plainName(name)
		for i, wanted := range names {
			if string(plain) == wanted {
				values[i] = value
			}
		}
		return true
	})
	return values
}

// plainName returns what a member's raw name says; mostly it is the raw bytes
// between the quotes.
func plainName(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	return []byte(memberName(raw))
}

func memberName(raw []byte) string {
	name, _ := unquote(raw)
	return name
}

func (f *flags) validation(raw []byte) *push.Validation {
	if isNull(raw) {
		return nil
	}
	if !isObject(raw) {
		f.add("validation", unusable)
		return nil
	}
	lists := members(raw, "errors", "warnings")
	return &push.Validation{
		Errors:   f.remarks("validation.errors", lists[0]),
		Warnings: f.remarks("validation.warnings", lists[1]),
	}
}

func (f *flags) remarks(field string, raw []byte) []push.ValidationItem {
	return list(f, field, raw, func(entry []byte) push.ValidationItem {
		told := members(entry, "itemId", "message", "validatorName")
		return push.ValidationItem{
			ItemID:        f.text(field+".itemId", told[0]),
			Message:       f.text(field+".message", told[1]),
			ValidatorName: f.text(field+".validatorName", told[2]),
		}
	})
}

func (f *flags) changes(raw []byte) []push.Change {
	return list(f, "changes", raw, func(entry []byte) push.Change {
		told := members(entry, "type", "recordRef", "attachmentId")
		return push.Change{
			Type:         f.text("changes.type", told[0]),
			RecordRef:    f.recordRef(told[1]),
			AttachmentID: f.text("changes.attachmentId", told[2]),
		}
	})
}

func (f *flags) recordRef(raw []byte) *push.RecordRef {
	if isNull(raw) {
		return nil
	}
	if !isObject(raw) {
		f.add("changes.recordRef", unusable)
		return nil
	}
	told := members(raw, "id", "dataType")
	return &push.RecordRef{
		ID:       f.text("changes.recordRef.id", told[0]),
		DataType: f.text("changes.recordRef.dataType", told[1]),
	}
}
