package codatsim

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFollowingNextLinksShowsEveryOperationOnceInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		query      string
		size       int
		newestLast bool
	}{
		"newest first when asked":       {"?pageSize=30&" + newest, 30, false},
		"oldest first when asked":       {"?pageSize=30&orderBy=requestedOnUtc", 30, true},
		"oldest first when nobody asks": {"", 100, true},
		"pages are cut to the maximum":  {"?pageSize=9999", 120, true},
	} {
		t.Run(name, func(t *testing.T) {
			sim, _ := world(t, Config{Seed: 2, History: 257, MaxPageSize: 120})
			var got []string
			next, number := pushPath(sim)+c.query, 0
			for next != "" {
				p := readPage(t, knock(sim, next).Body.Bytes())
				number++
				assert.Equal(t, number, p.Number)
				assert.Equal(t, c.size, p.Size)
				assert.Equal(t, 257, p.Total)
				assert.LessOrEqual(t, len(p.Results), c.size)
				_, hasPrevious := p.Links["previous"]
				assert.Equal(t, number > 1, hasPrevious)
				got = append(got, keys(p.rows(t))...)
				next = p.Links["next"].Href
			}
			var want []string
			for _, op := range sim.Truth() {
				want = append(want, op.Key)
			}
			if !c.newestLast {
				slices.Reverse(want)
			}
			assert.Equal(t, want, got)
		})
	}
}

func TestAPageBeyondTheEndIsEmpty(t *testing.T) {
	sim, _ := world(t, Config{History: 3})
	p := readPage(t, knock(sim, pushPath(sim)+"?page=7").Body.Bytes())
	assert.NotNil(t, p.Results, "an empty list is not null")
	assert.Empty(t, p.Results)
	assert.NotContains(t, p.Links, "next")
}

func TestOperationsHaveTheDocumentedFields(t *testing.T) {
	required := []string{"companyId", "pushOperationKey", "dataConnectionKey", "status", "statusCode", "requestedOnUtc"}
	nullable := []string{"dataType", "completedOnUtc", "timeoutInMinutes", "timeoutInSeconds", "errorMessage", "validation", "changes"}
	sim, _ := world(t, Config{Seed: 6, History: 3000})
	connections := map[any]bool{}
	for _, connection := range sim.Connections(sim.companies[0].ID) {
		connections[connection.ID] = true
	}
	count := map[string]int{}
	for _, raw := range readPage(t, knock(sim, pushPath(sim)+"?pageSize=5000").Body.Bytes()).Results {
		var op map[string]any
		require.NoError(t, json.Unmarshal(raw, &op))
		for _, name := range required {
			require.NotNil(t, op[name], "%s in %s", name, raw)
		}
		for _, name := range nullable {
			require.Contains(t, op, name)
		}
		require.Len(t, op, len(required)+len(nullable))
		require.True(t, connections[op["dataConnectionKey"]])
		status := op["status"].(string)
		count[status]++
		if op["dataType"] == nil {
			count["null data type"]++
		}
		switch status {
		case Pending:
			require.Nil(t, op["completedOnUtc"])
			require.Nil(t, op["errorMessage"])
			require.EqualValues(t, 202, op["statusCode"])
		case Success:
			change := op["changes"].([]any)[0].(map[string]any)
			require.NotEmpty(t, change["type"])
			require.NotEmpty(t, change["recordRef"].(map[string]any)["id"])
			require.NotNil(t, op["completedOnUtc"])
			require.EqualValues(t, 200, op["statusCode"])
		case Failed:
			require.EqualValues(t, 400, op["statusCode"])
			require.Contains(t, op["errorMessage"], "Failed to push")
			first := op["validation"].(map[string]any)["errors"].([]any)[0].(map[string]any)
			require.NotContains(t, first["message"], "%!", "a text with a hole in it")
			require.NotEmpty(t, first["validatorName"])
		case TimedOut:
			require.NotNil(t, op["timeoutInMinutes"])
			require.Contains(t, op["errorMessage"], "did not complete")
		}
	}
	for _, what := range []string{Pending, Success, Failed, TimedOut, "null data type"} {
		assert.Positive(t, count[what], what)
	}
}

