package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/store/storetest"
)

const (
	asked = "8a210b68-6988-11ed-a1eb-0242ac120002" // the company of the bad records
	aside = "second-company"                       // has an operation of the same key
	// bodyMark is in every bad body: no log may hold it.
	bodyMark = "BODY-7c1e"
)

// badRecord is an item of a page, as its bytes are, and what becomes of it: a row
// of the view, or a class of the quarantine.
type badRecord struct {
	name  string
	item  string
	class string // of the quarantine; empty: a row

	key       string // of the row
	status    string
	code      string // as text; empty: null
	message   string // likewise
	requested string // likewise, with microseconds
	flags     string // with commas
}

// record spells an item with what every one has; fields come first.
func record(key, fields string) string {
	return fmt.Sprintf(`{%s"pushOperationKey":%q,"companyId":%q,"dataConnectionKey":"conn","dataType":"invoices","status":"Success","note":%q}`,
		fields, key, asked, bodyMark)
}

// statusIs is record with another status, as raw JSON.
func statusIs(key, status string) string {
	return strings.Replace(record(key, ""), `"status":"Success"`, `"status":`+status, 1)
}

func keyIs(key string) string {
	return strings.Replace(record("K", ""), `"pushOperationKey":"K"`, key, 1)
}

const oddKey = "a.b *>/../%2F\r\né"

