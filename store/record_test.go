package store_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

func TestAnOperationIsAnnouncedOnceAndThenAtEachChange(t *testing.T) {
	for name, newRig := range map[string]func(*testing.T, store.Config) *rig{
		"direct": newDirectRig, "behind a transaction pooler": newRig,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, store.Config{})
			r.firstLook()
			pending := r.op("k", push.Pending)
			assert.Equal(t, 1, r.look(push.FromList, pending).Events)
			assert.Zero(t, r.look(push.FromList, pending).Events, "the same again is no change")

			code, message := 400, "no such customer"
			failed := pending
			failed.Status, failed.StatusCode, failed.ErrorMessage = push.Failed, &code, &message
			failed.CompletedOn = r.now
			failed.Validation = &push.Validation{Errors: []push.ValidationItem{{Message: &message}}}
			recorded := r.look(push.FromGet, failed)
			assert.Equal(t, 1, recorded.Events)
			assert.Equal(t, 1, recorded.Changed)
			assert.Equal(t, []push.Edge{{From: push.Pending, To: push.Failed, CompletedOn: failed.CompletedOn}}, recorded.Edges)

			history := r.transitions("k")
			require.Len(t, history, 2)
			assert.Equal(t, "pending", history[0].Event)
			assert.Nil(t, history[0].Previous)
			assert.Equal(t, "failed", history[1].Event)
			assert.Equal(t, "Pending", *history[1].Previous)
			assert.Equal(t, "get", history[1].Source)
			assert.Equal(t, "no such customer", query[string](r, `select error_message from reporting.push_operations`))
			assert.True(t, query[bool](r, `select duration > interval '0' from reporting.push_operations`))
		})
	}
}

func TestADifferenceThatIsNoStatusUpdatesTheRowSilently(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Success)
	r.look(push.FromList, op)
	code := 201
	op.StatusCode = &code
	assert.Zero(t, r.look(push.FromList, op).Events)
	assert.Equal(t, int64(201), query[int64](r, `select status_code from reporting.push_operations`))
	assert.Len(t, r.transitions("k"), 1)
}

// counted returns the row of an operation, and how often it was read whole.
func counted(op push.Operation) (push.Row, *int) {
	reads := 0
	row := push.RowOf(op)
	row.Read = func() push.Operation { reads++; return op }
	return row, &reads
}

// known returns the row of a finished operation that a look has recorded.
func known(t *testing.T, source push.Source) (*rig, push.Operation, push.Row, *int) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Success)
	r.look(source, op)
	row, reads := counted(op)
	return r, op, row, reads
}

func TestAKnownRecordIsNotReadWhole(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	finished, pending := r.op("finished", push.Success), r.op("pending", push.Pending)
	r.look(push.FromList, finished, pending)
	known, reads := counted(finished)
	unfinished, readsOfUnfinished := counted(pending)
	recorded := r.record(push.Record{Page: push.Page{Rows: []push.Row{known, unfinished}}})
	assert.True(t, recorded.Known)
	assert.Zero(t, *reads)
	assert.Positive(t, *readsOfUnfinished, "the time of its look moves")
	r.record(push.Record{Page: push.Page{Look: push.Look{Source: push.FromGet}, Rows: []push.Row{known}}})
	assert.Positive(t, *reads, "a get has its own time")
}

// TestOtherBytesThatTellTheSameWriteNothing: or the spellings of the list and of
// get_operation, where they differ, would have a row written at every look.
func TestOtherBytesThatTellTheSameWriteNothing(t *testing.T) {
	r, op, spelled, reads := known(t, push.FromList)
	spelled.Digest[0]++
	version := func() int64 { return query[int64](r, `select xmin::text::bigint from pushwatch.operation`) }
	before := version()
	recorded := r.record(push.Record{Page: push.Page{Rows: []push.Row{spelled}}})
	assert.True(t, recorded.Known)
	assert.Equal(t, 1, *reads, "to see that they tell the same")
	assert.Equal(t, before, version())

	code := 201
	spelled.Read = func() push.Operation { op.StatusCode = &code; return op }
	r.record(push.Record{Page: push.Page{Rows: []push.Row{spelled}}})
	assert.Equal(t, int64(201), query[int64](r, `select status_code from reporting.push_operations`), "what they tell otherwise is kept")
}

