package push_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/push"
)

func page(ops ...push.Operation) push.Page { return push.Page{Rows: push.RowsOf(ops...)} }

func op(key string, status push.Status) push.Operation {
	return push.Operation{Key: key, Status: status}
}

func TestDistinct(t *testing.T) {
	for _, c := range []struct {
		name         string
		in           []push.Operation
		want         []push.Operation
		contradicted []string
	}{
		{"an empty page", nil, []push.Operation{}, nil},
		{"the server's order is kept", []push.Operation{op("b", "Pending"), op("a", "Failed")}, []push.Operation{op("b", "Pending"), op("a", "Failed")}, nil},
		{"a row shown twice counts once, where it came first", []push.Operation{op("b", "Pending"), op("a", "Failed"), op("b", "Pending")}, []push.Operation{op("b", "Pending"), op("a", "Failed")}, nil},
		{"two statuses of one key leave neither", []push.Operation{op("b", "Pending"), op("a", "Failed"), op("b", "Success")}, []push.Operation{op("a", "Failed")}, []string{"b"}},
		{"three rows of a torn key name it once", []push.Operation{op("b", "Pending"), op("b", "Success"), op("b", "Failed"), op("b", "Pending")}, []push.Operation{}, []string{"b"}},
		{"a contradiction after an agreement still counts", []push.Operation{op("b", "Pending"), op("b", "Pending"), op("b", "Success")}, []push.Operation{}, []string{"b"}},
		{"two spellings are two statuses", []push.Operation{op("b", "Pending"), op("b", "pending")}, []push.Operation{}, []string{"b"}},
		{"keys are compared byte by byte", []push.Operation{op("b", "Pending"), op("B", "Success")}, []push.Operation{op("b", "Pending"), op("B", "Success")}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, contradicted := page(c.in...).Distinct()
			assert.Equal(t, c.want, push.Whole(got))
			assert.Equal(t, c.contradicted, contradicted)
		})
	}
}

func TestDistinctLosesNoKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p push.Page
		statuses := map[string]map[push.Status]bool{}
		for range rapid.IntRange(0, 20).Draw(t, "rows") {
			o := op(rapid.SampledFrom([]string{"a", "b", "c", "d", "e"}).Draw(t, "key"),
				rapid.SampledFrom([]push.Status{"Pending", "Success"}).Draw(t, "status"))
			p.Rows = append(p.Rows, push.RowOf(o))
			if statuses[o.Key] == nil {
				statuses[o.Key] = map[push.Status]bool{}
			}
			statuses[o.Key][o.Status] = true
		}
		rows, contradicted := p.Distinct()
		for _, o := range rows {
			if len(statuses[o.Key]) != 1 || !statuses[o.Key][o.Status] {
				t.Fatalf("%s is given as %s", o.Key, o.Status)
			}
			delete(statuses, o.Key)
		}
		for _, key := range contradicted {
			if len(statuses[key]) < 2 {
				t.Fatalf("%s is not contradicted", key)
			}
			delete(statuses, key)
		}
		if len(statuses) != 0 {
			t.Fatalf("lost %v", statuses)
		}
	})
}

func TestOldestAndNewestSkipRowsWithoutATime(t *testing.T) {
	at := func(s int64) push.Operation { return push.Operation{RequestedOn: time.Unix(s, 0).UTC()} }
	for _, c := range []struct {
		name           string
		page           push.Page
		oldest, newest time.Time
	}{
		{"an empty page has neither", page(), time.Time{}, time.Time{}},
		{"rows without a time have neither", page(op("a", "Pending")), time.Time{}, time.Time{}},
		{"one row is both", page(op("a", "Pending"), at(50)), time.Unix(50, 0).UTC(), time.Unix(50, 0).UTC()},
		{"the order of rows does not matter", page(at(50), at(90), at(10), op("a", "Pending"), at(60)), time.Unix(10, 0).UTC(), time.Unix(90, 0).UTC()},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.oldest, c.page.Oldest())
			assert.Equal(t, c.newest, c.page.Newest())
		})
	}
}

func TestMayEndAt(t *testing.T) {
	floor := time.Unix(1000, 0).UTC()
	below := push.Page{Ordered: true, Rows: []push.Row{{RequestedOn: floor.Add(time.Hour)}, {RequestedOn: floor.Add(-time.Microsecond)}}}
	discover := push.Walk{Kind: push.WalkDiscover, Floor: floor}
	require.True(t, discover.MayEndAt(below), "in verified order, below the floor")

	at := below
	at.Rows = []push.Row{{RequestedOn: floor}}
	assert.False(t, discover.MayEndAt(at), "a page that just reaches the floor is not below it")
	unordered := below
	unordered.Ordered = false
	assert.False(t, discover.MayEndAt(unordered), "order that is not verified proves nothing")
	timeless := below
	timeless.Rows = push.RowsOf(op("a", "Pending"))
	assert.False(t, discover.MayEndAt(timeless), "rows without a time take no part")
	assert.False(t, discover.MayEndAt(push.Page{Ordered: true}), "an empty page proves nothing")
	assert.False(t, push.Walk{Kind: push.WalkDiscover}.MayEndAt(below), "without progress every page is read")
	for _, kind := range []push.WalkKind{push.WalkBaseline, push.WalkSweep} {
		assert.False(t, push.Walk{Kind: kind, Floor: floor}.MayEndAt(below), "a %s reads the whole history", kind)
	}
}
