package codatsim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// soil spells some real rows oddly and puts broken records between them. Broken
// records have keys of their own: no operation of the truth is hidden by one.
func (s *Sim) soil(c *company, rows [][]byte, views []view, hit blows, d *rand.Rand) [][]byte {
	if len(rows) > 0 {
		for _, blow := range hit.of(odd) {
			i := d.IntN(len(rows))
			rows[i] = deform(rows[i], blow.Fault)
			blow.landed = true
		}
	}
	requested := s.start
	if len(views) > 0 {
		requested = views[0].requested
	}
	for _, blow := range hit.of(broken) {
		o := c.conceive(d.Uint64(), requested)
		row := encode(o.view(requested).render(c.ID, dateZ))
		rows = slices.Insert(rows, d.IntN(len(rows)+1), deform(row, blow.Fault))
		blow.landed = true
	}
	return rows
}

// deform returns a row as the fault spells it. Faults that edit fields leave a
// row alone that an earlier one has made something else than an object.
func deform(row []byte, fault Fault) []byte {
	switch fault {
	case NullItem:
		return []byte("null")
	case StringItem:
		return []byte(`"an operation was here"`)
	}
	fields := map[string]json.RawMessage{}
	if json.Unmarshal(row, &fields) != nil || fields == nil {
		return row
	}
	set := func(name, value string) { fields[name] = json.RawMessage(value) }
	prefix := ""
	switch fault {
	case MissingKey:
		delete(fields, "pushOperationKey")
	case NumberKey:
		set("pushOperationKey", "20260131")
	case LongKey:
		set("pushOperationKey", `"`+strings.Repeat("0123456789abcdef", 640)+`"`)
	case WrongCompany:
		set("companyId", `"00000000-0000-4000-8000-000000000000"`)
	case NullStatus:
		set("status", "null")
	case NumberStatus:
		set("status", "2")
	case DuplicateStatus:
		set("status", `"Failed"`)
		prefix = `"status":"Success",`
	case NULText:
		set("errorMessage", `"before \u0000 after"`)
	case LoneSurrogate:
		set("errorMessage", `"before \ud800 after"`)
	case UnknownFields:
		set("data", `{"lineItems":[{"unitAmount":12.50,"trackingRefs":null}]}`)
		set("writeMode", `["asynchronous",{"since":2027}]`)
	case UnreadableRequested:
		set("requestedOnUtc", `"the day before yesterday"`)
	case UnreadableCompleted:
		set("completedOnUtc", `"2026-02-31T25:61:00Z"`)
	}
	edited, err := json.Marshal(fields)
	if err != nil {
		panic(fmt.Sprintf("codatsim: %s: %v", fault, err)) // all values above are JSON
	}
	return append([]byte("{"+prefix), bytes.TrimPrefix(edited, []byte("{"))...)
}