func TestGetAnswersWithTheObjectOfTheList(t *testing.T) {
	sim, _ := world(t, Config{History: 50})
	for _, raw := range readPage(t, knock(sim, pushPath(sim)).Body.Bytes()).Results {
		var r row
		require.NoError(t, json.Unmarshal(raw, &r))
		assert.JSONEq(t, string(raw), knock(sim, pushPath(sim)+"/"+r.Key).Body.String())
	}
}

func TestKeysOfAnyShapeCanBeAskedFor(t *testing.T) {
	sim, _ := world(t, Config{})
	for _, key := range []string{"..", "a/b", "a b", "ä%2F", "*.>"} {
		_, err := sim.Add(Operation{CompanyID: sim.companies[0].ID, Key: key})
		require.NoError(t, err)
		path := pushPath(sim) + "/" + strings.NewReplacer("/", "%2F", " ", "%20", "%", "%25").Replace(key)
		w := knock(sim, path)
		assert.Equal(t, 200, w.Code, "%s: %s", path, w.Body)
	}
}

func TestRefusalsHaveCodatsErrorBody(t *testing.T) {
	sim, _ := world(t, Config{History: 1})
	company := sim.companies[0].ID
	connection := sim.Connections(company)[0].ID
	wrongKey := func(r *http.Request) { r.SetBasicAuth(DefaultKey, "") }
	post := func(r *http.Request) { r.Method = http.MethodPost }
	for name, c := range map[string]struct {
		path   string
		change func(*http.Request)
		status int
	}{
		"no key":                       {pushPath(sim), func(r *http.Request) { r.Header.Del("Authorization") }, 401},
		"a key with a colon behind it": {pushPath(sim), wrongKey, 401},
		"an unknown company":           {"/companies/nobody/push", nil, 404},
		"an unknown operation":         {pushPath(sim) + "/nothing", nil, 404},
		"an unknown connection":        {"/companies/" + company + "/connections/none/options/bills", nil, 404},
		"an unsupported data type":     {"/companies/" + company + "/connections/" + connection + "/options/balanceSheet", nil, 404},
		"a path of no request":         {"/companies", nil, 404},
		"a page of no number":          {pushPath(sim) + "?page=one", nil, 400},
		"page 0":                       {pushPath(sim) + "?page=0", nil, 400},
		"a page size below one":        {pushPath(sim) + "?pageSize=-5", nil, 400},
		"a page that would overflow":   {pushPath(sim) + "?page=9223372036854775807", nil, 400},
		"an order of no field":         {pushPath(sim) + "?orderBy=colour", nil, 400},
		"another method":               {pushPath(sim), post, 405},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, c.path, nil)
			r.Header.Set("Authorization", "Basic Y29kYXRzaW0=") // base64 of "codatsim"
			if c.change != nil {
				c.change(r)
			}
			w := httptest.NewRecorder()
			sim.ServeHTTP(w, r)
			assert.Equal(t, c.status, w.Code)
			var body map[string]any
			require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
			assert.EqualValues(t, c.status, body["statusCode"])
			assert.Regexp(t, "^[0-9a-f]{32}$", body["correlationId"])
			assert.NotEmpty(t, body["error"])
			assert.Contains(t, []any{"True", "False"}, body["canBeRetried"])
			assert.NotEmpty(t, w.Header().Get("X-Rate-Limit-Limit"))
		})
	}
}

