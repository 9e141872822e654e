package simulation

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

var noon = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func anyStatus(t *rapid.T) push.Status {
	return rapid.SampledFrom([]push.Status{push.Pending, "Processing", push.Success, push.Failed}).Draw(t, "status")
}

// pages draws looks at a company with a few operations, in any order, no two begun
// at the same moment. The rule alone is held to the same in package push.
func pages(t *rapid.T, least int) []push.Page {
	starts := rapid.SliceOfNDistinct(rapid.IntRange(0, 300), least, 12, rapid.ID[int]).Draw(t, "starts")
	all := make([]push.Page, len(starts))
	for i, start := range starts {
		began := noon.Add(time.Duration(start) * time.Second)
		page := push.Page{Look: push.Look{Source: push.FromList, StartedAt: began, FinishedAt: began.Add(time.Second / 2)}, Number: 1, Size: 5}
		for _, key := range rapid.SliceOfNDistinct(rapid.IntRange(1, 2), 1, 2, rapid.ID[int]).Draw(t, "keys") {
			page.Rows = append(page.Rows, push.RowOf(operationOf(key, anyStatus(t))))
		}
		if len(page.Rows) == 1 && rapid.Bool().Draw(t, "get") {
			page.Source, page.Number, page.Size = push.FromGet, 0, 0
		}
		all[i] = page
	}
	return all
}

func operationOf(key int, status push.Status) push.Operation {
	return push.Operation{Key: fmt.Sprintf("k%d", key), ConnectionID: "connection", Status: status,
		RequestedOn: noon.Add(-time.Duration(key) * time.Minute)}
}

// now is what operations are when somebody asks for them alone: after all pages.
type now map[string]push.Page

func drawNow(t *rapid.T) now {
	n := now{}
	for key := 1; key <= 2; key++ {
		op := operationOf(key, anyStatus(t))
		n[op.Key] = push.Page{Look: push.Look{Source: push.FromGet, StartedAt: noon.Add(time.Hour), FinishedAt: noon.Add(time.Hour)},
			Rows: push.RowsOf(op)}
	}
	return n
}

// observe records pages as the poller does: what is disputed it asks for at once.
func (n now) observe(c push.Company, list []push.Page, record func(push.Record) (push.Recorded, error)) error {
	for _, page := range list {
		recorded, err := record(of(c, page))
		for _, key := range recorded.Disputed {
			if err == nil {
				_, err = record(of(c, n[key]))
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// repeated returns pages with copies of some anywhere behind their originals.
func repeated(t *rapid.T, once []push.Page) []push.Page {
	twice := slices.Clone(once)
	for range rapid.IntRange(1, 6).Draw(t, "copies") {
		i := rapid.IntRange(0, len(twice)-1).Draw(t, "original")
		twice = slices.Insert(twice, rapid.IntRange(i+1, len(twice)).Draw(t, "place"), twice[i])
	}
	return twice
}

func of(c push.Company, page push.Page) push.Record {
	operations := push.Whole(page.Rows)
	for i := range operations {
		operations[i].CompanyID = c.ID
	}
	page.Rows = push.RowsOf(operations...)
	return push.Record{Company: c, Page: page}
}

// told spells a transition without its id.
func told(e event.Event) string {
	previous, seen := push.Status(""), ""
	if e.PreviousStatus != nil {
		previous = *e.PreviousStatus
	}
	if e.LastSeenPreviousAt != nil {
		seen = e.LastSeenPreviousAt.String()
	}
	return fmt.Sprintf("%s %d: %s to %s, seen %s by %s, before %s", e.PushOperationKey, e.Version, previous, e.Status, e.ObservedAt, e.Source, seen)
}

// observed is a database in memory that one process observes a company into.
func observed() (*database, push.Company) {
	d := newDatabase(time.Now, "0badcafe", false, 1, "c")
	f := d.renew("a process", []string{companyLease("c")})[companyLease("c")]
	return d, push.Company{ID: "c", Fence: f}
}

func (d *database) told() (all []string) {
	for _, c := range d.companies {
		for _, o := range c.ops {
			for _, e := range o.history {
				all = append(all, told(e))
			}
		}
	}
	slices.Sort(all)
	return all
}

func TestPagesInAnyOrderWithRepetitionsGiveTheHistoryOfEachOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once, now := pages(t, 1), drawNow(t)
		histories := [2][]string{}
		for i, list := range [][]push.Page{once, repeated(t, once)} {
			d, c := observed()
			require.NoError(t, now.observe(c, list, func(r push.Record) (push.Recorded, error) { return d.record(r, d.probe(r)) }))
			histories[i] = d.told()
		}
		require.Equal(t, histories[0], histories[1])
	})
}

// Each observer reads without locks what it will lock later, and the other one may
// write in between.
func TestTwoObserversInAnyInterleavingLeaveAnUnbrokenHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d, c := observed()
		queue := pages(t, 2)
		type open struct {
			record push.Record
			before known
		}
		var probed [2]*open
		for len(queue) > 0 || probed[0] != nil || probed[1] != nil {
			who := rapid.IntRange(0, 1).Draw(t, "observer")
			switch one := probed[who]; {
			case one != nil:
				_, err := d.record(one.record, one.before)
				require.NoError(t, err)
				probed[who] = nil
			case len(queue) > 0:
				r := of(c, queue[0])
				probed[who], queue = &open{r, d.probe(r)}, queue[1:]
			}
			unbroken(t, d)
		}
	})
}

