package store_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

const epoch = "CODAT_PUSH@2026-01-01T00:00:00Z"

// twoVersions records Pending and then Success of key.
func (r *rig) twoVersions(key string) {
	op := r.op(key, push.Pending)
	r.look(push.FromList, op)
	op.Status = push.Success
	r.look(push.FromGet, op)
}

func pending(r *rig, o *store.Outbox) []event.Pending {
	r.Helper()
	all, _, err := o.Pending(r.Context(), 0, 100)
	require.NoError(r, err)
	return all
}

func send(r *rig, o *store.Outbox, sequence uint64, p event.Pending) int {
	r.Helper()
	n, err := o.Sent(r.Context(), []event.Sent{{Pending: &p, Epoch: epoch, Sequence: sequence}})
	require.NoError(r, err)
	storetest.CheckInvariants(r, r.url)
	return n
}

// onePending is a database in which one event waits, of operation k.
func onePending(t *testing.T) (*rig, *store.Outbox, event.Pending) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("k", push.Pending))
	o := r.Outbox(r.leases)
	return r, o, pending(r, o)[0]
}

func TestOneEventOfAnOperationIsPendingAtATimeAndKnowsItsPredecessor(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("a")
	r.twoVersions("b")
	o := r.Outbox(r.leases)

	first := pending(r, o)
	require.Len(t, first, 2)
	for _, p := range first {
		assert.Equal(t, int64(1), p.Version)
		assert.Zero(t, p.PreviousSequence)
		assert.Empty(t, p.PreviousID)
		assert.Equal(t, p.ID, p.Header["ce-id"])
	}
	require.Equal(t, 1, send(r, o, 41, first[0]))

	second := pending(r, o)
	require.Len(t, second, 2)
	next := second[1] // younger than the other operation's first
	if second[0].Key == first[0].Key {
		next = second[0]
	}
	assert.Equal(t, int64(2), next.Version)
	assert.Equal(t, uint64(41), next.PreviousSequence)
	assert.Equal(t, first[0].ID, next.PreviousID)
	assert.WithinDuration(t, r.Now(), next.PreviousAt, time.Minute)
	assert.Equal(t, int64(41), query[int64](r, `select stream_sequence from reporting.push_transitions where published_at is not null`))
}

func TestASentEventRecordedTwiceIsRecordedOnce(t *testing.T) {
	r, o, p := onePending(t)
	assert.Equal(t, 1, send(r, o, 1, p))
	assert.Zero(t, send(r, o, 1, p))
	assert.Empty(t, pending(r, o))
}

// A call that took effect late may have taken the event away.
func TestAnEventThatDoesNotWaitAnyMoreIsNotSetAside(t *testing.T) {
	r, o, p := onePending(t)
	require.Equal(t, 1, send(r, o, 7, p))
	waited, err := o.Reject(t.Context(), p, "foreign_instance", "")
	require.NoError(t, err)
	assert.False(t, waited)
}

func TestARelayThatLostItsLeaseMarksNothing(t *testing.T) {
	r, o, p := onePending(t)

	require.NoError(t, r.exec(`update pushwatch.lease set expires_at = now() - interval '1 s'`))
	other := r.Leases(holder("b"), nil)
	other.Want(store.RelayLeases())
	require.NoError(t, other.Renew(t.Context()))
	assert.Zero(t, send(r, o, 7, p))
	_, err := o.Reject(t.Context(), p, "x", "y")
	require.ErrorIs(t, err, store.ErrFenced)

	assert.Len(t, pending(r, r.Outbox(other)), 1, "the new holder has it")
}

