package poller

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestTheFirstLookWalksTheWholeHistoryWithTheLargestPage(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(35)
	assert.Equal(t, 1, b.discover())
	assert.Equal(t, push.ListWalk{CompanyID: "c", Purpose: push.ForBaseline, FirstPage: 1, PageSize: 5000}, b.codat.asked[0])
	assert.Equal(t, []push.WalkKind{push.WalkBaseline}, b.store.finished)
	b.requireAllSeen()
}

func TestAQuietCompanyCostsOneRequestATick(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(35)
	b.old()
	b.discover()
	for range 3 {
		assert.Equal(t, 1, b.discover())
	}
}

func TestAWalkEndsOnePageAfterTheFirstKnownPageBelowTheFloor(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(50)
	b.old()
	b.discover()
	b.codat.arrive(12)
	assert.Equal(t, 4, b.discover(), "two pages with news, the known one, one of overlap")
	assert.Equal(t, 3, b.discover(), "twelve in seconds: the first page does not yet lie below the floor")
	b.requireAllSeen()
}

func TestWithoutVerifiedOrderEveryPageIsRead(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(50)
	b.old()
	b.discover()
	b.codat.unordered = true
	assert.Equal(t, 5, b.discover())
}

func TestRowsThatShiftBetweenPagesAreNotLost(t *testing.T) {
	const pageSize = 5
	for k := 1; k <= pageSize+1; k++ {
		t.Run(fmt.Sprintf("%d arrive after each page", k), func(t *testing.T) {
			b := newBench(t, pageSize)
			b.codat.arrive(30)
			b.old()
			b.discover()
			b.codat.arrive(13)
			b.codat.between = func(page int) {
				if page < 4 {
					b.codat.arrive(k)
				}
			}
			b.discover()
			b.codat.between = nil
			b.discover()
			b.requireAllSeen()
		})
	}
}

func TestAWalkThatDiedBetweenItsPagesIsWalkedAgain(t *testing.T) {
	b := newBench(t, 5)
	b.codat.arrive(30)
	b.old()
	b.discover()
	b.codat.arrive(12)
	died := errors.New("killed")
	b.store.crash = func(r push.Record) error {
		if r.Page.Number == 2 {
			return died
		}
		return nil
	}
	_, err := b.poller.Discover(t.Context())
	require.ErrorIs(t, err, died)
	b.store.crash = nil
	b.discover()
	b.requireAllSeen()
}

func TestAContradictionIsDecidedByAGet(t *testing.T) {
	twice := func(b *bench) {
		b.codat.arrive(3)
		b.old()
		b.discover()
		b.codat.arrive(1)
		second := b.codat.list[0]
		second.Status = push.Failed
		b.codat.list = append(b.codat.list[:1:1], append([]push.Operation{second}, b.codat.list[1:]...)...)
	}
	t.Run("what it shows is recorded", func(t *testing.T) {
		b := newBench(t, 10)
		twice(b)
		key := b.codat.list[0].Key
		b.codat.getOther[key] = push.Operation{CompanyID: "c", Key: key, Status: push.TimedOut, RequestedOn: midday}
		b.discover()
		assert.Equal(t, push.TimedOut, b.store.rows[key].Status)
	})
	t.Run("when it cannot be asked nothing is guessed and the walk stays unfinished", func(t *testing.T) {
		b := newBench(t, 10)
		twice(b)
		key := b.codat.list[0].Key
		finished := len(b.store.finished)
		b.codat.gone[key] = false
		b.codat.getOther = nil
		list := b.codat.list
		b.codat.list = nil // nor can a get find it
		b.codat.between = nil
		_, err := (&walking{poller: b.poller, company: b.store.company, walk: push.Walk{Kind: push.WalkDiscover}}).keep(t.Context(),
			push.Page{Look: push.Look{StartedAt: midday}, Number: 1, Rows: push.RowsOf(list...), Last: true})
		require.NoError(t, err)
		assert.Len(t, b.store.finished, finished)
		assert.NotContains(t, b.store.rows, key)
	})
	t.Run("when it is gone the record is quarantined", func(t *testing.T) {
		b := newBench(t, 10)
		twice(b)
		key := b.codat.list[0].Key
		b.codat.gone[key] = true
		b.discover()
		assert.Equal(t, "contradicted_gone", b.store.quarantined[key])
	})
}

func TestADisputeIsAskedInTheSameRunAndNeverHoldsUpThePage(t *testing.T) {
	for name, c := range map[string]struct {
		get  push.Status
		gone bool
		want push.Status
	}{
		"a get that agrees makes it a change":       {get: push.Pending, want: push.Pending},
		"a get with the stored value clears it":     {get: push.Success, want: push.Success},
		"a get that is refused leaves it for later": {gone: true, want: push.Success},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 10)
			b.codat.arrive(3)
			b.old()
			b.discover()
			key := b.codat.list[1].Key
			back := b.codat.list[1]
			back.Status = c.get
			b.codat.getOther[key], b.codat.gone[key] = back, c.gone
			b.codat.list[1].Status = push.Pending
			b.codat.arrive(1)
			b.discover()
			assert.Equal(t, c.want, b.store.rows[key].Status)
			assert.Contains(t, b.store.rows, b.codat.list[0].Key, "the page is kept")
		})
	}
}