// unbroken wants versions without gaps, each from where the one before it ended, the
// last one as the row is, and rows that no older look has overwritten.
func unbroken(t *rapid.T, d *database) {
	for _, o := range d.companies["c"].ops {
		require.Len(t, o.history, int(o.versions))
		var last *push.Status
		for i, e := range o.history {
			require.Equal(t, int64(i+1), e.Version)
			require.Equal(t, last, e.PreviousStatus)
			require.NotEqual(t, last, &e.Status)
			status := e.Status
			last = &status
		}
		require.Equal(t, o.Status, *last)
	}
}

// The same of the real store, whose locks the second one tries: there the two
// observers are goroutines.
func TestTheStoreKeepsBothPromises(t *testing.T) {
	url := server.URL(t)
	s := server.Open(t, store.Config{URL: url})
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	history := func(rt *rapid.T, company string) []string {
		rows, err := conn.Query(t.Context(), `
select format('%s %s: %s to %s at %s by %s, before %s', push_operation_key, version, previous_status, status, observed_at, source, last_seen_previous_at)
from reporting.push_transitions where company_id = $1 order by 1`, company)
		require.NoError(rt, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(rt, err)
		return all
	}
	record := func(r push.Record) (push.Recorded, error) { return s.Record(t.Context(), r) }
	n := 0
	company := func() push.Company {
		n++
		c, _, _ := storetest.Company(t, s, fmt.Sprintf("c%d", n))
		return c
	}
	rapid.Check(t, func(rt *rapid.T) {
		once, now := pages(rt, 2), drawNow(rt)
		one, two, both := company(), company(), company()
		require.NoError(rt, now.observe(one, once, record))
		require.NoError(rt, now.observe(two, repeated(rt, once), record))
		require.Equal(rt, history(rt, one.ID), history(rt, two.ID))

		half := rapid.IntRange(1, len(once)-1).Draw(rt, "half")
		var group sync.WaitGroup
		var failed [2]error
		for i, list := range [][]push.Page{once[:half], once[half:]} {
			group.Go(func() { failed[i] = now.observe(both, list, record) })
		}
		group.Wait()
		require.NoError(rt, failed[0])
		require.NoError(rt, failed[1])
		storetest.CheckInvariants(t, url)
	})
}
