package codat

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pushwatch/pushwatch/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	company = "8a210b68-6988-11ed-a1eb-0242ac120002"
	canary  = "canary-7f3a91-key"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// gate is a ledger of memory, which fails where a test says so.
type gate struct {
	mu       sync.Mutex
	asks     []push.Ask
	answers  []push.Answer
	admit    error
	settle   error
	onSettle func(context.Context)
	onAdmit  func()
}

var _ Gate = (*gate)(nil)

func (g *gate) Admit(_ context.Context, ask push.Ask) (push.Grant, error) {
	if g.onAdmit != nil {
		g.onAdmit()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.admit != nil {
		return push.Grant{}, g.admit
	}
	g.asks = append(g.asks, ask)
	return push.Grant{Ask: ask, Day: noon.Truncate(24 * time.Hour)}, nil
}

func (g *gate) Settle(ctx context.Context, _ push.Grant, answer push.Answer) error {
	if g.onSettle != nil {
		g.onSettle(ctx)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers = append(g.answers, answer)
	return g.settle
}

// settled returns the answers so far and requires one for every grant.
func (g *gate) settled(t require.TestingT) []push.Answer {
	g.mu.Lock()
	defer g.mu.Unlock()
	require.Len(t, g.answers, len(g.asks), "every grant is settled once")
	return slices.Clone(g.answers)
}

// serve starts a server on loopback and returns a client of it.
func serve(t testing.TB, handler http.HandlerFunc, change ...func(*Config)) (*Client, *gate) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	ledger := &gate{}
	config := Config{BaseURL: server.URL, Key: NewSecret(canary), Gate: ledger}
	for _, c := range change {
		c(&config)
	}
	client, err := New(config)
	require.NoError(t, err)
	return client, ledger
}

// answering is a handler that gives one body to everything.
func answering(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(body))
	}
}

// onlyPage walks a server that answers with body and returns its first page.
func onlyPage(t testing.TB, body string) (push.Page, error) {
	t.Helper()
	client, ledger := serve(t, answering(body))
	for page, err := range client.Walk(t.Context(), push.ListWalk{CompanyID: company, Purpose: push.ForDiscover}) {
		ledger.settled(t)
		return page, err
	}
	t.Fatal("a walk without a page or an error")
	return push.Page{}, nil
}

// kindOfError returns the Kind that an error carries.
func kindOfError(t require.TestingT, err error) push.Kind {
	var failed *push.AskError
	require.ErrorAs(t, err, &failed)
	return failed.Kind
}

// row is an operation on the fake server.
type row struct {
	key       string
	requested time.Time // zero: none is told
	pad       int       // bytes of error message, which stands before the key
	tail      int       // bytes of a field that stands behind everything
}

func rows(n int) []row {
	all := make([]row, n)
	for i := range all {
		all[i] = row{key: fmt.Sprintf("op-%05d", i), requested: noon.Add(time.Duration(i) * time.Second)}
	}
	return all
}

func (r row) json() json.RawMessage {
	record := map[string]any{"pushOperationKey": r.key, "companyId": company, "status": "Success", "statusCode": 200}
	if !r.requested.IsZero() {
		record["requestedOnUtc"] = r.requested.Format(time.RFC3339Nano)
	}
	if r.pad > 0 {
		record["errorMessage"] = strings.Repeat("0", r.pad)
	}
	if r.tail > 0 {
		record["zero"] = strings.Repeat("0", r.tail)
	}
	encoded, err := json.Marshal(record)
	if err != nil {
		panic(err)
	}
	return encoded
}

// codatList is a list_operations that a test can bend.
type codatList struct {
	mu       sync.Mutex
	rows     []row // in the order of their making
	maxSize  int   // to which sizes are clamped; 0: 5000
	minSize  int
	refuses  bool // orderBy with 400
	ignores  bool // orderBy: oldest first
	before   func(request int, l *codatList)
	answer   func(request int, w http.ResponseWriter) bool // true: it answered itself
	noLinks  bool
	noSize   bool
	extra    bool // one record more on each page than its size
	stuck    bool // gives page 1 whatever is asked
	queries  []string
	requests int
}

func (l *codatList) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.queries = append(l.queries, r.URL.RawQuery)
	if l.before != nil {
		l.before(l.requests, l)
	}
	if l.answer != nil && l.answer(l.requests, w) {
		return
	}
	query := r.URL.Query()
	if l.refuses && query.Has("orderBy") {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = w.Write([]byte(`{"statusCode":400,"error":"orderBy is not supported","correlationId":"c-1"}`))
		return
	}
	page, _ := strconv.Atoi(query.Get("page"))
	size, _ := strconv.Atoi(query.Get("pageSize"))
	size = max(size, l.minSize)
	if l.maxSize > 0 {
		size = min(size, l.maxSize)
	}
	if l.stuck {
		page = 1
	}
	ordered := slices.Clone(l.rows)
	if query.Get("orderBy") == "-requestedOnUtc" && !l.ignores {
		sort.SliceStable(ordered, func(i, j int) bool { return ordered[i].requested.After(ordered[j].requested) })
	}
	from := min((page-1)*size, len(ordered))
	to := min(from+size, len(ordered))
	results := []json.RawMessage{}
	for _, r := range ordered[from:to] {
		results = append(results, r.json())
	}
	if l.extra {
		results = append(results, json.RawMessage(fmt.Sprintf(`{"status":%d}`, l.requests)))
	}
	links := map[string]any{"self": map[string]string{"href": "/companies"}}
	if to < len(ordered) || l.stuck {
		links["next"] = map[string]string{"href": "https://example.com/elsewhere"}
	}
	told := map[string]any{"results": results, "pageNumber": page, "pageSize": size, "totalResults": -7, "_links": links}
	if l.noLinks {
		delete(told, "_links")
	}
	if l.noSize {
		delete(told, "pageSize")
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(told)
}

// walked is what a walk gave.
type walked struct {
	pages []push.Page
	keys  []string // as seen, with repetition
	aside []push.Quarantined
	err   error
}

// walk reads a list to its end and checks what holds of every walk.
func (l *codatList) walk(t testing.TB, client *Client, list push.ListWalk) walked {
	t.Helper()
	list.CompanyID, list.Purpose = company, push.ForSweep
	var got walked
	for page, err := range client.Walk(t.Context(), list) {
		if got.err = err; err != nil {
			break
		}
		got.pages = append(got.pages, page)
		for _, row := range page.Rows {
			got.keys = append(got.keys, row.Key)
		}
		got.aside = append(got.aside, page.Quarantined...)
	}
	for i, page := range got.pages {
		final := i == len(got.pages)-1 && got.err == nil
		require.Equal(t, final, page.Last, "Last of page %d of %d", i+1, len(got.pages))
	}
	return got
}

func (w walked) distinct() []string {
	keys := slices.Clone(w.keys)
	slices.Sort(keys)
	return slices.Compact(keys)
}

func keysOf(all []row) []string {
	keys := []string{}
	for _, r := range all {
		keys = append(keys, r.key)
	}
	slices.Sort(keys)
	return keys
}