func TestOddAndQuarantinedRecordsAreCountedByReason(t *testing.T) {
	m := NewMetrics()
	m.page(push.Page{
		Rows:        []push.Row{{Status: push.Success}, {Status: "Cancelled"}, {Status: "pending"}},
		Quarantined: []push.Quarantined{{Class: "status_missing"}},
	})
	m.flagged([]string{"errorMessage:cut", "changes:cut:201", "requestedOnUtc:unusable"})
	for what, want := range map[string]int{"unknown_status": 1, "cut": 2, "unusable": 1} {
		assert.Equal(t, want, int(testutil.ToFloat64(m.odd.WithLabelValues(what))), what)
	}
	assert.Equal(t, 3, testutil.CollectAndCount(m.odd), "a length is no label")
	assert.Equal(t, 1, int(testutil.ToFloat64(m.quarantined.WithLabelValues("status_missing"))))
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	assert.Empty(t, problems)
}

func TestWhatHadToBeMendedIsCountedWhereItIsWritten(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(2)
	b.codat.list[1].Flags = []string{"errorMessage:cut"}
	b.old()
	for range 2 {
		b.discover()
	}
	assert.Equal(t, 1, int(testutil.ToFloat64(b.poller.config.Metrics.odd.WithLabelValues("cut"))))
}

func TestACompanyThatCodatDoesNotKnowIsAskedOnceAnHour(t *testing.T) {
	b := newBench(t, 10)
	b.codat.fail = &push.AskError{Ask: push.Ask{Request: push.ListOperations}, Kind: push.KindNotFound, Status: 404}
	_, err := b.poller.Discover(t.Context())
	require.Error(t, err)
	assert.WithinDuration(t, midday.Add(time.Hour), b.store.absent, time.Minute)
	assert.Zero(t, b.discover())
}

func TestAFailureOfTheWholeClientKeepsOtherCompaniesFromBeingAsked(t *testing.T) {
	b := newBench(t, 10)
	for i := range 200 {
		b.store.others = append(b.store.others, push.Company{ID: fmt.Sprint(i)})
	}
	b.codat.fail = &push.AskError{Kind: push.KindUnauthorised, Status: 401}
	result, err := b.poller.Discover(t.Context())
	require.Error(t, err)
	assert.Less(t, result.Companies, 100)
}

func TestTrackAsksOneListForFiveOrMoreAndGetsForTheRest(t *testing.T) {
	due := func(b *bench, n int, onPage bool) {
		for i := range n {
			b.store.due = append(b.store.due, push.Due{CompanyID: "c", Key: b.codat.list[i].Key, OnFirstPage: onPage})
		}
	}
	t.Run("four are asked one by one", func(t *testing.T) {
		b := newBench(t, 10)
		b.codat.arrive(8)
		due(b, 4, true)
		_, err := b.poller.Track(t.Context())
		require.NoError(t, err)
		assert.Zero(t, b.codat.lists)
		assert.Len(t, b.codat.gets, 4)
	})
	t.Run("five with one list", func(t *testing.T) {
		b := newBench(t, 10)
		b.codat.arrive(8)
		due(b, 5, true)
		_, err := b.poller.Track(t.Context())
		require.NoError(t, err)
		assert.Equal(t, 1, b.codat.lists)
		assert.Empty(t, b.codat.gets)
	})
	t.Run("those that fell off every page with a get, always", func(t *testing.T) {
		b := newBench(t, 10)
		b.codat.arrive(8)
		due(b, 6, false)
		_, err := b.poller.Track(t.Context())
		require.NoError(t, err)
		assert.Zero(t, b.codat.lists)
		assert.Len(t, b.codat.gets, 6)
	})
	t.Run("one that is gone does not hurt the others", func(t *testing.T) {
		b := newBench(t, 10)
		b.codat.arrive(8)
		due(b, 3, false)
		b.codat.gone[b.codat.list[1].Key] = true
		_, err := b.poller.Track(t.Context())
		require.NoError(t, err)
		assert.Len(t, b.store.rows, 2)
	})
}

func TestASweepWalksEverythingAndOnlyOnceBaselined(t *testing.T) {
	b := newBench(t, 10)
	b.codat.arrive(30)
	_, err := b.poller.Sweep(t.Context())
	require.NoError(t, err)
	assert.Zero(t, b.codat.lists)
	b.discover()
	_, err = b.poller.Sweep(t.Context())
	require.NoError(t, err)
	assert.Equal(t, push.WalkSweep, b.store.finished[len(b.store.finished)-1])
}

func TestWhatTheLastTrackTickSawIsDueAtTheNext(t *testing.T) {
	b := newBench(t, 10)
	_, err := b.poller.Track(t.Context())
	require.NoError(t, err)
	assert.Less(t, b.store.duePeriod, time.Minute, "its answer came a little after the tick")
	assert.Greater(t, b.store.duePeriod, 30*time.Second, "and a list half a period ago makes it not due")
}
