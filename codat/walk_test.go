package codat

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/push"
)

// asked returns page, size and order of each request so far.
func (l *codatList) asked(t testing.TB) []string {
	var all []string
	for _, raw := range l.queries {
		query, err := url.ParseQuery(raw)
		require.NoError(t, err)
		order := ""
		if query.Has("orderBy") {
			require.Equal(t, "-requestedOnUtc", query.Get("orderBy"))
			order = " ordered"
		}
		require.Empty(t, query["query"])
		all = append(all, query.Get("page")+"/"+query.Get("pageSize")+order)
	}
	return all
}

func ordered(pages []push.Page) []bool {
	var all []bool
	for _, page := range pages {
		all = append(all, page.Ordered)
	}
	return all
}

func TestAWalkReadsEveryPageNewestFirst(t *testing.T) {
	list := &codatList{rows: rows(7)}
	client, ledger := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{FirstPage: 1, PageSize: 3})
	require.NoError(t, got.err)
	assert.Equal(t, []string{"op-00006", "op-00005", "op-00004", "op-00003", "op-00002", "op-00001", "op-00000"}, got.keys)
	assert.Equal(t, []string{"1/3 ordered", "2/3 ordered", "3/3 ordered"}, list.asked(t))
	assert.Equal(t, []bool{true, true, true}, ordered(got.pages))
	assert.Len(t, ledger.settled(t), 3)
	for i, page := range got.pages {
		assert.Equal(t, i+1, page.Number)
		assert.Equal(t, 3, page.Size)
		assert.Equal(t, push.FromList, page.Source)
		assert.False(t, page.FinishedAt.Before(page.StartedAt))
	}
	for _, ask := range ledger.asks {
		assert.Equal(t, push.Ask{Request: push.ListOperations, CompanyID: company, Purpose: push.ForSweep}, ask)
	}
}

func TestAWalkStopsAskingWhenItsConsumerStops(t *testing.T) {
	list := &codatList{rows: rows(9)}
	client, ledger := serve(t, list.ServeHTTP)
	for page, err := range client.Walk(t.Context(), push.ListWalk{CompanyID: company, PageSize: 3}) {
		require.NoError(t, err)
		if page.Number == 2 {
			break
		}
	}
	assert.Len(t, ledger.settled(t), 2)
}

func TestAWalkCanBeWalkedAgain(t *testing.T) {
	list := &codatList{rows: rows(5)}
	client, _ := serve(t, list.ServeHTTP)
	pages := client.Walk(t.Context(), push.ListWalk{CompanyID: company, PageSize: 3})
	for range 3 {
		n := 0
		for page, err := range pages {
			require.NoError(t, err)
			n += len(page.Rows)
		}
		assert.Equal(t, 5, n)
	}
}

func TestAWalkBeginsWhereItIsTold(t *testing.T) {
	list := &codatList{rows: rows(9)}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{FirstPage: 3, PageSize: 2})
	require.NoError(t, got.err)
	assert.Equal(t, []string{"3/2 ordered", "4/2 ordered", "5/2 ordered"}, list.asked(t))
	assert.Len(t, got.keys, 5)
}

func TestPageSizesAreKeptInBounds(t *testing.T) {
	for size, want := range map[int]string{-1: "1/100 ordered", 0: "1/100 ordered", 1: "1/1 ordered", 5000: "1/5000 ordered", 9999: "1/5000 ordered"} {
		list := &codatList{rows: rows(1)}
		client, _ := serve(t, list.ServeHTTP)
		require.NoError(t, list.walk(t, client, push.ListWalk{FirstPage: -3, PageSize: size}).err)
		assert.Equal(t, []string{want}, list.asked(t))
	}
}

