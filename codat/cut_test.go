package codat

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// large makes rows, of which those at places, counted from the newest, are larger
// than half a page may be.
func large(n int, places ...int) (all, good []row) {
	all = rows(n)
	for i := range all {
		if slices.Contains(places, n-1-i) {
			all[i].tail = 50_000
		} else {
			good = append(good, all[i])
		}
	}
	return all, good
}

func TestARecordThatIsTooLargeHurtsNoOther(t *testing.T) {
	for _, c := range []struct {
		name   string
		places []int
		list   *codatList // nil: a plain one
		walk   push.ListWalk
		asked  string
	}{
		{name: "the newest", places: []int{0}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/1 2/2 2/4 2/8 3/8 4/8 5/8"},
		{name: "one on the first page", places: []int{3}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/4 2/8 3/8 4/8 5/8"},
		{name: "one in the middle", places: []int{11}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/8 3/4 5/2 6/2 11/1 12/1 7/2 4/4 3/8 4/8 5/8"},
		{name: "the last of a page", places: []int{15}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/8 3/4 4/4 7/2 8/2 15/1 16/1 9/2 5/4 3/8 4/8 5/8"},
		{name: "the oldest", places: []int{39}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/8 3/8 4/8 5/8 9/4 10/4 19/2 20/2 39/1 40/1 21/2"},
		{name: "two together", places: []int{11, 12}, walk: push.ListWalk{PageSize: 8},
			asked: "1/8 2/8 3/4 5/2 6/2 11/1 12/1 7/2 13/1 14/1 8/2 5/4 3/8 4/8 5/8"},
		{name: "the server cuts pages to 5", places: []int{11}, walk: push.ListWalk{PageSize: 8}, list: &codatList{maxSize: 5},
			asked: "1/8 2/5 3/5 6/2 11/1 12/1 7/2 4/4 4/5 5/5 6/5 7/5 8/5"},
		{name: "nothing is told of links", places: []int{11}, walk: push.ListWalk{PageSize: 8}, list: &codatList{noLinks: true},
			asked: "1/8 2/8 3/4 5/2 6/2 11/1 12/1 7/2 4/4 3/8 4/8 5/8 6/8"},
		{name: "a walk that begins with it", places: []int{16}, walk: push.ListWalk{FirstPage: 3, PageSize: 8},
			asked: "3/8 5/4 9/2 17/1 16/1 17/1 18/1 10/2 6/4 4/8 5/8"},
		{name: "a walk that was interrupted among small pages grows again", places: []int{11}, walk: push.ListWalk{FirstPage: 9, PageSize: 2, GrowTo: 8},
			asked: "9/2 5/4 3/8 4/8 5/8"},
	} {
		t.Run(c.name, func(t *testing.T) {
			all, good := large(40, c.places...)
			list := cmp.Or(c.list, &codatList{})
			list.rows = all
			client, ledger := serve(t, list.ServeHTTP)
			client.maxListBody = 40_000
			got := list.walk(t, client, c.walk)
			require.NoError(t, got.err)
			assert.Equal(t, c.asked, strings.ReplaceAll(strings.Join(list.asked(t), " "), " ordered", ""))
			first := 0 // what a walk that does not begin at the start need not show
			if c.walk.FirstPage > 0 {
				first = (c.walk.FirstPage - 1) * c.walk.PageSize
			}
			assert.Subset(t, got.distinct(), keysOf(good[:len(good)-min(first, len(good))]))
			assert.Subset(t, keysOf(good), got.distinct())
			assert.True(t, got.pages[len(got.pages)-1].Ordered, "what is missing does not break the order")
			for _, item := range got.aside {
				assert.Equal(t, TooLarge, item.Class)
			}
			if first == 0 {
				assert.Len(t, got.aside, len(c.places))
			}
			assert.Len(t, ledger.settled(t), list.requests)
		})
	}
}

func TestARecordThatIsTooLargeIsTheSameWhereverItIsCut(t *testing.T) {
	sight := func(size int, before row, others ...row) push.Quarantined {
		before.key, before.requested = "huge", noon
		list := &codatList{rows: append(others, before)}
		client, _ := serve(t, list.ServeHTTP)
		client.maxListBody = 40_000
		got := list.walk(t, client, push.ListWalk{PageSize: size})
		require.NoError(t, got.err)
		require.Len(t, got.aside, 1)
		return got.aside[0]
	}
	whole := sight(10, row{tail: 25_000})
	assert.Equal(t, "huge", whole.Key)
	assert.Equal(t, company, whole.CompanyID)
	assert.Equal(t, "a record may have 0 MiB", whole.Detail)
	assert.True(t, strings.HasPrefix(whole.Body, `{"companyId":"`))
	assert.Len(t, whole.Body, 20_000)
	for _, c := range []struct {
		size int
		huge row
	}{{10, row{tail: 25_000}}, {10, row{tail: 50_000}}, {3, row{tail: 60_000}}, {1, row{tail: 50_000}}} {
		same := sight(c.size, c.huge, row{key: "a", pad: 3000}, row{key: "b", requested: noon.Add(time.Hour), pad: 9000})
		assert.True(t, whole.Key == same.Key && whole.Body == same.Body && bytes.Equal(whole.Hash, same.Hash), "%+v", c)
	}
	assert.Empty(t, sight(10, row{pad: 50_000}).Key, "it stands behind the text")
}

// A server that answers pages of its own size leaves no way around the record, and
// what it shows must not be taken for other rows.
func TestWhereSizesAreNotKeptARecordThatIsTooLargeEndsTheWalk(t *testing.T) {
	all, _ := large(100, 30)
	list := &codatList{rows: all, minSize: 25}
	client, _ := serve(t, list.ServeHTTP)
	client.maxListBody = 40_000
	got := list.walk(t, client, push.ListWalk{PageSize: 10})
	require.Error(t, got.err)
	assert.Less(t, list.requests, 10)
}

func TestBodiesThatAreCutOutsideARecordAreNoPages(t *testing.T) {
	zeros := strings.Repeat("0", 30_000)
	for name, body := range map[string]string{
		"a long field of the page": `{"results":[{"pushOperationKey":"a","status":"Success"}],"x":"` + zeros + `"}`,
		"before the results":       `{"x":"` + zeros + `","results":[]}`,
		"a record that is none":    `{"results":["` + zeros + `"]}`,
		"no JSON":                  `<html>` + zeros,
		"no JSON before it":        `{"results":[{"a":b},{"x":"` + zeros + `"}]}`,
		"an object of results":     `{"results":{"x":{"y":"` + zeros + `"}}}`,
		"a list":                   `[{"x":"` + zeros + `"}]`,
	} {
		t.Run(name, func(t *testing.T) {
			var result listing
			assert.False(t, decodeCut([]byte(body)[:len(body)-20], &decoder{companyID: company, maxRecord: 20_000}, &result))
			assert.False(t, result.cut)
		})
	}
}