// TestASweepLearnsOtherBytes: it comes seldom, and every look behind it knows them.
func TestASweepLearnsOtherBytes(t *testing.T) {
	r, _, spelled, reads := known(t, push.FromGet)
	spelled.Digest[15]++ // read by a later release
	list := func(kind push.WalkKind) push.Recorded {
		*reads = 0
		walk, err := r.OpenWalk(t.Context(), r.company, kind, r.tick())
		require.NoError(t, err)
		return r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true, Rows: []push.Row{spelled}}})
	}
	list(push.WalkDiscover)
	list(push.WalkDiscover)
	require.Equal(t, 1, *reads, "a discover learns nothing")
	assert.Zero(t, list(push.WalkSweep).Events)
	for _, kind := range []push.WalkKind{push.WalkDiscover, push.WalkSweep} {
		list(kind)
		assert.Zero(t, *reads, kind)
	}
}

func TestFlagsAreToldOfWhatIsWritten(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Success)
	op.Flags = []string{"errorMessage:cut"}
	bad := r.op("bad", push.Success)
	bad.ConnectionID = "\x00" // refused: the page is recorded in halves
	other := r.op("other", push.Success)
	other.Flags = []string{"dataType:unusable"}
	assert.ElementsMatch(t, []string{"errorMessage:cut", "dataType:unusable"}, r.look(push.FromList, op, bad, other).Flags)
	assert.Empty(t, r.look(push.FromList, op).Flags, "it is known")
}

// TestARecordThatPanicsIsTheCallersToGuard: it ends one company's run, not the process,
// and no transaction stays open.
func TestARecordThatPanicsIsTheCallersToGuard(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	row := push.RowOf(r.op("k", push.Success))
	row.Read = func() push.Operation { panic("a record that nobody thought of") }
	good := push.RowsOf(r.op("good", push.Success))
	assert.Panics(t, func() {
		_, _ = r.Record(t.Context(), r.complete(push.Record{Page: push.Page{Rows: append(good, row)}}))
	})
	assert.Equal(t, 1, r.record(push.Record{Page: push.Page{Rows: good}}).First)
	assert.Zero(t, query[int64](r, `select count(*) from pg_stat_activity where state like 'idle in%' and datname = current_database()`))
}

// TestARowOfAnEarlierReleaseIsWrittenOnceMore: it holds no digest of its bytes. Such
// a release may also have written a row since this one did.
func TestARowOfAnEarlierReleaseIsWrittenOnceMore(t *testing.T) {
	r, _, row, reads := known(t, push.FromList)
	require.NoError(t, r.exec(`update pushwatch.operation set fingerprint = substr(fingerprint, 1, 16)`))
	for range 3 {
		assert.Zero(t, r.record(push.Record{Page: push.Page{Rows: []push.Row{row}}}).Events)
	}
	assert.Equal(t, 1, *reads)
}

func TestAnOlderLookNeverOverwritesANewerOne(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Pending)
	r.look(push.FromList, op)
	early := r.tick()
	op.Status = "Processing"
	r.look(push.FromList, op)
	op.Status = push.Pending
	r.record(push.Record{Page: push.Page{Look: push.Look{StartedAt: early}, Rows: push.RowsOf(op)}})
	assert.Equal(t, []string{"Pending", "Processing"}, r.statuses("k"))
}

func TestALookThatChangesNothingIsNewerAllTheSame(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Pending)
	r.look(push.FromList, op)
	early := r.tick()
	r.look(push.FromList, op)
	op.Status = push.Success
	r.record(push.Record{Page: push.Page{Look: push.Look{StartedAt: early}, Rows: push.RowsOf(op)}})
	assert.Equal(t, []string{"Pending"}, r.statuses("k"))
}