func TestOrderIsVerified(t *testing.T) {
	at := func(seconds ...int) []row {
		var all []row
		for i, s := range seconds {
			r := row{key: string(rune('a' + i))}
			if s >= 0 {
				r.requested = noon.Add(time.Duration(s) * time.Second)
			}
			all = append(all, r)
		}
		return all
	}
	for _, c := range []struct {
		name string
		rows []row // as served, two a page
		want []bool
	}{
		{"newest first", at(9, 8, 7, 6), []bool{true, true}},
		{"with equal times among them", at(9, 8, 8, 6), []bool{true, true}},
		{"oldest first", at(6, 7, 8, 9), []bool{false, false}},
		{"one rise within a page is for ever", at(9, 8, 6, 7, 5, 4), []bool{true, false, false}},
		{"a rise across the border of pages is for ever", at(7, 6, 9, 8, 5, 4), []bool{true, false, false}},
		{"equal times prove nothing", at(9, 9, 9, 9), []bool{false, false}},
		{"a proof may come later", at(9, 9, 8, 8), []bool{false, true}},
		{"one row a page proves itself across the border", at(9, -1, 8, -1), []bool{false, true}},
		{"rows without a time take no part", at(9, -1, -1, 8, 7, -1), []bool{false, true, true}},
		{"rows without a time do not hide a rise", at(8, -1, -1, 9), []bool{false, false}},
		{"no times at all", at(-1, -1, -1), []bool{false, false}},
		{"a rise to a record of an earlier page is one within a page", append(at(9, 8, 7), at(9)...), []bool{true, false}},
		{"a record of an earlier page on top of a page is none", append(at(9, 8), at(-1, 8, 7)[1:]...), []bool{true, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := &codatList{rows: c.rows, ignores: true} // ignores: as they stand
			client, _ := serve(t, list.ServeHTTP)
			got := list.walk(t, client, push.ListWalk{PageSize: 2})
			require.NoError(t, got.err)
			assert.Equal(t, c.want, ordered(got.pages))
			assert.Len(t, got.keys, len(c.rows), "every page is read")
		})
	}
}

func TestRowsThatArriveBetweenPagesDoNotBreakTheOrder(t *testing.T) {
	for _, arriving := range []int{1, 2, 3} {
		all := rows(60)
		list := &codatList{rows: all[:20]}
		next := 20
		list.before = func(request int, l *codatList) {
			if request > 1 && request < 6 { // page by page the rows move on
				l.rows = all[:next+arriving]
				next += arriving
			}
		}
		client, _ := serve(t, list.ServeHTTP)
		got := list.walk(t, client, push.ListWalk{PageSize: 5})
		require.NoError(t, got.err)
		assert.Subset(t, got.distinct(), keysOf(all[:20]), "none that was there at the start is missed")
		assert.NotContains(t, ordered(got.pages), false, "%d rows arrive between pages", arriving)
	}
}

func TestAWholePageOfNewRowsInOneGoIsNoEndlessList(t *testing.T) {
	all := rows(15)
	list := &codatList{rows: all[:10]}
	list.before = func(request int, l *codatList) {
		if request == 2 {
			l.rows = all // page 2 is now what page 1 was
		}
	}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 5})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(all[:10]), got.distinct())
	assert.Len(t, got.pages, 3)
}

// A walk may pause between two pages for as long as Codat says, while a company
// pushes on: everything that was read stands on the next pages then.
func TestAPauseInWhichManyRowsArriveIsNoEndlessList(t *testing.T) {
	all := rows(60)
	list := &codatList{rows: all[:30]}
	list.before = func(request int, l *codatList) {
		if request == 5 {
			l.rows = all[:30+20]
		}
	}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 5})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(all[:30]), got.distinct())
	assert.Len(t, got.pages, 10)
}