func TestEventsThatTheStreamLostComeBackMarkedAndInOrder(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	require.NoError(t, r.RollSent(t.Context(), time.Hour))
	r.twoVersions("k")
	o := r.Outbox(r.leases)
	v1 := pending(r, o)[0]
	send(r, o, 1, v1)
	v2 := pending(r, o)[0]
	send(r, o, 2, v2)

	lost := []event.Lost{{Operation: event.Operation{CompanyID: v2.CompanyID, Key: v2.Key, Bucket: v2.Bucket}}}
	n, err := r.Outbox(r.Leases("another", nil)).Requeue(t.Context(), lost, 0)
	require.ErrorIs(t, err, store.ErrFenced, "not ours, which is not the same as not kept")
	assert.Zero(t, n)
	n, err = o.Requeue(t.Context(), lost, 0)
	require.NoError(t, err)
	assert.Equal(t, 2, n)
	storetest.CheckInvariants(t, r.url)
	again := pending(r, o)
	require.Len(t, again, 1)
	assert.Equal(t, marked(v1.Message), again[0].Message)
	send(r, o, 11, again[0])
	again = pending(r, o)
	require.Len(t, again, 1)
	assert.Equal(t, marked(v2.Message), again[0].Message)
	assert.Equal(t, uint64(11), again[0].PreviousSequence)

	n, err = o.Requeue(t.Context(), lost, 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, marked(v1.Message), pending(r, o)[0].Message, "once more")
}

// marked is a message that the stream lost.
func marked(m event.Message) event.Message {
	m.Header = maps.Clone(m.Header)
	m.Header["Pushwatch-Replayed"] = "1"
	return m
}

// The database is an older copy since the event was read, and another one has its version.
func TestAnEventOfALostCommitIsNotTakenForTheOneInItsPlace(t *testing.T) {
	r, o, read := onePending(t)
	require.NoError(t, r.exec(`update pushwatch.outbox set created_at = created_at + interval '1 microsecond'`))
	assert.Zero(t, send(r, o, 1, read))
	assert.Len(t, pending(r, o), 1)
}

func TestARejectedEventHoldsUpItsOwnOperationAlone(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("bad")
	r.look(push.FromList, r.op("good", push.Pending))
	o := r.Outbox(r.leases)
	for _, p := range pending(r, o) {
		if p.Key == "bad" {
			waited, err := o.Reject(t.Context(), p, "too_large", "300 KiB")
			require.NoError(t, err)
			require.True(t, waited)
		}
	}
	left := pending(r, o)
	require.Len(t, left, 1)
	assert.Equal(t, "good", left[0].Key)
	waiting, rejected, err := r.Backlog(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []int64{2, 1}, []int64{waiting, rejected})

	require.NoError(t, r.exec(`update pushwatch.outbox set created_at = created_at - case when push_operation_key = 'bad' then interval '2 days' else interval '1 hour' end`))
	oldest, err := r.OldestPending(t.Context())
	require.NoError(t, err)
	assert.InDelta(t, time.Hour.Seconds(), oldest.Seconds(), 60, "what waits behind a rejected one is another matter")
	send(r, o, 1, pending(r, o)[0])
	oldest, err = r.OldestPending(t.Context())
	require.NoError(t, err)
	assert.Zero(t, oldest)
}

func TestTheSubjectKeepsTheDataTypeOfTheFirstSight(t *testing.T) {
	r := newRig(t, store.Config{SubjectPrefix: "acme.push"})
	r.firstLook()
	op := r.op("k", push.Pending)
	op.DataType = ""
	r.look(push.FromList, op)
	op.Status, op.DataType = push.Success, "bills"
	r.look(push.FromGet, op)
	o := r.Outbox(r.leases)
	v1 := pending(r, o)[0]
	send(r, o, 1, v1)
	v2 := pending(r, o)[0]
	assert.Equal(t, "acme.push."+companyID+"._.k.pending", v1.Subject)
	assert.Equal(t, "acme.push."+companyID+"._.k.success", v2.Subject)
	assert.Contains(t, string(v2.Data), `"dataType":"bills"`)
	assert.Equal(t, v1.Filter, v2.Filter)
}

