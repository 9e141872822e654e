package codat

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// The classes of quarantined records: the closed set of reasons for which a
// record is set aside. A record in which several are true has the first one.
const (
	NotAnObject     = "not_an_object"     // null, a text, a number, a list
	TooDeep         = "too_deep"          // nests deeper than 64
	TooLarge        = "too_large"         // half as large as a page may be, or larger
	DuplicateField  = "duplicate_field"   // key, company or status told twice, differently
	KeyMissing      = "key_missing"       // pushOperationKey absent, null or empty
	KeyWrongType    = "key_wrong_type"    // no text
	KeyTooLong      = "key_too_long"      // over 256 bytes
	KeyNotText      = "key_not_text"      // holds NUL or is not valid text: mended it would be another key
	ForeignCompany  = "foreign_company"   // companyId is not the company that was asked
	ForeignKey      = "foreign_key"       // a get_operation answered with another operation
	StatusMissing   = "status_missing"    // status absent, null or blank
	StatusWrongType = "status_wrong_type" // no text
	StatusTooLong   = "status_too_long"   // over 64 bytes: no column or subject holds it, and cut it would be another status
	Undecodable     = "undecodable"       // anything else; no input is known to lead here
)

// Classes lists every class, for metrics and tests.
var Classes = []string{NotAnObject, TooDeep, TooLarge, DuplicateField, KeyMissing, KeyWrongType, KeyTooLong, KeyNotText,
	ForeignCompany, ForeignKey, StatusMissing, StatusWrongType, StatusTooLong, Undecodable}

const maxQuarantinedBody = 64 << 10

// The fields of a record. The first three decide what and whose it is.
const (
	fieldKey = iota
	fieldCompany
	fieldStatus
	fieldConnection
	fieldDataType
	fieldStatusCode
	fieldErrorMessage
	fieldRequested
	fieldCompleted
	fieldTimeoutMinutes
	fieldTimeoutSeconds
	fieldValidation
	fieldChanges
	fieldCount

	decidingFields = fieldStatus + 1
)

var fieldNames = [fieldCount]string{"pushOperationKey", "companyId", "status", "dataConnectionKey", "dataType",
	"statusCode", "errorMessage", "requestedOnUtc", "completedOnUtc", "timeoutInMinutes", "timeoutInSeconds",
	"validation", "changes"}

// decoder reads the records of one answer.
type decoder struct {
	companyID string
	key       string    // that a get asked for; empty for a list
	maxRecord int       // in bytes, of a list's records; 0 for a get, whose body is bounded
	lookedAt  time.Time // what the far future is measured from
}

// record is one record split into raw fields; nil where absent.
type record struct {
	fields [fieldCount][]byte
	flags  flags
	clash  string // a deciding field that is told twice, differently
}

// refusal is why a record is set aside.
type refusal struct{ class, detail string }

// decode reads what decides of one record, which nests as deep as depth: the row of
// an operation, or what is set aside. Raw must be valid JSON unless it is too deep,
// and must not change as long as the row is in use.
func (d *decoder) decode(raw []byte, depth int) (push.Row, *push.Quarantined) {
	switch {
	case len(raw) == 0 || raw[0] != '{':
		return push.Row{}, d.setAside(raw, "", refusal{NotAnObject, "a record must be an object"})
	case d.maxRecord > 0 && len(raw) > d.maxRecord:
		return push.Row{}, d.tooLarge(raw)
	case depth > maxDepth:
		return push.Row{}, d.setAside(raw, "", refusal{TooDeep, fmt.Sprintf("a record may nest %d deep", maxDepth)})
	}
	parts, ok := split(raw)
	if !ok {
		return push.Row{}, d.setAside(raw, "", refusal{Undecodable, "a record must be one object"})
	}
	op, refused := d.identify(&parts)
	if refused != nil {
		return push.Row{}, d.setAside(raw, op.Key, *refused)
	}
	return push.Row{
		Key: op.Key, Status: op.Status, RequestedOn: parts.flags.time(fieldNames[fieldRequested], parts.fields[fieldRequested]),
		Digest: digest(raw), Read: func() push.Operation { return d.read(raw) },
	}, nil
}

// reading is the number of the way in which records are read. A release that reads
// anything else out of the same bytes must raise it, or what is stored of them would
// stay as it was read before; reading_test.go tells when. The next sweep then writes
// every record once more.
const reading = 1

// digest returns the digest of a row.
func digest(raw []byte) [16]byte {
	sum := sha256.Sum256(raw)
	sum[15] = reading
	return [16]byte(sum[:16])
}

// read reads a whole record that decode has let pass.
func (d *decoder) read(raw []byte) push.Operation {
	parts, _ := split(raw)
	op, _ := d.identify(&parts)
	d.describe(&op, &parts)
	op.Flags = parts.flags
	return op
}

// identify reads what decides: key, company and status. The key is filled also
// when the record is refused, if it can be read.
func (d *decoder) identify(parts *record) (push.Operation, *refusal) {
	op := push.Operation{CompanyID: d.companyID}
	key, keyRefused := readKey(parts)
	if parts.clash != fieldNames[fieldKey] {
		op.Key = key
	}
	switch {
	case parts.clash != "":
		return op, &refusal{DuplicateField, parts.clash + " is told twice, differently"}
	case keyRefused != nil:
		return op, keyRefused
	case !d.ownCompany(parts):
		return op, &refusal{ForeignCompany, "companyId must be the company that was asked"}
	case d.key != "" && d.key != key:
		return op, &refusal{ForeignKey, "pushOperationKey must be the key that was asked"}
	}
	status, refused := readStatus(parts)
	op.Status = status
	return op, refused
}

