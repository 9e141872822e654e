package codat

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestPagesThatAreNone(t *testing.T) {
	good := with(`{}`)
	for _, c := range []struct{ name, body, says string }{
		{"an empty body", "", "the body is empty"},
		{"a byte order mark alone", "\xEF\xBB\xBF", "not complete, valid JSON"},
		{"white space alone", " \n", "not complete, valid JSON"},
		{"a page cut in a record", `{"results":[` + good[:20], "not complete, valid JSON"},
		{"a page cut after its records", `{"results":[` + good + `]`, "not complete, valid JSON"},
		{"a list", "[]", "not an object"},
		{"null", "null", "not an object"},
		{"a text", `"results"`, "not an object"},
		{"an empty object", "{}", "no results"},
		{"no results", `{"pageSize":1,"_links":{}}`, "no results"},
		{"results in capitals", `{"Results":[]}`, "no results"},
		{"results that are null", `{"results":null}`, "no list"},
		{"results that are an object", `{"results":{}}`, "no list"},
		{"results that are a text", `{"results":"[]"}`, "no list"},
		{"results twice", `{"results":[],"results":[]}`, "results twice"},
		{"bytes after the page", `{"results":[]}x`, "not complete, valid JSON"},
		{"a second page after the page", `{"results":[]}{"results":[]}`, "not complete, valid JSON"},
		{"a second byte order mark", "\xEF\xBB\xBF\xEF\xBB\xBF" + `{"results":[]}`, "not complete, valid JSON"},
		{"UTF-16", "\xFF\xFE{\x00\"\x00}\x00", "not complete, valid JSON"},
		{"NaN in a record", `{"results":[` + good + `,{"statusCode":NaN}]}`, "not JSON"},
		{"Infinity beside the records", `{"results":[],"totalResults":Infinity}`, "not JSON"},
		{"a record that is a bare word", `{"results":[yes]}`, "not JSON"},
		{"a comma too many", `{"results":[` + good + `,]}`, "no list"},
		{"a name that is no JSON text", "{\"a\n\":1,\"results\":[]}", "not JSON"},
		{"nesting beside the records", `{"results":[],"a":` + strings.Repeat("[", 65) + strings.Repeat("]", 65) + `}`, "nests too deep"},
		{"more than 5,000 records", `{"results":[` + strings.Repeat("{},", 5000) + `{}]}`, "more than 5000 records"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := onlyPage(t, c.body)
			require.Equal(t, push.KindMalformed, kindOfError(t, err))
			assert.ErrorContains(t, err, c.says)
			assert.ErrorContains(t, err, "page 1: list_operations of company "+company+": malformed (HTTP 200)")
		})
	}
}

func TestPagesThatAreOdd(t *testing.T) {
	good := with(`{}`)
	for _, c := range []struct {
		name, body string
		last       bool
		size       int
	}{
		{name: "a byte order mark", body: "\xEF\xBB\xBF" + `{"results":[` + good + `],"pageSize":9,"_links":{}}`, last: true, size: 9},
		{name: "white space around", body: " \r\n\t" + `{ "results" : [ ` + good + ` ] , "pageSize" : 9 , "_links" : { } } ` + "\n", last: true, size: 9},
		{name: "totals that lie", body: `{"results":[` + good + `],"totalResults":-3,"pageSize":9,"_links":{"next":{"href":"/x"}}}`, size: 9},
		{name: "totals that are no number", body: `{"results":[` + good + `],"totalResults":"many","pageSize":9,"_links":{"next":{"href":"/x"}}}`, size: 9},
		{name: "a link that is text", body: `{"results":[` + good + `],"_links":{"next":"/x"}}`, size: 100},
		{name: "a link to another host", body: `{"results":[` + good + `],"_links":{"next":{"href":"ftp://example.com/x"}}}`, size: 100},
		{name: "a null link", body: `{"results":[` + good + `],"_links":{"next":null}}`, last: true, size: 100},
		{name: "an empty link", body: `{"results":[` + good + `],"_links":{"next":{"href":""}}}`, last: true, size: 100},
		{name: "a link to null", body: `{"results":[` + good + `],"_links":{"next":{"href":null}}}`, last: true, size: 100},
		{name: "a link in capitals is none", body: `{"results":[` + good + `],"_links":{"Next":{"href":"/x"}}}`, last: true, size: 100},
		{name: "no links on a page that is not full", body: `{"results":[` + good + `]}`, last: true, size: 100},
		{name: "no links on a full page", body: `{"results":[` + good + `],"pageSize":1}`, size: 1},
		{name: "links that are a list on a full page", body: `{"results":[` + good + `],"pageSize":1,"_links":[]}`, size: 1},
		{name: "a page size of nothing", body: `{"results":[` + good + `],"pageSize":0,"_links":{}}`, last: true, size: 100},
		{name: "a negative page size", body: `{"results":[` + good + `],"pageSize":-1,"_links":{}}`, last: true, size: 100},
		{name: "a page size over 5,000", body: `{"results":[` + good + `],"pageSize":5001,"_links":{}}`, last: true, size: 100},
		{name: "a page size above the asked one, of a page that is not so full", body: `{"results":[` + good + `],"pageSize":5000,"_links":{}}`, last: true, size: 100},
		{name: "a page size below the number of its records", body: `{"results":[` + good + `,` + with(`{"pushOperationKey":"l"}`) + `],"pageSize":1,"_links":{}}`, last: true, size: 1},
		{name: "a page size in words", body: `{"results":[` + good + `],"pageSize":"9","_links":{}}`, last: true, size: 100},
		{name: "a page size with a fraction of nothing", body: `{"results":[` + good + `],"pageSize":9.0,"_links":{}}`, last: true, size: 9},
		{name: "unknown members", body: `{"results":[` + good + `],"a":{"b":[1]},"_links":{}}`, last: true, size: 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			page, err := onlyPage(t, c.body)
			require.NoError(t, err)
			assert.Equal(t, 1, page.Number)
			assert.Equal(t, c.size, page.Size)
			assert.Equal(t, c.last, page.Last)
			require.NotEmpty(t, page.Rows)
			assert.Equal(t, "k", page.Rows[0].Key)
			assert.Equal(t, push.FromList, page.Source)
		})
	}
}