func TestSentDaysAreDroppedAtTheHorizonButNeverTheNewestTenThousand(t *testing.T) {
	r := newRig(t, store.Config{})
	day := r.Now().AddDate(0, 0, -30).Format("2006-01-02")
	require.NoError(t, r.exec(`create table pushwatch.sent_`+r.Now().AddDate(0, 0, -30).Format("20060102")+
		` partition of pushwatch.sent for values from ('`+day+` 00:00:00+00') to ('`+r.Now().AddDate(0, 0, -29).Format("2006-01-02")+` 00:00:00+00')`))
	const partitions = `select count(*) from pg_inherits where inhparent = 'pushwatch.sent'::regclass`
	require.NoError(t, r.RollSent(t.Context(), 7*24*time.Hour))
	assert.Equal(t, int64(5), query[int64](r, partitions), "default, the old one, three days ahead")
	require.NoError(t, r.exec(`
insert into pushwatch.sent select now(), 1, n, 'c', 'k', n, 0, 'e', null, 's', 'f', '{}', '', now() from generate_series(1, 10000) n`))
	require.NoError(t, r.RollSent(t.Context(), 7*24*time.Hour))
	assert.Equal(t, int64(4), query[int64](r, partitions))
}

// A dump holds each table for as long as it takes.
func TestADayOfSentEventsWaitsForNobodyLong(t *testing.T) {
	r := newRig(t, store.Config{})
	const partitions = `select count(*) from pg_inherits where inhparent = 'pushwatch.sent'::regclass`
	dump, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { require.NoError(t, dump.Close(t.Context())) }()
	_, err = dump.Exec(t.Context(), `begin; lock table pushwatch.sent in access share mode`)
	require.NoError(t, err)
	require.ErrorContains(t, r.RollSent(t.Context(), time.Hour), "lock timeout")
	assert.Equal(t, int64(1), query[int64](r, partitions), "the default")

	_, err = dump.Exec(t.Context(), `commit`)
	require.NoError(t, err)
	require.NoError(t, r.RollSent(t.Context(), time.Hour))
	assert.Equal(t, int64(4), query[int64](r, partitions))
}

// A statement that began before a partition was made would go past it.
func TestWhatIsPublishedWhileItsDayIsMadeGoesThere(t *testing.T) {
	r, o, p := onePending(t)
	other, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close(t.Context())) }()
	_, err = other.Exec(t.Context(), `begin; select pushwatch.add_sent_day((pg_catalog.now() at time zone 'UTC')::date)`)
	require.NoError(t, err)

	var sending errgroup.Group
	sending.Go(func() error {
		_, err := o.Sent(t.Context(), []event.Sent{{Pending: &p, Epoch: epoch, Sequence: 7}})
		return err
	})
	require.Eventually(t, func() bool {
		return query[int64](r, `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`) == 1
	}, 20*time.Second, time.Millisecond)
	_, err = other.Exec(t.Context(), `commit`)
	require.NoError(t, err)
	require.NoError(t, sending.Wait())
	assert.Empty(t, pending(r, o))
	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.sent_default`))
	storetest.CheckInvariants(t, r.url)
}

func TestADayWithMoreThanASecondMayMoveStaysInTheDefault(t *testing.T) {
	r := newRig(t, store.Config{})
	require.NoError(t, r.exec(`
insert into pushwatch.sent (published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
    subject, filter, header, payload, created_at)
select now(), 1, n, 'c', 'k', n, 0, 'e', 's', 'f', '{}', '', now() from generate_series(1, 20001) n`))
	require.NoError(t, r.RollSent(t.Context(), time.Hour))
	assert.Equal(t, int64(20_001), query[int64](r, `select count(*) from pushwatch.sent_default`))
	const partitions = `select count(*) from pg_inherits where inhparent = 'pushwatch.sent'::regclass`
	assert.Equal(t, int64(3), query[int64](r, partitions), "the default, tomorrow and the day after")
}

// A process that slept for days publishes before it makes the day.
func TestWhatWasPublishedOnADayWithoutAPartitionMovesToIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("today", push.Pending), r.op("long ago", push.Pending))
	o := r.Outbox(r.leases)
	for i, p := range pending(r, o) {
		send(r, o, uint64(i+1), p)
	}
	require.NoError(t, r.exec(`