func TestDispute(t *testing.T) {
	cases := []struct {
		name   string
		second func(r *rig, op push.Operation)
		want   []string
		open   bool
	}{
		{"a get that agrees makes it a change", func(r *rig, op push.Operation) {
			op.Status = push.Pending
			r.look(push.FromGet, op)
		}, []string{"Success", "Pending"}, false},
		{"a get that shows the stored value again clears it", func(r *rig, op push.Operation) {
			r.look(push.FromGet, op)
		}, []string{"Success"}, false},
		{"a list page begun at once decides nothing", func(r *rig, op push.Operation) {
			op.Status = push.Pending
			r.look(push.FromList, op)
		}, []string{"Success"}, true},
		{"nor does a get that was begun before that page", func(r *rig, op push.Operation) {
			op.Status = push.Pending
			early := r.tick()
			r.look(push.FromList, op)
			r.record(push.Record{Page: push.Page{Look: push.Look{Source: push.FromGet, StartedAt: early}, Rows: push.RowsOf(op)}})
		}, []string{"Success"}, true},
		{"a list page begun a minute later is the second reading", func(r *rig, op push.Operation) {
			op.Status = push.Pending
			r.now = r.now.Add(push.SecondReading)
			r.look(push.FromList, op)
		}, []string{"Success", "Pending"}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, store.Config{})
			r.firstLook()
			op := r.op("k", push.Success)
			r.look(push.FromList, op)
			back := op
			back.Status = push.Pending
			recorded := r.look(push.FromList, back)
			assert.Equal(t, []string{"k"}, recorded.Disputed)
			assert.Zero(t, recorded.Events)
			assert.Equal(t, "Success", query[string](r, `select status from reporting.push_operations`))

			c.second(r, op)
			assert.Equal(t, c.want, r.statuses("k"))
			assert.Equal(t, c.open, query[bool](r, `select disputed_status is not null from pushwatch.operation`))
		})
	}
}

func TestBaseline(t *testing.T) {
	t.Run("silent history has a row and no event, and its first change is version 1", func(t *testing.T) {
		r := newRig(t, store.Config{})
		old := r.op("old", push.Pending)
		old.RequestedOn = r.now.Add(-time.Hour)
		walk, err := r.OpenWalk(t.Context(), r.company, push.WalkBaseline, r.tick())
		require.NoError(t, err)
		recorded := r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true, Rows: push.RowsOf(old)}})
		assert.Equal(t, 1, recorded.First)
		assert.Zero(t, recorded.Events)
		assert.True(t, query[bool](r, `select is_baseline and versions = 0 from reporting.push_operations`))

		old.Status = push.Success
		assert.Equal(t, 1, r.look(push.FromGet, old).Events)
		history := r.transitions("old")
		require.Len(t, history, 1)
		assert.Equal(t, int64(1), history[0].Version)
		assert.Equal(t, "Pending", *history[0].Previous)
		assert.False(t, history[0].Baseline)
	})
	t.Run("published history is version 1 without a previous status", func(t *testing.T) {
		r := newRig(t, store.Config{PublishBaseline: true})
		old := r.op("old", push.Failed)
		old.RequestedOn = r.now.Add(-time.Hour)
		walk, err := r.OpenWalk(t.Context(), r.company, push.WalkBaseline, r.tick())
		require.NoError(t, err)
		r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true, Rows: push.RowsOf(old)}})
		history := r.transitions("old")
		require.Len(t, history, 1)
		assert.Nil(t, history[0].Previous)
		assert.True(t, history[0].Baseline)
	})
	t.Run("what was requested after the first look is news, whatever crashed meanwhile", func(t *testing.T) {
		r := newRig(t, store.Config{})
		_, err := r.OpenWalk(t.Context(), r.company, push.WalkBaseline, r.tick())
		require.NoError(t, err)
		// Killed before the first answer; the operation was made while we were away.
		fresh := r.op("fresh", push.Pending)
		fresh.RequestedOn = r.tick()
		again, err := r.OpenWalk(t.Context(), r.company, push.WalkBaseline, r.now.Add(time.Hour))
		require.NoError(t, err)
		recorded := r.record(push.Record{Walk: &again, Finish: push.Done, Page: push.Page{Last: true, Rows: push.RowsOf(fresh)}})
		assert.Equal(t, 1, recorded.Events)
	})
	t.Run("going on with it takes up the ticks of sweeps, the first look stays", func(t *testing.T) {
		r := newRig(t, store.Config{})
		began := r.tick()
		_, err := r.OpenWalk(t.Context(), r.company, push.WalkBaseline, began)
		require.NoError(t, err)
		_, err = r.OpenWalk(t.Context(), r.company, push.WalkBaseline, began.Add(72*time.Hour))
		require.NoError(t, err)
		companies, err := r.fleet.Companies(t.Context())
		require.NoError(t, err)
		require.Len(t, companies, 1)
		assert.Equal(t, began.Add(72*time.Hour), companies[0].SweepTickedAt)
		assert.Equal(t, began, companies[0].FirstLookAt)
	})
	t.Run("removing and adding a company again is no new first look", func(t *testing.T) {
		r := newRig(t, store.Config{})
		r.firstLook()
		before := query[time.Time](r, `select first_look_at from pushwatch.company`)
		require.NoError(t, r.fleet.Configure(t.Context(), nil))
		require.NoError(t, r.fleet.Configure(t.Context(), []push.Company{{ID: companyID}}))
		r.firstLook()
		assert.Equal(t, before, query[time.Time](r, `select first_look_at from pushwatch.company`))
	})
}