func TestOptionsAreATreeOfKnownTypes(t *testing.T) {
	sim, _ := world(t, Config{})
	company := sim.companies[0].ID
	connections := sim.Connections(company)
	ask := func(connection Connection, dataType string) []byte {
		w := knock(sim, "/companies/"+company+"/connections/"+connection.ID+"/options/"+dataType)
		require.Equal(t, 200, w.Code)
		return w.Body.Bytes()
	}
	leaves := 0
	var walk func(o option)
	walk = func(o option) {
		assert.Contains(t, []string{"Array", "Object", "String", "Number", "Boolean", "DateTime", "File", "MultiPart"}, o.Type)
		assert.NotEmpty(t, o.DisplayName)
		for _, child := range o.Properties {
			walk(child)
		}
		if o.Properties == nil {
			leaves++
		}
	}
	for _, dataType := range []string{"invoices", "bills", "journalEntries", "customers"} {
		var root option
		require.NoError(t, json.Unmarshal(ask(connections[0], dataType), &root))
		walk(root)
	}
	assert.Greater(t, leaves, 20)
	assert.NotEqual(t, ask(connections[0], "bills"), ask(connections[1], "bills"), "accounts are the connection's own")
}

func TestTheDaysQuotaIsCountedAndBinds(t *testing.T) {
	sim, clock := world(t, Config{DayLimit: 3})
	for remaining := 2; remaining >= 0; remaining-- {
		w := knock(sim, pushPath(sim))
		assert.Equal(t, 200, w.Code)
		assert.Equal(t, "3", w.Header().Get("X-Rate-Limit-Limit"))
		assert.Equal(t, strconv.Itoa(remaining), w.Header().Get("X-Rate-Limit-Remaining"))
		assert.Equal(t, "Wed, 18 Mar 2026 00:00:00 GMT", w.Header().Get("X-Rate-Limit-Reset"))
	}
	w := knock(sim, pushPath(sim))
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, strconv.Itoa(12*60*60), w.Header().Get("Retry-After"))
	assert.Zero(t, sim.Stats().Early)
	clock.pass(time.Hour)
	knock(sim, pushPath(sim))
	assert.Equal(t, 1, sim.Stats().Early, "one came before the end of Retry-After")

	clock.pass(11 * time.Hour)
	assert.Equal(t, 200, knock(sim, pushPath(sim)).Code, "a new day")
	sim.Spend(2)
	assert.Equal(t, 429, knock(sim, pushPath(sim)).Code, "others spend from the same quota")
	stats := sim.Stats()
	assert.Equal(t, map[string]int{"2026-03-17": 5, "2026-03-18": 2}, stats.ByDay)
	assert.Equal(t, map[int]int{200: 4, 429: 3}, stats.ByStatus)
	assert.Equal(t, map[string]int{"day": 3}, stats.Throttled)
	assert.Equal(t, 1, stats.Early)
	assert.Equal(t, 3, stats.Charged)
}

func TestTheDefaultQuotaGrowsWithTheCompanies(t *testing.T) {
	sim, _ := world(t, Config{Companies: MakeCompanies(1, 4)})
	assert.Equal(t, "5000", knock(sim, pushPath(sim)).Header().Get("X-Rate-Limit-Limit"))
}

func TestTheMinutesLimitBinds(t *testing.T) {
	sim, clock := world(t, Config{MinuteLimit: 2})
	clock.pass(45 * time.Second)
	knock(sim, pushPath(sim))
	knock(sim, pushPath(sim))
	w := knock(sim, pushPath(sim))
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, "15", w.Header().Get("Retry-After"))
	clock.pass(15 * time.Second)
	assert.Equal(t, 200, knock(sim, pushPath(sim)).Code)
	stats := sim.Stats()
	assert.Equal(t, map[string]int{"2026-03-17T12:00": 3, "2026-03-17T12:01": 1}, stats.ByMinute)
	assert.Zero(t, stats.Early)
}