// catalogue is rows 8 to 42 of the catalogue of bad input, as far as a record
// shows them.
var catalogue = []badRecord{
	{name: "invalid UTF-8", item: strings.Replace(record("utf8", `"errorMessage":"a~b",`), "~", "\xff", 1), key: "utf8", status: "Success", message: "a\uFFFDb", flags: "errorMessage:mended"},
	{name: "NUL", item: record("nul", `"errorMessage":"a\u0000b",`), key: "nul", status: "Success", message: "a\uFFFDb", flags: "errorMessage:mended"},
	{name: "half a surrogate pair", item: record("half", `"errorMessage":"a\ud800b",`), key: "half", status: "Success", message: "a\uFFFDb", flags: "errorMessage:mended"},
	{name: "a status twice, differently", item: record("twice", `"status":"Failed",`), class: "duplicate_field"},
	{name: "a key twice, differently", item: record("twice", `"pushOperationKey":"other",`), class: "duplicate_field"},
	{name: "a status twice, equally", item: record("equal", `"status":"Success",`), key: "equal", status: "Success", flags: "status:repeated"},
	{name: "a status in capitals beside it", item: record("case", `"STATUS":"Failed",`), class: "duplicate_field"},
	{name: "nested 70 deep", item: record("deep", `"data":`+strings.Repeat("[", 70)+strings.Repeat("]", 70)+","), class: "too_deep"},
	{name: "1e400", item: record("n1", `"statusCode":1e400,`), key: "n1", status: "Success", flags: "statusCode:unusable"},
	{name: "twenty digits", item: record("n2", `"statusCode":99999999999999999999,`), key: "n2", status: "Success", flags: "statusCode:unusable"},
	{name: "100.0", item: record("n3", `"statusCode":100.0,`), key: "n3", status: "Success", code: "100"},
	{name: "1e2", item: record("n4", `"statusCode":1e2,`), key: "n4", status: "Success", code: "100"},
	{name: "null", item: `null`, class: "not_an_object"},
	{name: "a text", item: `"` + bodyMark + `"`, class: "not_an_object"},
	{name: "a number", item: `7`, class: "not_an_object"},
	{name: "a list", item: `[]`, class: "not_an_object"},
	{name: "no key", item: keyIs(`"nokey":1`), class: "key_missing"},
	{name: "an empty key", item: keyIs(`"pushOperationKey":""`), class: "key_missing"},
	{name: "a null key", item: keyIs(`"pushOperationKey":null`), class: "key_missing"},
	{name: "a key that is a number", item: keyIs(`"pushOperationKey":17`), class: "key_wrong_type"},
	{name: "a key of 10 KB", item: record(strings.Repeat("k", 10_000), ""), class: "key_too_long"},
	{name: "a key with NUL", item: keyIs(`"pushOperationKey":"a\u0000"`), class: "key_not_text"},
	{name: "a key of any letters", item: statusIs(oddKey, `"Pending"`), key: oddKey, status: "Pending"},
	{name: "a key", item: record("Letters", ""), key: "Letters", status: "Success"},
	{name: "a key that differs by case", item: record("letters", ""), key: "letters", status: "Success"},
	{name: "a key twice, with two statuses", item: statusIs("torn", `"Success"`) + "," + statusIs("torn", `"Failed"`), key: "torn", status: "TimedOut"},
	{name: "an unknown status", item: statusIs("unknown", `"Cancelled"`), key: "unknown", status: "Cancelled"},
	{name: "a null status", item: statusIs("s", `null`), class: "status_missing"},
	{name: "an empty status", item: statusIs("s", `""`), class: "status_missing"},
	{name: "a blank status", item: statusIs("s", `" \n"`), class: "status_missing"},
	{name: "a status that is a number", item: statusIs("s", `2`), class: "status_wrong_type"},
	{name: "a status that is an object", item: statusIs("s", `{"a":1}`), class: "status_wrong_type"},
	{name: "a status of 65 letters", item: statusIs("s", `"`+strings.Repeat("s", 65)+`"`), class: "status_too_long"},
	{name: "a status between spaces", item: statusIs("spaces", `" Failed\n"`), key: "spaces", status: "Failed"},
	{name: "a status in small letters", item: statusIs("small", `"failed"`), key: "small", status: "failed"},
	{name: "a date without a zone", item: requestedAt("d1", "2023-03-21T17:17:58"), key: "d1", status: "Success", requested: "2023-03-21 17:17:58.000000"},
	{name: "seven digits", item: requestedAt("d2", "2023-03-21T17:17:58.9235368Z"), key: "d2", status: "Success", requested: "2023-03-21 17:17:58.923536"},
	{name: "a year's last moment", item: requestedAt("d3", "2022-12-31T23:59:59.9999999Z"), key: "d3", status: "Success", requested: "2022-12-31 23:59:59.999999"},
	{name: ".NET's least date", item: requestedAt("d4", "0001-01-01T00:00:00"), key: "d4", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: ".NET's last date", item: requestedAt("d5", "9999-12-31T23:59:59.9999999"), key: "d5", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: "an offset without a colon", item: requestedAt("d6", "2023-03-21T17:17:58+0000"), key: "d6", status: "Success", requested: "2023-03-21 17:17:58.000000"},
	{name: "a space for T", item: requestedAt("d7", "2023-03-21 17:17:58"), key: "d7", status: "Success", requested: "2023-03-21 17:17:58.000000"},
	{name: "an epoch", item: record("d8", `"requestedOnUtc":1679419078,`), key: "d8", status: "Success", requested: "2023-03-21 17:17:58.000000"},
	{name: "/Date(…)/", item: requestedAt("d9", "/Date(1679419078923)/"), key: "d9", status: "Success", requested: "2023-03-21 17:17:58.923000"},
	{name: "a local date", item: requestedAt("d10", "21/03/2023 17:17:58"), key: "d10", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: "February 30", item: requestedAt("d11", "2023-02-30T00:00:00Z"), key: "d11", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: "second 60", item: requestedAt("d12", "2016-12-31T23:59:60Z"), key: "d12", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: "hour 24", item: requestedAt("d13", "2023-03-21T24:00:00Z"), key: "d13", status: "Success", flags: "requestedOnUtc:unusable"},
	{name: "completed before requested", item: record("d14", `"requestedOnUtc":"2023-03-21T17:17:58Z","completedOnUtc":"2023-03-21T17:17:57Z",`),
		key: "d14", status: "Success", requested: "2023-03-21 17:17:58.000000", flags: "completedOnUtc:before_requested"},
	{name: "years ahead", item: requestedAt("d15", "2999-01-01T00:00:00Z"), key: "d15", status: "Success", requested: "2999-01-01 00:00:00.000000", flags: "requestedOnUtc:far_future"},
	{name: "changes of 5 MiB", item: record("huge", `"changes":[`+strings.TrimSuffix(strings.Repeat(`{"type":"`+strings.Repeat("t", 1000)+`"},`, 5000), ",")+`],`),
		key: "huge", status: "Success", flags: "changes:cut:5000"},
	{name: "data of 2 MiB", item: record("data", `"data":"`+strings.Repeat("d", 2<<20)+`",`), key: "data", status: "Success"},
	{name: "no validation", item: record("v1", `"validation":null,`), key: "v1", status: "Success"},
	{name: "201 remarks", item: record("v2", `"validation":{"errors":[`+strings.TrimSuffix(strings.Repeat(`{"message":"m"},`, 201), ",")+`]},`), key: "v2", status: "Success", flags: "validation.errors:cut:201"},
	{name: "a validation nested 1,000 deep", item: record("v3", `"validation":`+strings.Repeat(`{"errors":`, 1000)+"1"+strings.Repeat("}", 1000)+","), class: "too_deep"},
	{name: "a message with escapes and markup", item: record("esc", `"errorMessage":"<b>'; drop table x; --\r\n\u001b[31m",`), key: "esc", status: "Success", message: "<b>'; drop table x; --\r\n\x1b[31m"},
	{name: "another company", item: strings.Replace(record("f", ""), asked, "00000000-0000-4000-8000-000000000000", 1), class: "foreign_company"},
	{name: "a company that is no UUID", item: strings.Replace(record("f", ""), asked, aside, 1), class: "foreign_company"},
	{name: "unknown fields", item: record("fields", `"":null,"data":{"a":[1]},"writeMode":7,`), key: "fields", status: "Success"},
}

