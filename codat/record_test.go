package codat

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// between puts an item between two good ones, decodes the page, and requires the
// neighbours to be as if it were not there.
func between(t *testing.T, item string) ([]push.Operation, []push.Quarantined) {
	t.Helper()
	good := func(key string) string {
		return `{"pushOperationKey":"` + key + `","companyId":"` + company + `","status":"Pending","requestedOnUtc":"2026-11-24T10:00:00Z"}`
	}
	var result listing
	body := `{"results":[` + good("before") + "," + item + "," + good("after") + `],"pageSize":100,"_links":{}}`
	reason, ok := decodePage([]byte(body), &decoder{companyID: company, lookedAt: noon}, &result)
	require.True(t, ok, reason)
	require.Equal(t, 3, result.items)
	operations := push.Whole(result.page.Rows)
	require.GreaterOrEqual(t, len(operations), 2)
	for i, key := range map[int]string{0: "before", len(operations) - 1: "after"} {
		require.Equal(t, push.Operation{CompanyID: company, Key: key, Status: push.Pending, RequestedOn: noon.Add(-2 * time.Hour)}, operations[i])
	}
	return operations[1 : len(operations)-1], result.page.Quarantined
}

// with returns a good record with members of it replaced; null removes one.
func with(replace string) string {
	record := map[string]json.RawMessage{"pushOperationKey": json.RawMessage(`"k"`),
		"companyId": json.RawMessage(`"` + company + `"`), "status": json.RawMessage(`"Pending"`)}
	var changed map[string]json.RawMessage
	if err := json.Unmarshal([]byte(replace), &changed); err != nil {
		panic(err)
	}
	for name, value := range changed {
		if string(value) == `"-"` {
			delete(record, name)
			continue
		}
		record[name] = value
	}
	return string(must(json.Marshal(record)))
}