func TestARefusedOrderIsNotAskedAgainForAnHour(t *testing.T) {
	now := noon
	list := &codatList{rows: rows(5), refuses: true}
	client, ledger := serve(t, list.ServeHTTP, func(c *Config) { c.Now = func() time.Time { return now } })
	walk := func() []string {
		list.queries = nil
		got := list.walk(t, client, push.ListWalk{PageSize: 3})
		require.NoError(t, got.err)
		assert.Len(t, got.distinct(), 5)
		assert.Equal(t, []bool{false, false}, ordered(got.pages))
		return list.asked(t)
	}
	assert.Equal(t, []string{"1/3 ordered", "1/3", "2/3"}, walk())
	now = noon.Add(time.Hour - 1)
	assert.Equal(t, []string{"1/3", "2/3"}, walk())
	now = noon.Add(time.Hour)
	assert.Equal(t, []string{"1/3 ordered", "1/3", "2/3"}, walk())
	assert.Len(t, ledger.settled(t), 8, "the refused requests are counted too")

	other, _ := list.firstRequestOf(t, client, "another")
	assert.Equal(t, "1/100 ordered", other, "another company's list is not this one's")
}

func (l *codatList) firstRequestOf(t testing.TB, client *Client, companyID string) (string, error) {
	l.queries = nil
	var failed error
	for _, failed = range client.Walk(t.Context(), push.ListWalk{CompanyID: companyID}) {
		break
	}
	return l.asked(t)[0], failed
}

func TestOrderHeldWithoutBeingAskedIsNotOrdered(t *testing.T) {
	newestFirst := rows(6)
	slices.Reverse(newestFirst)
	list := &codatList{rows: newestFirst, refuses: true}
	client, _ := serve(t, list.ServeHTTP)
	assert.Equal(t, []bool{false, false}, ordered(list.walk(t, client, push.ListWalk{PageSize: 3}).pages))
}

func TestA400ThatHasAnotherCauseIsNotTakenForTheOrder(t *testing.T) {
	bad := true
	list := &codatList{rows: rows(5), answer: func(_ int, w http.ResponseWriter) bool {
		if bad {
			w.WriteHeader(400)
		}
		return bad
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 3})
	assert.Equal(t, push.KindRefused, kindOfError(t, got.err))
	assert.Equal(t, []string{"1/3 ordered", "1/3"}, list.asked(t), "tried without the order, once")

	bad, list.queries = false, nil
	require.NoError(t, list.walk(t, client, push.ListWalk{PageSize: 3}).err)
	assert.Equal(t, []string{"1/3 ordered", "2/3 ordered"}, list.asked(t), "and the order is asked for again")
}

func TestA400LaterInAWalkEndsIt(t *testing.T) {
	list := &codatList{rows: rows(9), answer: func(request int, w http.ResponseWriter) bool {
		if request == 2 {
			w.WriteHeader(400)
		}
		return request == 2
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 3})
	assert.Equal(t, push.KindRefused, kindOfError(t, got.err))
	assert.ErrorContains(t, got.err, "page 2: ")
	assert.Len(t, got.pages, 1)
}

func TestErrorsEndAWalk(t *testing.T) {
	for status, kind := range map[int]push.Kind{401: push.KindUnauthorised, 404: push.KindNotFound, 429: push.KindThrottled, 422: push.KindRefused, 500: push.KindUnavailable, 302: push.KindRedirected} {
		list := &codatList{rows: rows(9), answer: func(request int, w http.ResponseWriter) bool {
			if request == 3 {
				w.WriteHeader(status)
			}
			return request == 3
		}}
		client, ledger := serve(t, list.ServeHTTP)
		got := list.walk(t, client, push.ListWalk{PageSize: 3})
		assert.Equal(t, kind, kindOfError(t, got.err))
		assert.Len(t, got.pages, 2)
		assert.Len(t, ledger.settled(t), 3, "the client does not try again by itself")
	}
}

func TestTheSizeThatTheServerGrantsIsUsedFromThenOn(t *testing.T) {
	list := &codatList{rows: rows(100), maxSize: 40}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 5000})
	require.NoError(t, got.err)
	assert.Equal(t, []string{"1/5000 ordered", "2/40 ordered", "3/40 ordered"}, list.asked(t))
	assert.Len(t, got.keys, 100)
	assert.Equal(t, 40, got.pages[0].Size)
}