func TestLastSeenPreviousAtIsTheLatestLookThatStillShowedIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Pending)
	r.look(push.FromList, op)

	older := r.op("older", push.Success)
	older.RequestedOn = op.RequestedOn.Add(-time.Minute)
	reached := r.tick()
	r.record(push.Record{Page: push.Page{Look: push.Look{StartedAt: reached}, Ordered: true, Rows: push.RowsOf(op, older)}})
	short := r.op("short", push.Pending)
	short.RequestedOn = r.tick()
	r.record(push.Record{Page: push.Page{Ordered: true, Rows: push.RowsOf(short)}}) // does not reach k

	op.Status = push.Success
	r.look(push.FromGet, op)
	history := r.transitions("k")
	require.Len(t, history, 2)
	assert.Equal(t, reached, history[1].Seen.UTC())

	again := r.tick()
	r.record(push.Record{Page: push.Page{Look: push.Look{StartedAt: again}, Ordered: true, Rows: push.RowsOf(op, older)}})
	op.Status = push.Failed
	r.look(push.FromGet, op) // a dispute
	r.look(push.FromGet, op)
	assert.Equal(t, again, r.transitions("k")[2].Seen.UTC(), "a finished one, which is not written when it reads the same")
}

func TestAListThatDoesNotShowAnUnfinishedOperationHasNotSeenIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op, other := r.op("k", push.Pending), r.op("other", push.Success)
	other.RequestedOn = op.RequestedOn.Add(-time.Minute)
	shown := r.tick()
	r.record(push.Record{Page: push.Page{Look: push.Look{StartedAt: shown}, Ordered: true, Last: true, Rows: push.RowsOf(op, other)}})
	r.tick()
	r.record(push.Record{Page: push.Page{Ordered: true, Last: true, Rows: push.RowsOf(other)}})

	op.Status = push.Success
	r.look(push.FromGet, op)
	assert.Equal(t, shown, r.transitions("k")[1].Seen.UTC())
}