func TestABadRecordIsSetAsideAndItsNeighboursStand(t *testing.T) {
	own := `"companyId":"` + company + `"`
	for _, c := range []struct{ name, item, class, key string }{
		{"null", `null`, NotAnObject, ""},
		{"a text", `"{}"`, NotAnObject, ""},
		{"a number", `7`, NotAnObject, ""},
		{"a list", `[{}]`, NotAnObject, ""},
		{"an empty object", `{}`, KeyMissing, ""},
		{"65 deep", `{"pushOperationKey":"k","a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, TooDeep, ""},
		{"deeper than encoding/json goes", strings.Repeat(`{"a":`, 10_001) + `1` + strings.Repeat("}", 10_001), TooDeep, ""},
		{"no key", with(`{"pushOperationKey":"-"}`), KeyMissing, ""},
		{"a null key", with(`{"pushOperationKey":null}`), KeyMissing, ""},
		{"an empty key", with(`{"pushOperationKey":""}`), KeyMissing, ""},
		{"a key that is a number", with(`{"pushOperationKey":7}`), KeyWrongType, ""},
		{"a key that is an object", with(`{"pushOperationKey":{"id":"k"}}`), KeyWrongType, ""},
		{"a key of 257 bytes", with(`{"pushOperationKey":"` + strings.Repeat("k", 257) + `"}`), KeyTooLong, ""},
		{"a key of 10 KB", with(`{"pushOperationKey":"` + strings.Repeat("k", 10_000) + `"}`), KeyTooLong, ""},
		{"a key with NUL", `{"pushOperationKey":"k\u0000",` + own + `,"status":"Pending"}`, KeyNotText, ""},
		{"a key with half a surrogate pair", `{"pushOperationKey":"k\ud800",` + own + `,"status":"Pending"}`, KeyNotText, ""},
		{"a key of invalid UTF-8", "{\"pushOperationKey\":\"k\xff\"," + own + `,"status":"Pending"}`, KeyNotText, ""},
		{"a key whose name is in capitals", `{"PushOperationKey":"k",` + own + `,"status":"Pending"}`, KeyMissing, ""},
		{"another company", with(`{"companyId":"8a210b68-0000-11ed-a1eb-0242ac120002"}`), ForeignCompany, "k"},
		{"a company that is a number", with(`{"companyId":7}`), ForeignCompany, "k"},
		{"an empty company", with(`{"companyId":""}`), ForeignCompany, "k"},
		{"no status", with(`{"status":"-"}`), StatusMissing, "k"},
		{"a null status", with(`{"status":null}`), StatusMissing, "k"},
		{"an empty status", with(`{"status":""}`), StatusMissing, "k"},
		{"a blank status", with(`{"status":" \t\n "}`), StatusMissing, "k"},
		{"a status that is a number", with(`{"status":1}`), StatusWrongType, "k"},
		{"a status that is an object", with(`{"status":{"name":"Pending"}}`), StatusWrongType, "k"},
		{"a status of 65 bytes", with(`{"status":"` + strings.Repeat("s", 65) + `"}`), StatusTooLong, "k"},
		{"a status in capitals alone", `{"pushOperationKey":"k",` + own + `,"STATUS":"Pending"}`, StatusMissing, "k"},
		{"a status told twice, differently", `{"pushOperationKey":"k",` + own + `,"status":"Pending","status":"Failed"}`, DuplicateField, "k"},
		{"a status told twice, once as null", `{"pushOperationKey":"k",` + own + `,"status":null,"status":"Failed"}`, DuplicateField, "k"},
		{"a status told again in capitals, differently", `{"pushOperationKey":"k",` + own + `,"status":"Pending","STATUS":"Failed"}`, DuplicateField, "k"},
		{"a status told before in capitals, differently", `{"pushOperationKey":"k",` + own + `,"Status":"Failed","status":"Pending"}`, DuplicateField, "k"},
		{"a status told again with escapes in its name, differently", `{"pushOperationKey":"k",` + own + `,"status":"Pending","st\u0061tus":"Failed"}`, DuplicateField, "k"},
		{"a status told twice in different case", `{"pushOperationKey":"k",` + own + `,"status":"Pending","status":"pending"}`, DuplicateField, "k"},
		{"a key told twice, differently", `{"pushOperationKey":"k","pushOperationKey":"l",` + own + `,"status":"Pending"}`, DuplicateField, ""},
		{"a company told twice, differently", `{"pushOperationKey":"k","companyId":"x",` + own + `,"status":"Pending"}`, DuplicateField, "k"},
	} {
		t.Run(c.name, func(t *testing.T) {
			operations, aside := between(t, c.item)
			require.Empty(t, operations)
			require.Len(t, aside, 1)
			hash := sha256.Sum256([]byte(c.item))
			assert.Equal(t, company, aside[0].CompanyID)
			assert.Equal(t, c.class, aside[0].Class)
			assert.Contains(t, Classes, aside[0].Class)
			assert.Equal(t, c.key, aside[0].Key)
			assert.Equal(t, hash[:], aside[0].Hash)
			assert.NotEmpty(t, aside[0].Detail)
			assert.Equal(t, sanitised([]byte(c.item), 64<<10), aside[0].Body)
		})
	}
}

func TestTheBodySetAsideIsCutAndCleaned(t *testing.T) {
	_, aside := between(t, `{"a":"`+"\xff"+strings.Repeat("é", 40_000)+`"}`)
	require.Len(t, aside, 1)
	assert.LessOrEqual(t, len(aside[0].Body), 64<<10)
	assert.Greater(t, len(aside[0].Body), 64<<10-4)
	assert.True(t, strings.HasPrefix(aside[0].Body, "{\"a\":\"\uFFFDéé"))
}

func TestAnOddRecordIsAnOperationThatSaysSo(t *testing.T) {
	plain := push.Operation{CompanyID: company, Key: "k", Status: push.Pending}
	number := func(n int) *int { return &n }
	text := func(s string) *string { return &s }
	long := strings.Repeat("é", 40_000)
	wasCut := strings.Repeat("é", 32*1024) + "…[cut]"
	for _, c := range []struct {
		name, item string
		change     func(*push.Operation)
		flags      []string
	}{
		{name: "nothing but what must be", item: with(`{}`)},
		{name: "unknown fields, of any shape", item: with(`{"data":{"a":[1]},"requestedOn":"x","":null,"changesX":7}`)},
		{name: "64 deep", item: with(`{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`)},
		{name: "brackets in text nest nothing", item: with(`{"a":"` + strings.Repeat("[", 100) + `"}`)},
		{name: "a key of 256 bytes", item: with(`{"pushOperationKey":"` + strings.Repeat("k", 256) + `"}`),
			change: func(op *push.Operation) { op.Key = strings.Repeat("k", 256) }},
		{name: "a key of any letters", item: with(`{"pushOperationKey":" ../.*>%2F\r\né😀"}`),
			change: func(op *push.Operation) { op.Key = " ../.*>%2F\r\né😀" }},
		{name: "an unknown status is kept raw", item: with(`{"status":"Cancelled"}`), change: func(op *push.Operation) { op.Status = "Cancelled" }},
		{name: "a status in small letters is kept raw", item: with(`{"status":"failed"}`), change: func(op *push.Operation) { op.Status = "failed" }},
		{name: "a status is trimmed", item: with(`{"status":" Failed\n"}`), change: func(op *push.Operation) { op.Status = push.Failed }},
		{name: "a status of 64 bytes", item: with(`{"status":" ` + strings.Repeat("s", 64) + ` "}`),
			change: func(op *push.Operation) { op.Status = push.Status(strings.Repeat("s", 64)) }},
		{name: "a status with NUL", item: `{"pushOperationKey":"k","companyId":"` + company + `","status":"a\u0000"}`,
			change: func(op *push.Operation) { op.Status = "a\uFFFD" }, flags: []string{"status:mended"}},
		{name: "a status told twice, equally", item: `{"pushOperationKey":"k","companyId":"` + company + `","status":"Pending","Status":" Pending"}`,
			flags: []string{"status:repeated"}},
		{name: "no company", item: with(`{"companyId":"-"}`), flags: []string{"companyId:absent"}},
		{name: "a null company", item: with(`{"companyId":null}`), flags: []string{"companyId:absent"}},
		{name: "the company in capitals is the same UUID", item: with(`{"companyId":"` + strings.ToUpper(company) + `"}`)},
		{name: "a field told twice is the last", item: `{"statusCode":1,"pushOperationKey":"k","companyId":"` + company + `","status":"Pending","statusCode":2}`,
			change: func(op *push.Operation) { op.StatusCode = number(2) }, flags: []string{"statusCode:repeated"}},
		{name: "a field in another case is another field", item: with(`{"statuscode":1,"ErrorMessage":"x"}`)},

		{name: "connection and data type", item: with(`{"dataConnectionKey":"c","dataType":"invoices"}`),
			change: func(op *push.Operation) { op.ConnectionID, op.DataType = "c", "invoices" }},
		{name: "connection and data type that are no text", item: with(`{"dataConnectionKey":1,"dataType":["x"]}`),
			flags: []string{"dataConnectionKey:unusable", "dataType:unusable"}},
		{name: "connection and data type too long for a subject", item: with(`{"dataConnectionKey":"` + strings.Repeat("c", 257) + `","dataType":"` + strings.Repeat("d", 257) + `"}`),
			flags: []string{"dataConnectionKey:too_long", "dataType:too_long"}},

		{name: "a status code", item: with(`{"statusCode":400}`), change: func(op *push.Operation) { op.StatusCode = number(400) }},
		{name: "a status code with a fraction of nothing", item: with(`{"statusCode":100.0}`), change: func(op *push.Operation) { op.StatusCode = number(100) }},
		{name: "a status code in steps of ten", item: `{"statusCode":1e2,"pushOperationKey":"k","companyId":"` + company + `","status":"Pending"}`,
			change: func(op *push.Operation) { op.StatusCode = number(100) }},
		{name: "a negative status code", item: with(`{"statusCode":-1}`), change: func(op *push.Operation) { op.StatusCode = number(-1) }},
		{name: "a null status code", item: with(`{"statusCode":null}`)},
		{name: "half a status code", item: with(`{"statusCode":100.5}`), flags: []string{"statusCode:unusable"}},
		{name: "a status code over all bounds", item: with(`{"statusCode":99999999999999999999}`), flags: []string{"statusCode:unusable"}},
		{name: "a status code just over 32 bits", item: with(`{"statusCode":2147483648}`), flags: []string{"statusCode:unusable"}},
		{name: "a status code that no float holds", item: `{"statusCode":1e400,"pushOperationKey":"k","companyId":"` + company + `","status":"Pending"}`, flags: []string{"statusCode:unusable"}},
		{name: "a status code in quotes", item: with(`{"statusCode":"400"}`), flags: []string{"statusCode:unusable"}},
		{name: "a status code that is true", item: with(`{"statusCode":true}`), flags: []string{"statusCode:unusable"}},

		{name: "an error message as it is, escapes and markup included", item: with(`{"errorMessage":"<b>'; drop\r\n\u001b[31m"}`),
			change: func(op *push.Operation) { op.ErrorMessage = text("<b>'; drop\r\n\x1b[31m") }},
		{name: "an empty error message", item: with(`{"errorMessage":""}`), change: func(op *push.Operation) { op.ErrorMessage = text("") }},
		{name: "an error message with NUL", item: `{"errorMessage":"a\u0000b","pushOperationKey":"k","companyId":"` + company + `","status":"Pending"}`,
			change: func(op *push.Operation) { op.ErrorMessage = text("a\uFFFDb") }, flags: []string{"errorMessage:mended"}},
		{name: "an error message with half a surrogate pair", item: `{"errorMessage":"\ud800","pushOperationKey":"k","companyId":"` + company + `","status":"Pending"}`,
			change: func(op *push.Operation) { op.ErrorMessage = text("\uFFFD") }, flags: []string{"errorMessage:mended"}},
		{name: "an error message of invalid UTF-8", item: "{\"errorMessage\":\"\xff\",\"pushOperationKey\":\"k\",\"companyId\":\"" + company + `","status":"Pending"}`,
			change: func(op *push.Operation) { op.ErrorMessage = text("\uFFFD") }, flags: []string{"errorMessage:mended"}},
		{name: "an error message over 64 KiB", item: with(`{"errorMessage":"` + long + `"}`),
			change: func(op *push.Operation) { op.ErrorMessage = text(wasCut) }, flags: []string{"errorMessage:cut"}},
		{name: "an error message cut inside a letter", item: with(`{"errorMessage":"x` + long + `"}`),
			change: func(op *push.Operation) { op.ErrorMessage = text("x" + strings.Repeat("é", 32*1024-1) + "…[cut]") }, flags: []string{"errorMessage:cut"}},
		{name: "an error message of exactly 64 KiB", item: with(`{"errorMessage":"` + strings.Repeat("a", 64<<10) + `"}`),
			change: func(op *push.Operation) { op.ErrorMessage = text(strings.Repeat("a", 64<<10)) }},
		{name: "an error message that is an object", item: with(`{"errorMessage":{"a":1}}`), flags: []string{"errorMessage:unusable"}},

		{name: "times", item: with(`{"requestedOnUtc":"2023-03-21T17:17:58.9235368Z","completedOnUtc":"2023-03-21T17:17:59"}`),
			change: func(op *push.Operation) {
				op.RequestedOn = time.Date(2023, 3, 21, 17, 17, 58, 923536000, time.UTC)
				op.CompletedOn = time.Date(2023, 3, 21, 17, 17, 59, 0, time.UTC)
			}},
		{name: "null times", item: with(`{"requestedOnUtc":null,"completedOnUtc":null}`)},
		{name: "times that are none", item: with(`{"requestedOnUtc":"0001-01-01T00:00:00","completedOnUtc":""}`),
			flags: []string{"requestedOnUtc:unusable", "completedOnUtc:unusable"}},
		{name: "times of other types", item: with(`{"requestedOnUtc":true,"completedOnUtc":{"a":1}}`),
			flags: []string{"requestedOnUtc:unusable", "completedOnUtc:unusable"}},
		{name: "times that are numbers", item: with(`{"requestedOnUtc":1679419078,"completedOnUtc":1679419078923}`),
			change: func(op *push.Operation) {
				op.RequestedOn = time.Date(2023, 3, 21, 17, 17, 58, 0, time.UTC)
				op.CompletedOn = time.Date(2023, 3, 21, 17, 17, 58, 923000000, time.UTC)
			}},
		{name: "completed before requested", item: with(`{"requestedOnUtc":"2023-03-21T17:17:58Z","completedOnUtc":"2023-03-21T17:17:57Z"}`),
			change: func(op *push.Operation) {
				op.RequestedOn = time.Date(2023, 3, 21, 17, 17, 58, 0, time.UTC)
				op.CompletedOn = time.Date(2023, 3, 21, 17, 17, 57, 0, time.UTC)
			}, flags: []string{"completedOnUtc:before_requested"}},
		{name: "the far future", item: with(`{"requestedOnUtc":"2031-01-01T00:00:00Z","completedOnUtc":"2032-01-01T00:00:00Z"}`),
			change: func(op *push.Operation) {
				op.RequestedOn = time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
				op.CompletedOn = time.Date(2032, 1, 1, 0, 0, 0, 0, time.UTC)
			}, flags: []string{"requestedOnUtc:far_future", "completedOnUtc:far_future"}},

		{name: "a timeout in minutes", item: with(`{"timeoutInMinutes":5,"timeoutInSeconds":1}`), change: func(op *push.Operation) { op.TimeoutInMinutes = number(5) }},
		{name: "a timeout of nothing", item: with(`{"timeoutInMinutes":0}`), change: func(op *push.Operation) { op.TimeoutInMinutes = number(0) }},
		{name: "a timeout in seconds alone", item: with(`{"timeoutInMinutes":null,"timeoutInSeconds":120}`),
			change: func(op *push.Operation) { op.TimeoutInMinutes = number(2) }, flags: []string{"timeoutInMinutes:from_seconds"}},
		{name: "a timeout in seconds is rounded up", item: with(`{"timeoutInSeconds":121}`),
			change: func(op *push.Operation) { op.TimeoutInMinutes = number(3) }, flags: []string{"timeoutInMinutes:from_seconds"}},
		{name: "the longest timeout in seconds", item: with(`{"timeoutInSeconds":2147483647}`),
			change: func(op *push.Operation) { op.TimeoutInMinutes = number(35791395) }, flags: []string{"timeoutInMinutes:from_seconds"}},
		{name: "a negative timeout", item: with(`{"timeoutInMinutes":-1,"timeoutInSeconds":-1}`),
			flags: []string{"timeoutInMinutes:unusable", "timeoutInSeconds:unusable"}},
		{name: "a timeout in words", item: with(`{"timeoutInMinutes":"5"}`), flags: []string{"timeoutInMinutes:unusable"}},

		{name: "a validation", item: with(`{"validation":{"errors":[{"itemId":"i","message":"m","validatorName":"v"},{"message":null,"more":1}],"warnings":[]}}`),
			change: func(op *push.Operation) {
				op.Validation = &push.Validation{Errors: []push.ValidationItem{{ItemID: text("i"), Message: text("m"), ValidatorName: text("v")}, {}}, Warnings: []push.ValidationItem{}}
			}},
		{name: "an empty validation", item: with(`{"validation":{"errors":null}}`), change: func(op *push.Operation) { op.Validation = &push.Validation{} }},
		{name: "a null validation", item: with(`{"validation":null}`)},
		{name: "a validation that is text", item: with(`{"validation":"bad"}`), flags: []string{"validation:unusable"}},
		{name: "lists of a validation that are none, and entries that are none", item: with(`{"validation":{"errors":{"a":1},"warnings":[null,"x",{"message":7}]}}`),
			change: func(op *push.Operation) {
				op.Validation = &push.Validation{Warnings: []push.ValidationItem{{}}}
			}, flags: []string{"validation.errors:unusable", "validation.warnings:entry_unread", "validation.warnings.message:unusable"}},

		{name: "changes", item: with(`{"changes":[{"type":"Created","recordRef":{"id":"r","dataType":"invoices"},"attachmentId":"a"},{"type":"New","recordRef":null}]}`),
			change: func(op *push.Operation) {
				op.Changes = []push.Change{{Type: text("Created"), RecordRef: &push.RecordRef{ID: text("r"), DataType: text("invoices")}, AttachmentID: text("a")}, {Type: text("New")}}
			}},
		{name: "no changes", item: with(`{"changes":[]}`), change: func(op *push.Operation) { op.Changes = []push.Change{} }},
		{name: "changes that are none", item: with(`{"changes":{}}`), flags: []string{"changes:unusable"}},
		{name: "a change of nothing readable", item: with(`{"changes":[{"type":1,"recordRef":"r"},7]}`),
			change: func(op *push.Operation) { op.Changes = []push.Change{{}} },
			flags:  []string{"changes.type:unusable", "changes.recordRef:unusable", "changes:entry_unread"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			operations, aside := between(t, c.item)
			require.Empty(t, aside)
			require.Len(t, operations, 1)
			want := plain
			if c.change != nil {
				c.change(&want)
			}
			want.Flags = c.flags
			assert.Equal(t, want, operations[0])
		})
	}
}

func TestLongListsAreCutAndCounted(t *testing.T) {
	entries := func(n int) string {
		return "[" + strings.TrimSuffix(strings.Repeat(`{"message":"m","type":"t"},`, n), ",") + "]"
	}
	for n, flags := range map[int][]string{
		200: nil,
		201: {"validation.errors:cut:201", "changes:cut:201"},
		999: {"validation.errors:cut:999", "changes:cut:999"},
	} {
		operations, aside := between(t, with(fmt.Sprintf(`{"validation":{"errors":%s},"changes":%s}`, entries(n), entries(n))))
		require.Empty(t, aside)
		assert.Len(t, operations[0].Validation.Errors, 200)
		assert.Len(t, operations[0].Changes, 200)
		assert.Equal(t, flags, operations[0].Flags)
	}
}

// TestALongTextOfEscapesIsReadInOnePass: where each of its two million escapes looked
// for the end of the text, go test would end it.
func TestALongTextOfEscapesIsReadInOnePass(t *testing.T) {
	operations, aside := between(t, with(`{"errorMessage":"`+strings.Repeat(`\\`, 2<<20)+`"}`))
	require.Empty(t, aside)
	assert.Equal(t, []string{"errorMessage:" + cutText}, operations[0].Flags)
}

// TestManyStatusesAreComparedInOnePass: as above, where each looked at all of the last.
func TestManyStatusesAreComparedInOnePass(t *testing.T) {
	record := with(`{"status":"Pending"}`)
	record = record[:len(record)-1] + strings.Repeat(`,"status":"Pending"`, 300_000) + `,"status":"Pending` + strings.Repeat(" ", 2<<20) + `"}`
	operations, aside := between(t, record)
	require.Empty(t, aside)
	assert.Equal(t, []string{"status:" + repeated}, operations[0].Flags)
}

func TestOneKeyMayComeTwiceAndKeysDifferByCase(t *testing.T) {
	body := `{"results":[` + with(`{"pushOperationKey":"a"}`) + "," + with(`{"pushOperationKey":"a","status":"Failed"}`) + "," + with(`{"pushOperationKey":"A"}`) + `]}`
	var result listing
	reason, ok := decodePage([]byte(body), &decoder{companyID: company, lookedAt: noon}, &result)
	require.True(t, ok, reason)
	require.Len(t, result.page.Rows, 3)
	distinct, contradicted := result.page.Distinct()
	assert.Equal(t, []string{"a"}, contradicted)
	require.Len(t, distinct, 1)
	assert.Equal(t, "A", distinct[0].Key)
}