func TestAPageThatHoldsMoreThanItsSizeDoesNotMoveTheNextOne(t *testing.T) {
	for _, c := range []struct {
		maxSize, minSize int
		asked            []string
	}{
		{asked: []string{"1/10 ordered", "2/10 ordered", "3/10 ordered"}},
		{maxSize: 8, asked: []string{"1/10 ordered", "2/8 ordered", "3/8 ordered", "4/8 ordered"}},
		{minSize: 15, asked: []string{"1/10 ordered", "2/15 ordered"}},
	} {
		list := &codatList{rows: rows(30), extra: true, maxSize: c.maxSize, minSize: c.minSize}
		client, _ := serve(t, list.ServeHTTP)
		got := list.walk(t, client, push.ListWalk{PageSize: 10})
		require.NoError(t, got.err)
		assert.Equal(t, keysOf(list.rows), got.distinct())
		assert.Equal(t, c.asked, list.asked(t))
	}
}

func TestAServerThatGrantsLessFromSomePageOnHidesNoRow(t *testing.T) {
	list := &codatList{rows: rows(30), before: func(request int, l *codatList) {
		if request == 3 {
			l.maxSize = 4
		}
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 10})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(list.rows), got.distinct())
	assert.Equal(t, []string{"1/10 ordered", "2/10 ordered", "3/10 ordered", "6/4 ordered", "7/4 ordered", "8/4 ordered"}, list.asked(t))
	assert.NotContains(t, ordered(got.pages), false)
}

func TestAServerThatGrantsMoreFromSomePageOnHidesNoRow(t *testing.T) {
	list := &codatList{rows: rows(100), before: func(request int, l *codatList) {
		if request == 3 {
			l.minSize = 25
		}
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 10})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(list.rows), got.distinct())
}

func TestAPageBeyondAGapIsNotTheLast(t *testing.T) {
	list := &codatList{rows: rows(75), before: func(request int, l *codatList) {
		if request == 3 {
			l.minSize = 25 // page 3 is now rows 50 to 74, the end, and 20 to 49 are unread
		}
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 10})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(list.rows), got.distinct())
}

func TestABodyOverTheLimitIsAskedInSmallerPagesWithoutSkippingARow(t *testing.T) {
	all := rows(40)
	for i := range all {
		if i < 20 { // the older half, so that it happens in mid-walk
			all[i].pad = 20_000
		}
	}
	list := &codatList{rows: all}
	client, ledger := serve(t, list.ServeHTTP)
	client.maxListBody = 100_000
	got := list.walk(t, client, push.ListWalk{PageSize: 15})
	require.NoError(t, got.err)
	assert.Equal(t, keysOf(all), got.distinct())
	assert.Equal(t, []string{"1/15 ordered", "2/15 ordered", "3/7 ordered", "4/7 ordered", "8/3 ordered"}, list.asked(t)[:5])
	assert.NotContains(t, ordered(got.pages), false)
	tooLarge := 0
	for _, answer := range ledger.settled(t) {
		assert.Equal(t, 200, answer.Status)
	}
	for _, page := range got.pages {
		if page.Size < 15 {
			tooLarge++
		}
	}
	assert.Positive(t, tooLarge)
}

func TestEvenHalvesContinueAtTheSameRow(t *testing.T) {
	all := rows(16)
	for i := range all {
		all[i].pad = 30_000
	}
	list := &codatList{rows: all}
	client, _ := serve(t, list.ServeHTTP)
	client.maxListBody = 160_000
	got := list.walk(t, client, push.ListWalk{FirstPage: 2, PageSize: 8})
	require.NoError(t, got.err)
	assert.Equal(t, []string{"2/8 ordered", "3/4 ordered", "4/4 ordered"}, list.asked(t), "page n of s begins where page 2n-1 of s/2 does")
	assert.Equal(t, keysOf(all[:8]), got.distinct())
}

func empty(next bool) string {
	if next {
		return `{"results":[],"pageSize":3,"_links":{"next":{"href":"/x"}}}`
	}
	return `{"results":[],"pageSize":3,"_links":{}}`
}

