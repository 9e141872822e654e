package codat

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/pushwatch/pushwatch/push"
)

// FuzzDecodePage: whatever a body holds, it is a page of which every record is
// there once, or a reason that quotes nothing of it.
func FuzzDecodePage(f *testing.F) {
	f.Add(examplePage(2))
	f.Add([]byte(`{"results":[{"\u1":1,"pushOperationKey":"k","status":"` + strings.Repeat("long", 20)))
	f.Fuzz(func(t *testing.T, body []byte) {
		checkCut(t, body)
		var result listing
		d := &decoder{companyID: company, lookedAt: noon}
		reason, ok := decodePage(body, d, &result)
		if !ok {
			if strings.ContainsFunc(reason, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Fatalf("reason %q", reason)
			}
			return
		}
		page := result.page
		if result.items != len(page.Rows)+len(page.Quarantined) || result.items > maxItems {
			t.Fatalf("%d items became %d operations and %d others", result.items, len(page.Rows), len(page.Quarantined))
		}
		if size := result.granted(100); size < 1 || size > maxItems {
			t.Fatalf("granted %d for %d items", size, result.items)
		}
		tooDeep := false
		for _, aside := range page.Quarantined {
			tooDeep = tooDeep || aside.Class == TooDeep
			checkAside(t, aside)
		}
		for _, row := range page.Rows {
			checkRow(t, row)
		}
		if !tooDeep {
			checkCount(t, body, result.items)
		}
		var again listing
		if _, ok := decodePage(body, d, &again); !ok || !reflect.DeepEqual(read(&again), read(&result)) || !reflect.DeepEqual(again, result) {
			t.Fatal("the same body reads differently")
		}
	})
}

// checkCut: a body that ends in a record that is too large has that one set aside
// behind the others, and any other body is none.
func checkCut(t *testing.T, body []byte) {
	var result listing
	d := &decoder{companyID: company, lookedAt: noon, maxRecord: 64}
	ok := decodeCut(body, d, &result)
	if ok != result.cut || ok && result.items+1 != len(result.page.Rows)+len(result.page.Quarantined) {
		t.Fatalf("%v: %d items and one too large became %d operations and %d others", ok, result.items,
			len(result.page.Rows), len(result.page.Quarantined))
	}
	if ok {
		checkAside(t, result.page.Quarantined[len(result.page.Quarantined)-1])
	}
}

// read takes the rows' functions out of a listing, which nobody can compare, and
// returns what they read.
func read(l *listing) []push.Operation {
	operations := push.Whole(l.page.Rows)
	for i := range l.page.Rows {
		l.page.Rows[i].Read = nil
	}
	return operations
}

// checkCount compares the number of records with that of the standard library.
func checkCount(t *testing.T, body []byte, items int) {
	var page map[string]json.RawMessage
	var results []json.RawMessage
	if err := errors.Join(json.Unmarshal(withoutBOM(body), &page), json.Unmarshal(page["results"], &results)); err != nil {
		t.Fatalf("a page was read from what is not JSON: %q", body)
	}
	if len(results) != items {
		t.Fatalf("%d records, the standard library reads %d", items, len(results))
	}
}

// FuzzDecodeGet holds what a get makes of a body against the standard library's
// reading of it, and against a page in which the same record stands between good
// neighbours, who must both be there untouched.
func FuzzDecodeGet(f *testing.F) {
	f.Add([]byte(with(`{"status":"Failed","statusCode":400,"errorMessage":"\u0000"}`)))
	f.Fuzz(func(t *testing.T, body []byte) {
		raw, depth, err := reply{body: body, contentType: "application/json"}.value()
		plain := withoutBOM(body)
		var fields map[string]json.RawMessage
		standard := json.Unmarshal(plain, &fields)
		if err != nil {
			if standard == nil && fields != nil {
				t.Fatalf("%v: of an object: %q", err, body)
			}
			return
		}
		row, aside := (&decoder{companyID: company, lookedAt: noon}).decode(raw, depth)
		var op push.Operation
		switch {
		case aside != nil:
			checkAside(t, *aside)
		case standard != nil:
			t.Fatalf("an operation of what the standard library refuses: %v: %q", standard, body)
		default:
			op = checkRow(t, row)
			checkFields(t, op, fields)
		}
		checkNeighbours(t, raw, op, aside)
	})
}