func TestKnowingAPageProvesNothingWhileAnEarlierWalkIsUnfinished(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	one, two := r.op("1", push.Pending), r.op("2", push.Pending)
	walk, err := r.OpenWalk(t.Context(), r.company, push.WalkDiscover, r.tick())
	require.NoError(t, err)
	r.record(push.Record{Walk: &walk, Finish: push.IfKnown, Page: push.Page{Rows: push.RowsOf(one)}})
	// Killed between the pages of the walk: the next one finds page 1 recorded.
	again, err := r.OpenWalk(t.Context(), r.company, push.WalkDiscover, r.tick())
	require.NoError(t, err)
	recorded := r.record(push.Record{Walk: &again, Finish: push.IfKnown, Page: push.Page{Rows: push.RowsOf(one)}})
	assert.False(t, recorded.Known)
	assert.False(t, recorded.Finished)
	recorded = r.record(push.Record{Walk: &again, Finish: push.Done, Page: push.Page{Number: 2, Size: 1, Last: true, Rows: push.RowsOf(two)}})
	assert.True(t, recorded.Finished)

	third, err := r.OpenWalk(t.Context(), r.company, push.WalkDiscover, r.tick())
	require.NoError(t, err)
	assert.Equal(t, one.RequestedOn.Add(-push.Overlap), third.Floor, "progress is the newest of the finished walk")
	recorded = r.record(push.Record{Walk: &third, Finish: push.IfKnown, Page: push.Page{Rows: push.RowsOf(one)}})
	assert.True(t, recorded.Known)
	assert.True(t, recorded.Finished)
}

func TestARequestDateFromTheFutureDoesNotHideWhatComesBeforeIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Pending)
	op.RequestedOn = r.now.AddDate(50, 0, 0)
	walk, err := r.OpenWalk(t.Context(), r.company, push.WalkDiscover, r.tick())
	require.NoError(t, err)
	r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true, Rows: push.RowsOf(op)}})
	next, err := r.OpenWalk(t.Context(), r.company, push.WalkDiscover, r.tick())
	require.NoError(t, err)
	assert.Equal(t, walk.StartedAt.Add(-push.Overlap), next.Floor)
}

func TestAWholeWalkResumesOnePageBeforeItsInterruption(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	walk, err := r.OpenWalk(t.Context(), r.company, push.WalkSweep, r.tick())
	require.NoError(t, err)
	for page := 1; page <= 3; page++ {
		r.record(push.Record{Walk: &walk, Page: push.Page{Number: page, Size: 2000, Rows: push.RowsOf(r.op(fmt.Sprint(page), push.Success))}})
	}
	again, err := r.OpenWalk(t.Context(), r.company, push.WalkSweep, r.tick())
	require.NoError(t, err)
	assert.Equal(t, 3, again.FirstPage)
	assert.Equal(t, 2000, again.PageSize)
	assert.Equal(t, walk.StartedAt, again.StartedAt)

	// Smaller pages of rows that were read before, and then of new ones.
	for _, c := range []struct{ page, firstPage, size int }{{2, 3, 2000}, {5999, 3, 2000}, {6003, 6003, 1}} {
		r.record(push.Record{Walk: &walk, Page: push.Page{Number: c.page, Size: 1, Rows: push.RowsOf(r.op(fmt.Sprint(c.page), push.Success))}})
		again, err = r.OpenWalk(t.Context(), r.company, push.WalkSweep, r.tick())
		require.NoError(t, err)
		assert.Equal(t, c.firstPage, again.FirstPage)
		assert.Equal(t, c.size, again.PageSize)
	}
}

// The answer to a COMMIT may be lost, and then the page is recorded once more.
func TestTheLastPageOfAWalkRecordedTwiceIsRecordedOnce(t *testing.T) {
	for _, kind := range []push.WalkKind{push.WalkDiscover, push.WalkSweep} {
		t.Run(string(kind), func(t *testing.T) {
			r := newRig(t, store.Config{})
			r.firstLook()
			walk, err := r.OpenWalk(t.Context(), r.company, kind, r.tick())
			require.NoError(t, err)
			page := func(number int, finish push.Finish) push.Record {
				return r.complete(push.Record{Walk: &walk, Finish: finish, Page: push.Page{Number: number, Size: 1, Last: finish == push.Done,
					Rows: push.RowsOf(r.op(fmt.Sprint(number), push.Success))}})
			}
			r.record(page(1, push.GoOn))
			last := page(2, push.Done)
			first := r.record(last)
			again := r.record(last)
			assert.True(t, first.Finished)
			assert.True(t, again.Finished)
			assert.Zero(t, again.Events)
			const walks = `
select array_agg(pages || ' pages' || case when finished_at is null then '' else ', ended' end order by started_at) from pushwatch.walk
where kind = $1`
			assert.Equal(t, []string{"2 pages, ended"}, query[[]string](r, walks, string(kind)))

			walk, err = r.OpenWalk(t.Context(), r.company, kind, r.tick())
			require.NoError(t, err)
			r.record(page(1, push.GoOn))
			kept := []string{"1 pages"} // of discover walks the last one alone
			if kind == push.WalkSweep {
				kept = []string{"2 pages, ended", "1 pages"}
			}
			assert.Equal(t, kept, query[[]string](r, walks, string(kind)))
			r.record(page(2, push.Done))
			assert.Equal(t, "2 pages, ended", query[[]string](r, walks, string(kind))[len(kept)-1])
		})
	}
}