func TestEmptyPages(t *testing.T) {
	for _, c := range []struct {
		name     string
		rows     int
		empty    map[int]bool // by request: an empty page, with a next link or not
		requests int
		keys     int
	}{
		{name: "no operations at all", requests: 1},
		{name: "an empty page in the middle is stepped over", rows: 9, empty: map[int]bool{2: true}, requests: 3, keys: 6},
		{name: "two in a row end the list", rows: 9, empty: map[int]bool{2: true, 3: true}, requests: 3, keys: 3},
		{name: "two that are not in a row do not", rows: 12, empty: map[int]bool{1: true, 3: true}, requests: 4, keys: 6},
		{name: "one without a next link ends the list", rows: 9, empty: map[int]bool{2: false}, requests: 2, keys: 3},
		{name: "the first two end a list too", rows: 9, empty: map[int]bool{1: true, 2: true}, requests: 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := &codatList{rows: rows(c.rows), answer: func(request int, w http.ResponseWriter) bool {
				next, is := c.empty[request]
				if is {
					_, _ = w.Write([]byte(empty(next)))
				}
				return is
			}}
			client, _ := serve(t, list.ServeHTTP)
			got := list.walk(t, client, push.ListWalk{PageSize: 3}) // checks Last
			require.NoError(t, got.err)
			assert.Len(t, list.queries, c.requests)
			assert.Len(t, got.keys, c.keys)
		})
	}
}

func TestWithoutLinksAListEndsAtTheFirstPageThatIsNotFull(t *testing.T) {
	for n, requests := range map[int]int{0: 1, 2: 1, 3: 2, 4: 2, 6: 3} {
		list := &codatList{rows: rows(n), noLinks: true}
		client, _ := serve(t, list.ServeHTTP)
		got := list.walk(t, client, push.ListWalk{PageSize: 3})
		require.NoError(t, got.err)
		assert.Len(t, got.keys, n)
		assert.Len(t, list.queries, requests, "%d rows", n)
	}
}

func TestAServerThatRepeatsItselfEndsTheWalkAsMalformed(t *testing.T) {
	list := &codatList{rows: rows(9), stuck: true}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 3})
	assert.Equal(t, push.KindMalformed, kindOfError(t, got.err))
	assert.ErrorContains(t, got.err, "nothing new on pages in a row that hold 6 records, more than the 3 before them")
	assert.Len(t, got.pages, 2, "one page of known records is an accident")
	assert.Len(t, list.queries, 3)
}

// A page that the server cuts smaller than it was asked begins where the walk has
// been, and so may the next one: what they show again is of the walk's own making.
func TestSizesThatShrinkTwiceAreNoRepetition(t *testing.T) {
	list := &codatList{rows: rows(11), maxSize: 10, before: func(request int, l *codatList) {
		if request == 4 {
			l.maxSize = 1
		}
	}}
	client, _ := serve(t, list.ServeHTTP)
	got := list.walk(t, client, push.ListWalk{PageSize: 5, GrowTo: 11})
	require.NoError(t, got.err)
	assert.Equal(t, []string{"1/5 ordered", "1/10 ordered", "1/11 ordered", "2/10 ordered", "11/1 ordered"}, list.asked(t))
	assert.Len(t, got.distinct(), 11)
}

func TestAServerThatRepeatsABadRecordEndsTheWalkToo(t *testing.T) {
	client, ledger := serve(t, answering(`{"results":[null,{"status":"Pending"}],"pageSize":2,"_links":{"next":{"href":"/x"}}}`))
	var last error
	for _, last = range client.Walk(t.Context(), push.ListWalk{CompanyID: company, PageSize: 2}) {
		continue
	}
	assert.Equal(t, push.KindMalformed, kindOfError(t, last))
	assert.Len(t, ledger.settled(t), 3)
}