func requestedAt(key, date string) string { return record(key, `"requestedOnUtc":"`+date+`",`) }

// noPages are answers to a list that are no page, rows 1 to 17 and 50 to 51. Each
// would be the whole history if it were believed.
func noPages(good string) []func(http.ResponseWriter) {
	whole := `{"results":[` + good + `],"pageSize":100,"_links":{}}`
	var all []func(http.ResponseWriter)
	for _, body := range []string{
		"", whole[:len(whole)-30], "[]", "null", `{}`, whole + "x", whole + whole, "\xff\xfe" + whole, "<html>" + bodyMark + "</html>",
		`{"results":null}`, `{"results":{}}`, strings.Replace(whole, `"pageSize":100`, `"totalResults":NaN`, 1),
	} {
		all = append(all, func(w http.ResponseWriter) { _, _ = w.Write([]byte(body)) })
	}
	return append(all,
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusPartialContent); _, _ = w.Write([]byte(whole)) },
		func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://elsewhere.example.com/")
			w.WriteHeader(http.StatusFound)
		},
		func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)+9))
			_, _ = w.Write([]byte(whole))
		},
	)
}

// badCodat answers the first lists of the asked company with what is no page, and
// from then on with the catalogue between good neighbours.
type badCodat struct {
	mu      sync.Mutex
	bad     []func(http.ResponseWriter)
	page    string
	before  func() // each list that is no page
	oddGets int    // gets of oddKey
}

func (c *badCodat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/companies/"), "/"); {
	case len(parts) == 3 && strings.HasSuffix(r.URL.Path, "/push/"+oddKey):
		c.oddGets++
		_, _ = w.Write([]byte(statusIs(oddKey, `"Pending"`)))
	case len(parts) == 3 && parts[2] == "torn":
		_, _ = w.Write([]byte(statusIs("torn", `"TimedOut"`)))
	case len(parts) == 3:
		w.WriteHeader(http.StatusNotFound)
	case parts[0] == aside:
		_, _ = w.Write([]byte(`{"results":[` + strings.ReplaceAll(record("Letters", ""), asked, aside) + `],"_links":{}}`))
	case len(c.bad) > 0:
		c.before()
		c.bad[0](w)
		c.bad = c.bad[1:]
	default:
		_, _ = w.Write([]byte(c.page))
	}
}

func goodKey(i int) string { return fmt.Sprintf("good-%03d", i) }