// checkFields compares an operation with its record as the standard library reads
// it: exact names, of repeated ones the last.
func checkFields(t *testing.T, op push.Operation, fields map[string]json.RawMessage) {
	text := func(name string) string {
		var read string
		if err := json.Unmarshal(fields[name], &read); err != nil {
			t.Fatalf("%s: %v: %s", name, err, fields[name])
		}
		return strings.ReplaceAll(read, "\x00", "\uFFFD")
	}
	if want := text("pushOperationKey"); op.Key != want {
		t.Fatalf("key %q, should be %q", op.Key, want)
	}
	if want := push.ParseStatus(text("status")); op.Status != want {
		t.Fatalf("status %q, should be %q", op.Status, want)
	}
	if op.ErrorMessage != nil && !slices.Contains(op.Flags, "errorMessage:"+cutText) && *op.ErrorMessage != text("errorMessage") {
		t.Fatalf("error message %q, should be %q", *op.ErrorMessage, text("errorMessage"))
	}
	if op.ConnectionID != "" && op.ConnectionID != text("dataConnectionKey") || op.DataType != "" && op.DataType != text("dataType") {
		t.Fatalf("connection %q, data type %q", op.ConnectionID, op.DataType)
	}
	if op.StatusCode != nil {
		if want, err := strconv.ParseFloat(string(fields["statusCode"]), 64); err != nil || float64(*op.StatusCode) != want {
			t.Fatalf("status code %d of %s", *op.StatusCode, fields["statusCode"])
		}
	}
	for name, at := range map[string]time.Time{"requestedOnUtc": op.RequestedOn, "completedOnUtc": op.CompletedOn} {
		if isString(fields[name]) {
			if want, _ := parseTime(text(name)); !at.Equal(want) {
				t.Fatalf("%s %v, should be %v", name, at, want)
			}
		}
	}
}

// checkNeighbours: the record reads in a page as it did alone, and the good ones
// before and behind it are as if it were not there.
func checkNeighbours(t *testing.T, raw []byte, op push.Operation, aside *push.Quarantined) {
	before, behind := with(`{"pushOperationKey":"before"}`), with(`{"pushOperationKey":"behind"}`)
	page := slices.Concat([]byte(`{"results":[`+before+","), raw, []byte(","+behind+`]}`))
	var result listing
	if reason, ok := decodePage(page, &decoder{companyID: company, lookedAt: noon}, &result); !ok {
		t.Fatalf("a record that a get takes spoils its page: %s: %q", reason, raw)
	}
	good := func(key string) push.Operation {
		return push.Operation{CompanyID: company, Key: key, Status: push.Pending}
	}
	want := []push.Operation{good("before"), op, good("behind")}
	if aside != nil {
		want = slices.Delete(want, 1, 2)
		if len(result.page.Quarantined) != 1 || !reflect.DeepEqual(result.page.Quarantined[0], *aside) {
			t.Fatalf("in a page set aside as %+v, alone as %+v", result.page.Quarantined, *aside)
		}
	}
	if got := push.Whole(result.page.Rows); !reflect.DeepEqual(got, want) {
		t.Fatalf("in a page %+v, should be %+v", got, want)
	}
}

func checkAside(t *testing.T, aside push.Quarantined) {
	if len(aside.Hash) != 32 || len(aside.Body) > maxQuarantinedBody || !clean(aside.Body) || !clean(aside.Key) || aside.Detail == "" ||
		aside.CompanyID != company || aside.Class == Undecodable || !slices.Contains(Classes, aside.Class) {
		t.Fatalf("quarantined %+v", aside)
	}
}

// checkRow: what was read at once is what the whole record says.
func checkRow(t *testing.T, row push.Row) push.Operation {
	op := row.Read()
	if row.Key != op.Key || row.Status != op.Status || row.RequestedOn != op.RequestedOn {
		t.Fatalf("row %+v of operation %+v", row, op)
	}
	checkOperation(t, op)
	return op
}