// A page that is read again on purpose is no sign of a server that repeats itself,
// but it is read so once: a server that never gives one row would be asked for ever.
func TestAServerThatNeverGivesOneRowIsNotAskedForEver(t *testing.T) {
	list := &codatList{rows: rows(20), minSize: 2}
	list.rows[15].tail, list.rows[17].tail = 4000, 4000
	client, _ := serve(t, list.ServeHTTP)
	client.maxListBody, client.maxPages = 3000, 200
	got := list.walk(t, client, push.ListWalk{PageSize: 1})
	assert.Equal(t, push.KindMalformed, kindOfError(t, got.err))
	assert.Less(t, len(list.queries), 15, "%v", list.asked(t))
}

func TestAListThatNeverEndsIsLeftAtTheBound(t *testing.T) {
	list := &codatList{rows: rows(1000)}
	client, _ := serve(t, list.ServeHTTP)
	client.maxPages = 5
	got := list.walk(t, client, push.ListWalk{PageSize: 3})
	assert.Equal(t, push.KindMalformed, kindOfError(t, got.err))
	assert.ErrorContains(t, got.err, "does not end after 5 pages")
	assert.Len(t, got.pages, 5)
	assert.Equal(t, 100_000, must(New(Config{Key: NewSecret("k"), Gate: &gate{}})).maxPages)
}

func TestLinksAreNeverFollowed(t *testing.T) {
	list := &codatList{rows: rows(5)} // its links lead to example.com
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/prefix/companies/"+company+"/push", r.URL.Path)
		list.ServeHTTP(w, r)
	})
	client.base.Path = "/prefix"
	require.NoError(t, list.walk(t, client, push.ListWalk{PageSize: 2}).err)
	assert.Len(t, list.queries, 3)
}

// Whatever the sizes, and however the server grants them, bends the order, or
// shrinks them in mid-walk, and whichever records are too large to be read, every
// other one is seen.
func TestEveryWalkYieldsEveryKey(t *testing.T) {
	var present atomic.Pointer[codatList]
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) { present.Load().ServeHTTP(w, r) })
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 60).Draw(rt, "rows")
		sizes := rapid.IntRange(0, 20)
		shrinkAt, shrinkTo := rapid.IntRange(2, 8).Draw(rt, "shrinkAt"), sizes.Draw(rt, "shrinkTo")
		list := &codatList{
			rows:    rows(n),
			maxSize: sizes.Draw(rt, "maxSize"),
			minSize: sizes.Draw(rt, "minSize"),
			refuses: rapid.Bool().Draw(rt, "refuses"),
			ignores: rapid.Bool().Draw(rt, "ignores"),
			noSize:  rapid.Bool().Draw(rt, "noSize"),
			extra:   rapid.Bool().Draw(rt, "extra"),
			before: func(request int, l *codatList) {
				if request == shrinkAt && shrinkTo > 0 && !l.noSize && (l.maxSize == 0 || shrinkTo < l.maxSize) {
					l.maxSize = shrinkTo
				}
			},
		}
		if list.noSize { // a size that is neither told nor kept cannot be known
			list.maxSize, list.minSize = 0, 0
		}
		client.maxListBody = maxListBody
		var good []row
		if rapid.Bool().Draw(rt, "tooLarge") { // and pages cannot be made smaller where sizes are not kept
			list.minSize, client.maxListBody = 0, 3000
			for i := range list.rows {
				if rapid.IntRange(0, 9).Draw(rt, "large") == 0 {
					list.rows[i].tail = 4000
				}
			}
		}
		for _, r := range list.rows {
			if r.tail == 0 {
				good = append(good, r)
			}
		}
		client.orderless.until = nil
		present.Store(list)
		size := rapid.IntRange(1, 20).Draw(rt, "pageSize")
		got := list.walk(t, client, push.ListWalk{PageSize: size, GrowTo: rapid.IntRange(0, 30).Draw(rt, "growTo")})
		if got.err != nil {
			rt.Fatalf("%v after %v", got.err, list.asked(t))
		}
		if want := keysOf(good); !slices.Equal(want, got.distinct()) {
			rt.Fatalf("got %v of %v after %v", got.distinct(), want, strings.Join(list.asked(t), ", "))
		}
	})
}