func readKey(parts *record) (string, *refusal) {
	const allowed = "pushOperationKey must be text of 1 to 256 bytes"
	raw := parts.fields[fieldKey]
	switch {
	case isNull(raw):
		return "", &refusal{KeyMissing, allowed}
	case !isString(raw):
		return "", &refusal{KeyWrongType, allowed}
	}
	key, mended := unquote(raw)
	switch {
	case key == "":
		return "", &refusal{KeyMissing, allowed}
	case len(key) > maxID:
		return "", &refusal{KeyTooLong, allowed}
	case mended:
		return "", &refusal{KeyNotText, allowed + ", without NUL"}
	}
	return key, nil
}

// ownCompany reports whether the record belongs to the company that was asked. A
// record that names none does. Two spellings of one UUID name one company; any
// other id must match byte by byte.
func (d *decoder) ownCompany(parts *record) bool {
	raw := parts.fields[fieldCompany]
	if isNull(raw) {
		parts.flags.add("companyId", absent)
		return true
	}
	if !isString(raw) {
		return false
	}
	company, _ := unquote(raw)
	return company == d.companyID || isUUID(company) && strings.EqualFold(company, d.companyID)
}

func isUUID(id string) bool {
	return len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' &&
		strings.Trim(id, "0123456789abcdefABCDEF-") == ""
}

func readStatus(parts *record) (push.Status, *refusal) {
	const allowed = "status must be text of 1 to 64 bytes"
	raw := parts.fields[fieldStatus]
	switch {
	case isNull(raw):
		return "", &refusal{StatusMissing, allowed}
	case !isString(raw):
		return "", &refusal{StatusWrongType, allowed}
	}
	spelled, mended := unquote(raw)
	status := push.ParseStatus(spelled)
	switch {
	case status == "":
		return "", &refusal{StatusMissing, allowed}
	case len(status) > maxStatus:
		return "", &refusal{StatusTooLong, allowed}
	case mended:
		parts.flags.add("status", mendedText)
	}
	return status, nil
}

// describe reads everything else, none of which can refuse the record.
func (d *decoder) describe(op *push.Operation, parts *record) {
	raw, f := &parts.fields, &parts.flags
	op.ConnectionID = f.id("dataConnectionKey", raw[fieldConnection])
	op.DataType = f.id("dataType", raw[fieldDataType])
	op.StatusCode = f.integer("statusCode", raw[fieldStatusCode])
	op.ErrorMessage = f.text("errorMessage", raw[fieldErrorMessage])
	op.Validation = f.validation(raw[fieldValidation])
	op.Changes = f.changes(raw[fieldChanges])
	op.RequestedOn = f.time("requestedOnUtc", raw[fieldRequested])
	op.CompletedOn = f.time("completedOnUtc", raw[fieldCompleted])
	op.TimeoutInMinutes = f.minutes(raw[fieldTimeoutMinutes], raw[fieldTimeoutSeconds])

	if !op.CompletedOn.IsZero() && op.CompletedOn.Before(op.RequestedOn) {
		f.add("completedOnUtc", tooEarly)
	}
	horizon := d.lookedAt.AddDate(1, 0, 0)
	if op.RequestedOn.After(horizon) {
		f.add("requestedOnUtc", farFuture)
	}
	if op.CompletedOn.After(horizon) {
		f.add("completedOnUtc", farFuture)
	}
}

// split finds the fields of a record by their exact names. Whether a deciding
// field is told twice is judged over spellings that differ in case too, since
// other readers of the same answer would take either.
func split(raw []byte) (record, bool) {
	var parts record
	var first [decidingFields][]byte
	var again [decidingFields][][]byte
	ok := eachMember(raw, func(name, value []byte, _ int) bool {
		field, exact := fieldOf(name)
		switch {
		case field < 0:
			return true
		case field < decidingFields && first[field] == nil:
			first[field] = value
		case field < decidingFields:
			again[field] = append(again[field], value)
		case parts.fields[field] != nil:
			parts.flags.add(fieldNames[field], repeated)
		}
		if exact {
			parts.fields[field] = value
		}
		return true
	})
	for field, values := range again {
		if len(values) == 0 || parts.fields[field] == nil {
			continue
		}
		parts.flags.add(fieldNames[field], repeated)
		counts := told(parts.fields[field]) // once: it may be long, and there may be many
		for _, value := range append(values, first[field]) {
			if parts.clash == "" && told(value) != counts {
				parts.clash = fieldNames[field]
			}
		}
	}
	return parts, ok
}

// fieldOf returns the field of a member's raw name, or -1. A deciding field is
// also found, not exactly, by a spelling that differs in case.
func fieldOf(rawName []byte) (field int, exact bool) {
	name := plainName(rawName)
	for field, known := range fieldNames {
		if string(name) == known {
			return field, true
		}
	}
	for field, known := range fieldNames[:decidingFields] {
		if strings.EqualFold(string(name), known) {
			return field, false
		}
	}
	return -1, false
}

// told returns what a raw value tells: other values tell other things, but for space
// around a text.
func told(raw []byte) string {
	if !isString(raw) {
		return string(raw)
	}
	text, _ := unquote(raw)
	return `"` + strings.TrimSpace(text)
}

// setAside keeps a record that is not an operation.
func (d *decoder) setAside(raw []byte, key string, why refusal) *push.Quarantined {
	hash := sha256.Sum256(raw)
	return &push.Quarantined{
		CompanyID: d.companyID,
		Key:       key,
		Class:     why.class,
		Detail:    why.detail,
		Hash:      hash[:],
		Body:      sanitised(raw, maxQuarantinedBody),
	}
}