func TestARecordThatPostgresRefusesDoesNotHurtItsNeighbours(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	var page []push.Operation
	for i := range 9 {
		page = append(page, r.op(fmt.Sprintf("k%d", i), push.Pending))
	}
	poison := "a NUL \x00 that should have been mended"
	page[4].ErrorMessage = &poison
	recorded := r.look(push.FromList, page...)
	assert.Equal(t, 8, recorded.Events)
	assert.Equal(t, int64(8), query[int64](r, `select count(*) from reporting.push_operations`))
	assert.Equal(t, "k4 not_storable", query[string](r, `select push_operation_key || ' ' || class from pushwatch.quarantine`))
}

func TestQuarantinedRecordsAreKeptOncePerBody(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	item := push.Quarantined{CompanyID: companyID, Class: "status_missing", Detail: "status: missing", Hash: []byte("hash"), Body: "{}"}
	for range 3 {
		r.record(push.Record{Page: push.Page{Quarantined: []push.Quarantined{item, item}}})
	}
	assert.Equal(t, "1 3", query[string](r, `select count(*) || ' ' || sum(times) from pushwatch.quarantine`))
}

// TestAnEventTooLargeRefersToItsRow: the stream gets what every broker takes, the row
// keeps all, and the operation beside it is told like any other.
func TestAnEventTooLargeRefersToItsRow(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	large, neighbour := r.op("large", push.Failed), r.op("neighbour", push.Failed)
	text := strings.Repeat("Account 4000 is locked. ", 20_000)
	large.Validation = &push.Validation{Errors: []push.ValidationItem{{Message: &text}}}
	require.Equal(t, 2, r.look(push.FromList, large, neighbour).Events)
	for _, p := range pending(r, r.Outbox(r.leases)) {
		assert.LessOrEqual(t, len(p.Data), event.MaxSize)
		var e event.Event
		require.NoError(t, json.Unmarshal(p.Data, &e))
		if p.Key == "large" {
			assert.Equal(t, []string{"validation", "changes"}, e.Omitted)
			assert.Nil(t, e.Validation)
		} else {
			assert.Empty(t, e.Omitted)
		}
		assert.Equal(t, push.Failed, e.Status)
		assert.Equal(t, int64(1), query[int64](r, `
select count(*) from pushwatch.transition
where company_id = $1 and push_operation_key = $2 and version = $3 and octet_length(coalesce(validation::text, '')) > $4`,
			e.CompanyID, e.PushOperationKey, e.Version, map[string]int{"large": len(text)}[p.Key]-1))
	}
}

func TestRedactedEventsHoldNoText(t *testing.T) {
	r := newRig(t, store.Config{Redacted: true})
	r.firstLook()
	secret := "Ms Smith owes 7 pounds"
	op := r.op("k", push.Failed)
	op.ErrorMessage, op.Validation = &secret, &push.Validation{Warnings: []push.ValidationItem{{Message: &secret}}}
	r.look(push.FromList, op)
	assert.NotContains(t, query[string](r, `select convert_from(payload, 'UTF8') from pushwatch.outbox`), "Smith")
	assert.Equal(t, secret, query[string](r, `select error_message from reporting.push_operations`))
}