func checkOperation(t *testing.T, op push.Operation) {
	texts := []string{op.Key, op.ConnectionID, op.DataType, string(op.Status)}
	for _, text := range texts {
		if !clean(text) || len(text) > maxID {
			t.Fatalf("text %q", text)
		}
	}
	if op.ErrorMessage != nil && (!clean(*op.ErrorMessage) || len(*op.ErrorMessage) > maxText+len(cutMark)) {
		t.Fatal("error message")
	}
	if op.CompanyID != company || op.Key == "" || op.Status == "" || op.Status != push.ParseStatus(string(op.Status)) {
		t.Fatalf("operation %+v", op)
	}
	if op.RequestedOn != push.Time(op.RequestedOn) || op.CompletedOn != push.Time(op.CompletedOn) {
		t.Fatalf("times %v %v", op.RequestedOn, op.CompletedOn)
	}
	if op.Validation != nil && max(len(op.Validation.Errors), len(op.Validation.Warnings)) > maxList || len(op.Changes) > maxList {
		t.Fatal("a list over its limit")
	}
	encoded, err := json.Marshal(op)
	if err != nil || bytes.Contains(encoded, []byte(`\u0000`)) {
		t.Fatalf("encoded %q: %v", encoded, err)
	}
}

func clean(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// FuzzParseTime: a text is unusable, or one moment in the normal form, which
// reads back as itself and as Go's own parser reads the text where that knows it.
func FuzzParseTime(f *testing.F) {
	f.Add("2023-03-21T17:17:58.9235368Z")
	f.Fuzz(func(t *testing.T, text string) {
		at, ok := parseTime(text)
		if !ok {
			if !at.IsZero() {
				t.Fatalf("%q is unusable and %v", text, at)
			}
			return
		}
		if at != push.Time(at) || at.Year() <= 1 || at.Year() >= 9999 {
			t.Fatalf("%q gives %v, which is not in the normal form", text, at)
		}
		alike := []string{at.Format("2006-01-02T15:04:05.000000Z"), at.Format("2006-01-02 15:04:05.000000"), " " + text + "\n"}
		if naive, utc := strings.CutSuffix(text, "Z"); utc {
			alike = append(alike, naive, naive+"+00:00", naive+"-0000")
		}
		for _, spelling := range alike {
			if again, ok := parseTime(spelling); !ok || again != at {
				t.Fatalf("%q gives %v, %q gives %v", text, at, spelling, again)
			}
		}
		// Where Go's own parser knows the text, both must agree.
		if standard, err := time.Parse(time.RFC3339Nano, text); err == nil && push.Time(standard) != at {
			t.Fatalf("%q gives %v, Go reads %v", text, at, standard)
		}
	})
}

// FuzzRetryAfter: a header is read as the rule says in other words, later clocks
// never wait longer, and of two headers the longer wait holds.
func FuzzRetryAfter(f *testing.F) {
	f.Add("99999999999", int64(30))
	f.Fuzz(func(t *testing.T, header string, later int64) {
		wait, ok := retryAfter(header, noon)
		want, readable := time.Duration(0), true
		trimmed := strings.TrimSpace(header)
		seconds, whole := new(big.Int).SetString(trimmed, 10)
		date, notDate := http.ParseTime(trimmed)
		switch {
		case whole && trimmed[0] != '+':
			if day := big.NewInt(86_400); seconds.Cmp(day) > 0 {
				seconds = day
			}
			if seconds.Sign() > 0 {
				want = time.Duration(seconds.Int64()) * time.Second
			}
		case notDate == nil:
			want = min(max(date.Sub(noon), 0), 24*time.Hour)
		default:
			readable = false
		}
		if ok != readable || wait != want {
			t.Fatalf("%q gives %v, %v; should be %v, %v", header, wait, ok, want, readable)
		}
		if after, _ := retryAfter(header, noon.Add(time.Duration(max(later, 0)))); after > wait {
			t.Fatalf("%q gives %v at noon and %v later", header, wait, after)
		}
		for _, both := range [][]string{{header, "60"}, {"60", header}} {
			if longer, ok := largestRetryAfter(both, noon); !ok || longer != max(wait, time.Minute) {
				t.Fatalf("%q gives %v, of %v", both, longer, wait)
			}
		}
	})
}