with aged as (
    update pushwatch.sent set published_at = published_at - interval '30 days' where push_operation_key = 'long ago' returning published_at
)
update pushwatch.publication set published_at = aged.published_at from aged where push_operation_key = 'long ago'`))
	kept, err := o.Newest(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, kept, 2)

	require.NoError(t, r.RollSent(t.Context(), 60*24*time.Hour))

	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.sent_default`))
	long := query[time.Time](r, `select min(published_at) from pushwatch.sent`)
	for day, rows := range map[time.Time]int64{r.Now(): 1, long: 1, r.Now().AddDate(0, 0, 1): 0, r.Now().AddDate(0, 0, 2): 0} {
		assert.Equal(t, rows, query[int64](r, `select count(*) from pushwatch.sent_`+day.UTC().Format("20060102")), "%s", day)
	}
	again, err := o.Newest(t.Context(), 0, 10)
	require.NoError(t, err)
	assert.Equal(t, kept, again)
	const indexes = `select count(*) from pg_inherits where inhparent = 'pushwatch.sent_age'::regclass`
	assert.Equal(t, int64(5), query[int64](r, indexes), "of the default, the day of long ago, and three days")
}

// How old an event is, the database's clock says alone: a process may have slept.
func TestWhatWasPublishedLongerAgoThanItIsKeptDoesNotComeBack(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("old", push.Pending))
	r.look(push.FromList, r.op("young", push.Pending))
	o := r.Outbox(r.leases)
	waiting := pending(r, o)
	require.Len(t, waiting, 2)
	assert.WithinDuration(t, r.Now(), waiting[0].ReadAt, time.Minute)
	send(r, o, 1, waiting[0])
	send(r, o, 2, waiting[1])
	for _, table := range []string{"sent", "publication"} { // which tell one time of one event
		require.NoError(t, r.exec(`update pushwatch.`+table+` set published_at = published_at - interval '2 hours' where push_operation_key = 'old'`))
	}
	lost := []event.Lost{{Operation: event.Operation{CompanyID: companyID, Key: "old", Bucket: waiting[0].Bucket}},
		{Operation: event.Operation{CompanyID: companyID, Key: "young", Bucket: waiting[1].Bucket}}}
	keys := func(all []event.Kept, err error) (keys []string) {
		require.NoError(t, err)
		for _, k := range all {
			keys = append(keys, k.Key)
		}
		return keys
	}
	assert.Equal(t, []string{"young", "old"}, keys(o.Newest(t.Context(), 0, 10)))
	assert.Equal(t, []string{"young", "old"}, keys(o.Newest(t.Context(), 3*time.Hour, 10)))
	assert.Equal(t, []string{"young"}, keys(o.Newest(t.Context(), time.Hour, 10)))
	assert.Equal(t, []string{"old", "young"}, keys(o.After(t.Context(), event.Kept{}, 0, 10)))
	assert.Equal(t, []string{"young"}, keys(o.After(t.Context(), event.Kept{}, time.Hour, 10)))

	n, err := o.Requeue(t.Context(), lost, time.Hour)

	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Equal(t, []string{"old"}, keys(o.Newest(t.Context(), 0, 10)))
	n, err = o.Requeue(t.Context(), lost, 0)
	require.NoError(t, err)
	assert.Equal(t, 1, n)
	assert.Len(t, pending(r, o), 2)
}