// Sixteen writers show one company's operations in every state at once. What is
// committed must be a chain without gaps, whoever came first (I2).
func TestConcurrentLooksLeaveUnbrokenHistories(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	const writers, rounds, keys = 16, 12, 25
	base := r.now
	var group sync.WaitGroup
	errs := make(chan error, writers*rounds)
	for w := range writers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(w)))
			for range rounds {
				var page []push.Operation
				for k := range keys {
					status := []push.Status{push.Pending, "Processing", "Queued"}[random.IntN(3)]
					page = append(page, push.Operation{CompanyID: companyID, Key: fmt.Sprint(k), Status: status, RequestedOn: base})
				}
				started := base.Add(time.Duration(random.IntN(1e9)))
				_, err := r.Record(context.WithoutCancel(t.Context()), push.Record{Company: r.company, Page: push.Page{
					Look: push.Look{Source: push.FromGet, StartedAt: started, FinishedAt: started},
					Rows: push.RowsOf(page...), Number: 1, Size: keys}})
				errs <- err
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	storetest.CheckInvariants(t, r.url)
	assert.Greater(t, query[int64](r, `select count(*) from pushwatch.transition`), int64(keys))
	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.quarantine`), "a race is no bad record")
}

// A newer look is about to commit when an older one arrives. No transition's key
// orders the two, since the status stays: the row lock alone does (I4).
func TestALookJudgesTheRowAsTheLookBeforeItLeftIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("k", push.Pending))
	code := 1
	op := r.op("k", push.Pending)
	op.StatusCode = &code
	older := r.complete(push.Record{Page: push.Page{Rows: push.RowsOf(op)}})

	conn, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	newer, err := conn.Begin(t.Context())
	require.NoError(t, err)
	_, err = newer.Exec(t.Context(), `update pushwatch.operation set status_code = 2, looked_at = $1`, r.tick().Add(time.Minute))
	require.NoError(t, err)
	recorded := make(chan error, 1)
	go func() { _, err := r.Record(context.WithoutCancel(t.Context()), older); recorded <- err }()
	require.Eventually(t, func() bool {
		return query[int64](r, `select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`) > 0
	}, 10*time.Second, 10*time.Millisecond)
	require.NoError(t, newer.Commit(t.Context()))
	require.NoError(t, <-recorded)
	assert.Equal(t, int64(2), query[int64](r, `select status_code from pushwatch.operation`))
}

func TestACancelledLookLeavesNoSessionIdleInTransaction(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled := make(chan struct{})
	go func() { defer close(cancelled); cancel() }()
	for range 20 {
		_, _ = r.Record(ctx, r.complete(push.Record{Page: push.Page{Rows: push.RowsOf(r.op("k", push.Pending))}}))
	}
	<-cancelled
	assert.Zero(t, query[int64](r, `
select count(*) from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'`))
}

func TestTheSchemaStatesTheInvariants(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("k", push.Pending))
	for constraint, sql := range map[string]string{
		"operation_status_says_something":      `update pushwatch.operation set status = ' '`,
		"operation_versions_count_from_zero":   `update pushwatch.operation set versions = -1`,
		"operation_pruned_versions_were_there": `update pushwatch.operation set pruned_versions = versions + 1`,
		"operation_dispute_is_whole":           `update pushwatch.operation set disputed_status = 'x'`,
		"operation_key_fits":                   `update pushwatch.operation set push_operation_key = repeat('k', 257)`,
		"transition_version_counts_from_one":   `update pushwatch.transition set version = 0`,
		"transition_changes_something":         `update pushwatch.transition set previous_status = status`,
		"transition_source_is_a_look":          `update pushwatch.transition set source = 'webhook'`,
		"outbox_bucket_is_of_64":               `update pushwatch.outbox set bucket = 64`,
		"publication_has_a_sequence":           `insert into pushwatch.publication values ('c', 'k', 1, 1, 0, now())`,
		"quota_used_counts_from_zero":          `insert into pushwatch.quota_day (day, used) values (now(), -1)`,
		"walk_kind_is_known":                   `insert into pushwatch.walk (company_id, kind, started_at) values ('c', 'x', now())`,
		"instance_is_one_row":                  `insert into pushwatch.instance (singleton, id) values (false, '00000000')`,
	} {
		assert.ErrorContains(t, r.exec(sql), constraint, sql)
	}
}