// TestEveryBadInputBetweenGoodNeighbours runs the program against all of them at
// once: nothing that is no page moves the company's progress, every good record
// lands, and every bad one is the row or in the quarantine that its line says.
func TestEveryBadInputBetweenGoodNeighbours(t *testing.T) {
	t.Parallel()
	var items []string
	for i, c := range catalogue {
		items = append(items, record(goodKey(i), ""), c.item)
	}
	items = append(items, record(goodKey(len(catalogue)), ""))
	api := &badCodat{page: `{"results":[` + strings.Join(items, ",") + `],"pageSize":500,"totalResults":-1,"_links":{}}`, bad: noPages(record("ghost", ""))}
	served := httptest.NewServer(api)
	t.Cleanup(served.Close)
	w := &world{databaseURL: server.URL(t), natsDir: t.TempDir(), key: "canary-5f3a9c", codatURL: served.URL, companies: []string{asked, aside}}
	var err error
	w.broker, err = embedded.StartNATS(embedded.NATSConfig{Dir: w.natsDir, Port: -1})
	require.NoError(t, err)
	t.Cleanup(w.broker.Stop)
	w.natsURL = w.broker.URL()
	w.makeStream(t)
	moved := fmt.Sprintf(`select count(*) from pushwatch.company where company_id = '%s' and (baselined or progress_at is not null)`, asked)
	api.before = func() { assert.Zero(t, w.query(t, moved), "an answer that was no page proves nothing") }

	cmd := program(t.Context(), t, w.environ("PUSHWATCH_POLL_PAGE_SIZE=500"), "run", "--http-listen", "127.0.0.1:0")
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	require.NoError(t, cmd.Start())
	require.Eventually(t, func() bool { return w.query(t, moved) == 1 }, 2*time.Minute, 500*time.Millisecond)
	require.Eventually(t, func() bool {
		api.mu.Lock()
		defer api.mu.Unlock()
		return api.oddGets > 0
	}, time.Minute, 500*time.Millisecond, "an unfinished operation is followed, whatever its key")
	require.Eventually(t, func() bool { return w.query(t, `select count(*) from pushwatch.outbox`) == 0 }, time.Minute, 500*time.Millisecond)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait(), w.log.String())

	rows := w.badRows(t)
	for i := range len(catalogue) + 1 {
		require.Contains(t, rows, goodKey(i))
		assert.Equal(t, badRecord{key: goodKey(i), status: "Success"}, rows[goodKey(i)], "beside %s", catalogue[min(i, len(catalogue)-1)].name)
		delete(rows, goodKey(i))
	}
	classes := map[string]int64{}
	for _, c := range catalogue {
		if c.class != "" {
			classes[c.class]++
			continue
		}
		want := c
		want.name, want.item = "", ""
		assert.Equal(t, want, rows[c.key], c.name)
		delete(rows, c.key)
	}
	assert.Empty(t, rows, "operations that nobody has")
	for class, n := range classes {
		assert.Equal(t, n, w.query(t, fmt.Sprintf(`select count(*) from pushwatch.quarantine where class = '%s'`, class)), class)
	}
	assert.Equal(t, int64(len(catalogue)+1+len(catalogue)-int(sum(classes))+1), w.query(t, `select count(*) from reporting.push_transitions where published_at is not null`),
		"each is in the stream once, the other company's of the same key too")
	assert.Equal(t, int64(2), w.query(t, `select count(*) from reporting.push_operations where push_operation_key = 'Letters'`), "a key is a company's own")
	w.checkEvents(t)
	w.checkSecrets(t)
	storetest.CheckInvariants(t, w.databaseURL)
	assert.NotContains(t, w.log.String(), bodyMark, "no body is logged")
	assert.NotContains(t, w.log.String(), "panic")
}

func sum(counts map[string]int64) (total int64) {
	for _, n := range counts {
		total += n
	}
	return total
}

// badRows reads the asked company's rows of the view, with the flags.
func (w *world) badRows(t *testing.T) map[string]badRecord {
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `
select v.push_operation_key, v.status, coalesce(v.status_code::text, ''), coalesce(v.error_message, ''),
       coalesce(to_char(v.requested_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS.US'), ''), o.flags
from reporting.push_operations v
join pushwatch.operation o using (company_id, push_operation_key)
where v.company_id = $1`, asked)
	require.NoError(t, err)
	all := map[string]badRecord{}
	var r badRecord
	var flags []string
	_, err = pgx.ForEachRow(rows, []any{&r.key, &r.status, &r.code, &r.message, &r.requested, &flags}, func() error {
		slices.Sort(flags)
		r.flags = strings.Join(flags, ",")
		all[r.key] = r
		return nil
	})
	require.NoError(t, err)
	return all
}