func TestAPageOf5000RecordsIsWhole(t *testing.T) {
	page, err := onlyPage(t, `{"results":[`+strings.Repeat("{},", 4999)+`{}],"_links":{}}`)
	require.NoError(t, err)
	assert.Len(t, page.Quarantined, 5000)
}

func TestWhatIsNotJSONIsNamedByItsType(t *testing.T) {
	for contentType, says := range map[string]string{
		"text/html; charset=utf-8":               "not JSON (content type text/html)",
		"application/json":                       "not complete, valid JSON",
		"application/problem+json":               "not complete, valid JSON",
		"text/html\x1b[31m":                      "not JSON (content type unknown)",
		"a/" + strings.Repeat("b", 100):          "not JSON (content type unknown)",
		"text/" + strings.ToUpper("html") + ";;": "not JSON (content type unknown)",
	} {
		got := reply{request: request{ask: push.Ask{Request: push.ListOperations}}, body: []byte("<html>"),
			contentType: (&Client{}).mediaType(map[string][]string{"Content-Type": {contentType}})}
		assert.ErrorContains(t, got.notJSON(), says, contentType)
	}
}

// examplePage is a page as Codat's documentation shows one, of n records.
func examplePage(n int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"results":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		_, _ = fmt.Fprintf(&b, `{"changes":[{"type":"Created","recordRef":{"id":"ref-%d","dataType":"invoices"},"attachmentId":null}],`+
			`"data":{"id":"4571","supplierRef":{"id":"4","supplierName":"Acme \"Bros\""},"lineItems":[{"unitAmount":25,"quantity":1}]},`+
			`"dataType":"invoices","companyId":%q,"pushOperationKey":"56e6f94f-5477-4f82-a29b-%012d","dataConnectionKey":"7baba8cc-2bd7-4f4e-a1b2-9f0e6c3f1a77",`+
			`"requestedOnUtc":"2026-11-24T%02d:%02d:58.9235368Z","completedOnUtc":"2026-11-24T12:17:59.4814510Z","timeoutInMinutes":null,"timeoutInSeconds":null,`+
			`"status":"Failed","validation":{"errors":[{"itemId":"item-%d","message":"The customer is not known","validatorName":"Xero"}],"warnings":[]},`+
			`"errorMessage":"validation failed","statusCode":400}`, i, company, i, 11-i/60%12, 59-i%60, i)
	}
	_, _ = fmt.Fprintf(&b, `],"pageNumber":1,"pageSize":%d,"totalResults":%d,"_links":{"self":{"href":"/companies"},"next":{"href":"/companies?page=2"}}}`, max(n, 1), n)
	return b.Bytes()
}

func TestTheExamplePageIsReadWhole(t *testing.T) {
	var result listing
	reason, ok := decodePage(examplePage(2), &decoder{companyID: company, lookedAt: noon}, &result)
	require.True(t, ok, reason)
	require.Empty(t, result.page.Quarantined)
	require.Len(t, result.page.Rows, 2)
	text := func(s string) *string { return &s }
	code := 400
	assert.Equal(t, push.Operation{
		CompanyID: company, Key: "56e6f94f-5477-4f82-a29b-000000000001", ConnectionID: "7baba8cc-2bd7-4f4e-a1b2-9f0e6c3f1a77",
		DataType: "invoices", Status: push.Failed, StatusCode: &code, ErrorMessage: text("validation failed"),
		Validation:  &push.Validation{Errors: []push.ValidationItem{{ItemID: text("item-1"), Message: text("The customer is not known"), ValidatorName: text("Xero")}}, Warnings: []push.ValidationItem{}},
		Changes:     []push.Change{{Type: text("Created"), RecordRef: &push.RecordRef{ID: text("ref-1"), DataType: text("invoices")}}},
		RequestedOn: time.Date(2026, 11, 24, 11, 58, 58, 923536000, time.UTC), CompletedOn: time.Date(2026, 11, 24, 12, 17, 59, 481451000, time.UTC),
	}, result.page.Rows[1].Read())
	assert.Equal(t, linkNext, result.more)
}

func BenchmarkDecodePage(b *testing.B) {
	const n = 500
	body := examplePage(n)
	d := &decoder{companyID: company, lookedAt: noon}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		var result listing
		if _, ok := decodePage(body, d, &result); !ok || len(result.page.Rows) != n {
			b.Fatal("not a page")
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "records/s")
}