func TestASimulatorThatRunsForEverForgetsOldDaysAndMinutes(t *testing.T) {
	sim, clock := world(t, Config{})
	for range 26 * 60 {
		knock(sim, pushPath(sim))
		clock.pass(time.Minute)
	}
	stats := sim.Stats()
	assert.Len(t, stats.ByMinute, 24*60)
	assert.Contains(t, stats.ByMinute, "2026-03-18T13:59")
	assert.Len(t, stats.ByDay, 2)
	for range 40 {
		knock(sim, pushPath(sim))
		clock.pass(24 * time.Hour)
	}
	stats = sim.Stats()
	assert.Len(t, stats.ByDay, 31)
	assert.Len(t, stats.ByMinute, 1)
	assert.Equal(t, 26*60+40, stats.Requests)
}

func TestTenRequestsAtOncePerCompany(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	sim, _ := world(t, Config{Companies: MakeCompanies(1, 2), Hook: func(req Request) {
		if req.Page == 1 {
			entered <- struct{}{}
			<-leave
		}
	}})
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { knock(sim, pushPath(sim)) })
		<-entered
	}
	w := knock(sim, pushPath(sim)+"?page=2")
	assert.Equal(t, 429, w.Code)
	assert.Equal(t, "1", w.Header().Get("Retry-After"))
	other := sim.companies[1].ID
	assert.Equal(t, 200, knock(sim, "/companies/"+other+"/push?page=2").Code, "another company has ten of its own")
	close(leave)
	group.Wait()
	assert.Equal(t, 200, knock(sim, pushPath(sim)+"?page=2").Code)
	assert.Equal(t, map[string]int{sim.companies[0].ID: 11, other: 1}, sim.Stats().MaxConcurrent)
}

func TestManyClientsAtOnce(t *testing.T) {
	sim, err := New(Config{Seed: 1, Companies: MakeCompanies(1, 3), Rate: 6000, History: 500, MinuteLimit: 1 << 30, ConcurrentLimit: 1 << 30,
		Faults: []Rule{{Fault: Shift, Chance: 0.3, N: 2}, {Fault: StaleRow, Chance: 0.3}, {Fault: NullItem, Chance: 0.2}}})
	require.NoError(t, err)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			company := sim.companies[worker%3].ID
			for i := range 40 {
				w := knock(sim, "/companies/"+company+"/push?"+newest+"&pageSize=50&page="+strconv.Itoa(1+i%3))
				assert.Equal(t, 200, w.Code)
				if key, err := sim.Add(Operation{CompanyID: company}); assert.NoError(t, err) {
					assert.Equal(t, 200, knock(sim, "/companies/"+company+"/push/"+key).Code)
					assert.NoError(t, sim.Set(company, key, Failed))
				}
				sim.Stats()
				sim.Faults()
			}
		})
	}
	group.Wait()
	sim.Freeze()
	truth := sim.Truth()
	distinct := map[string]bool{}
	for _, op := range truth {
		distinct[op.Key] = true
	}
	assert.Len(t, distinct, len(truth))
	assert.GreaterOrEqual(t, len(truth), 3*500+8*40)
	assert.Equal(t, 8*80, sim.Stats().Requests)
}

// eagerClient asks again as soon as the first byte of an answer has arrived.
type eagerClient struct {
	*httptest.ResponseRecorder
	arrived func()
}

func (c eagerClient) Write(part []byte) (int, error) {
	c.arrived()
	return c.ResponseRecorder.Write(part)
}

func TestAnAnsweredRequestHoldsNoPlace(t *testing.T) {
	sim, _ := world(t, Config{History: 5, ConcurrentLimit: 1})
	var second int
	r := httptest.NewRequest(http.MethodGet, pushPath(sim), nil)
	r.Header.Set("Authorization", sim.authority)
	sim.ServeHTTP(eagerClient{httptest.NewRecorder(), func() { second = knock(sim, pushPath(sim)).Code }}, r)
	assert.Equal(t, 200, second)
	assert.Equal(t, 1, sim.Stats().MaxConcurrent[sim.companies[0].ID])
}