// An event that is found in the stream long after it was stored there, because the
// process died before it could record it, leaves the stream so much earlier.
func TestAnEventThatIsRecordedLateCountsFromWhenTheStreamStoredIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("late", push.Pending), r.op("now", push.Pending), r.op("ahead", push.Pending))
	o := r.Outbox(r.leases)
	var sent []event.Sent
	for i, p := range pending(r, o) {
		at := map[string]time.Time{"late": r.Now().Add(-2 * time.Hour), "now": p.ReadAt, "ahead": r.Now().Add(time.Hour)}
		sent = append(sent, event.Sent{Pending: &p, Epoch: epoch, Sequence: uint64(i + 1), At: at[p.Key]})
	}

	n, err := o.Sent(t.Context(), sent)

	require.NoError(t, err)
	require.Equal(t, 3, n)
	published := map[string]time.Time{}
	all, err := o.Newest(t.Context(), 0, 10)
	require.NoError(t, err)
	for _, k := range all {
		published[k.Key] = k.PublishedAt
	}
	assert.WithinDuration(t, r.Now().Add(-2*time.Hour+time.Minute), published["late"], 30*time.Second)
	assert.WithinDuration(t, r.Now(), published["now"], 30*time.Second)
	assert.WithinDuration(t, r.Now(), published["ahead"], 30*time.Second, "the server's clock may be wrong")
	r.look(push.FromList, r.op("late", push.Success))
	assert.Equal(t, published["late"], pending(r, o)[0].PreviousAt)
}

func TestWhatWaitsIsReadInPages(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	for i := range 5 {
		r.look(push.FromList, r.op(fmt.Sprint(i), push.Pending))
	}
	o := r.Outbox(r.leases)
	var read []string
	for after, more := int64(0), true; more; {
		page, further, err := o.Pending(t.Context(), after, 2)
		require.NoError(t, err)
		for _, p := range page {
			require.Greater(t, p.Place, after)
			read, after = append(read, p.Key), p.Place
		}
		more = further
	}
	assert.Equal(t, []string{"0", "1", "2", "3", "4"}, read)
}

// A batch of the largest events would not fit into memory several times over.
func TestAPageOfLargeEventsIsCutShort(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	text := strings.Repeat("x", 60_000)
	operations := make([]push.Operation, 100)
	for i := range operations {
		operations[i] = r.op(fmt.Sprintf("%03d", i), push.Failed)
		operations[i].ErrorMessage = &text
	}
	r.look(push.FromList, operations...)
	require.NoError(t, r.leases.Renew(t.Context())) // writing so much may take longer than leases are trusted
	o := r.Outbox(r.leases)
	first, more, err := o.Pending(t.Context(), 0, 100)
	require.NoError(t, err)
	require.True(t, more)
	require.InDelta(t, 4<<20/60_000, len(first), 2)
	rest, more, err := o.Pending(t.Context(), first[len(first)-1].Place, 100)
	require.NoError(t, err)
	assert.False(t, more)
	assert.Len(t, rest, 100-len(first))
}

// Whatever headers an event has, they are read as PostgreSQL was given them.
func TestHeadersAreReadAsTheyWereKept(t *testing.T) {
	r := newRig(t, store.Config{})
	conn, err := pgx.Connect(t.Context(), r.url)
	require.NoError(t, err)
	defer func() { assert.NoError(t, conn.Close(context.WithoutCancel(t.Context()))) }()
	printed := func(t require.TestingT, header map[string]string) (text string) {
		require.NoError(t, conn.QueryRow(r.Context(), `select $1::jsonb::text`, header).Scan(&text))
		return text
	}
	texts := rapid.StringOfN(rapid.SampledFrom([]rune(`ab-:, {}"\`+"\n\té\u2028<")), 0, 8, -1)
	rapid.Check(t, func(rt *rapid.T) {
		header := rapid.MapOfN(texts, texts, 0, 4).Draw(rt, "header")

		read, err := store.ReadHeader(printed(rt, header))

		require.NoError(rt, err)
		require.Equal(rt, header, read)
	})
	_, err = store.ReadHeader(`{"a": ["b", "c"]}`)
	assert.Error(t, err, "no object of strings")
}
