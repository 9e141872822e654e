package store_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// aside lists what is set aside.
func (r *rig) aside(filter store.AsideFilter) (all []store.Aside) {
	r.Helper()
	require.NoError(r, r.EachAside(r.Context(), filter, 0, func(a store.Aside) error { all = append(all, a); return nil }))
	return all
}

// setAside records a page that shows records which could not be read; a key of ""
// could not either.
func (r *rig) setAside(keys ...string) {
	r.Helper()
	page := push.Page{}
	for _, key := range keys {
		page.Quarantined = append(page.Quarantined, push.Quarantined{CompanyID: companyID, Key: key, Class: "status_missing",
			Detail: "status must be text", Hash: []byte("hash of " + key), Body: `{"key":"` + key + `"}`})
	}
	r.record(push.Record{Page: page})
}

// reject rejects the pending event of key and returns its id in the quarantine.
func (r *rig) reject(o *store.Outbox, key, class string) store.AsideID {
	r.Helper()
	for _, p := range pending(r, o) {
		if p.Key == key {
			waited, err := o.Reject(r.Context(), p, class, "300 KiB")
			require.NoError(r, err)
			require.True(r, waited)
		}
	}
	all := r.aside(store.AsideFilter{Key: key})
	require.Len(r, all, 1)
	return all[0].ID
}

func TestTheQuarantineListsRecordsAndEventsTheNewestFirst(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("big")
	event := r.reject(r.Outbox(r.leases), "big", "too_large")
	r.now = r.Now().Add(time.Hour) // the record is seen after the event was rejected
	r.setAside("bad", "")
	all := r.aside(store.AsideFilter{})
	require.Len(t, all, 3)
	assert.Equal(t, store.AsideEvent, all[2].Kind)
	assert.Equal(t, int64(1), all[2].Behind, "version 2 waits")
	assert.Equal(t, "Toft stores", all[0].Company)
	assert.Empty(t, all[0].Body)

	shown, err := r.ShowAside(t.Context(), event)
	require.NoError(t, err)
	assert.Contains(t, shown.Body, `"pushOperationKey":"big"`)
	assert.Len(t, r.aside(store.AsideFilter{Class: "too_large"}), 1)
	assert.Len(t, r.aside(store.AsideFilter{CompanyID: "another"}), 0)
	_, err = r.ShowAside(t.Context(), "r99")
	require.ErrorIs(t, err, store.ErrNotAside)
	for _, bad := range []string{"", "r", "12", "x1", "r0", "r-1", "e1e"} {
		_, _, err := store.ParseAsideID(bad)
		require.Error(t, err, bad)
	}
}

func TestARetriedEventGoesBackInItsOperationsOrder(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("k")
	o := r.Outbox(r.leases)
	id := r.reject(o, "k", "too_large")
	require.Empty(t, pending(r, o))
	require.NoError(t, r.RetryEvent(t.Context(), id))
	storetest.CheckInvariants(t, r.url)
	v1 := pending(r, o)
	require.Len(t, v1, 1)
	assert.Equal(t, int64(1), v1[0].Version)
	send(r, o, 5, v1[0])
	assert.Equal(t, uint64(5), pending(r, o)[0].PreviousSequence)
	require.ErrorIs(t, r.RetryEvent(t.Context(), id), store.ErrNotAside)
}

func TestADroppedEventIsAGapBehindWhichItsOperationGoesOn(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("k")
	r.twoVersions("neighbour")
	o := r.Outbox(r.leases)
	id := r.reject(o, "k", "too_large")
	require.NoError(t, r.DropAside(t.Context(), id))
	storetest.CheckInvariants(t, r.url)

	for _, p := range pending(r, o) {
		if p.Key != "k" {
			continue
		}
		assert.Equal(t, int64(2), p.Version)
		assert.Zero(t, p.PreviousSequence)
		assert.Zero(t, p.PreviousAt, "as an event that was never published, which counts as gone")
		send(r, o, 9, p)
	}
	assert.Equal(t, []string{"Pending", "Success"}, r.statuses("k"), "the history keeps what the stream will never have")
	lives, err := r.Lives(t.Context(), "", "k")
	require.NoError(t, err)
	require.Len(t, lives[0].Changes, 2)
	assert.NotNil(t, lives[0].Changes[0].DroppedAt)
	assert.Equal(t, int64(9), *lives[0].Changes[1].Sequence)
	counts, err := r.CountAside(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []store.AsideCount{{Kind: store.AsideEvent, Class: "too_large", Dropped: 1}}, counts)
	dropped := 0
	require.NoError(t, r.EachDropped(t.Context(), func(store.Transition) error { dropped++; return nil }))
	assert.Equal(t, 1, dropped)
	require.ErrorIs(t, r.DropAside(t.Context(), id), store.ErrNotAside)
}

func TestAnEventThatMayBePublishedCannotBeDropped(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("k")
	o := r.Outbox(r.leases)
	id := r.reject(o, "k", "too_large")
	require.NoError(t, r.RetryEvent(t.Context(), id))
	require.ErrorIs(t, r.DropAside(t.Context(), id), store.ErrNotAside)
	assert.Len(t, pending(r, o), 1)
}

func TestADroppedRecordStaysDroppedAndKnownHoweverOftenItIsSeen(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.setAside("")
	id := r.aside(store.AsideFilter{})[0].ID
	require.NoError(t, r.DropAside(t.Context(), id))
	r.setAside("")
	assert.Empty(t, r.aside(store.AsideFilter{}))
	assert.Equal(t, "", query[string](r, `select body from pushwatch.quarantine`))
	recorded := r.record(push.Record{Page: push.Page{Quarantined: []push.Quarantined{{CompanyID: companyID, Class: "c", Hash: []byte("hash of ")}}}})
	assert.True(t, recorded.Known, "so that it makes no discover walk longer")
}

func TestARecordWithoutAKeyWaitsForAWalkThatShowsItOrASweepThatDoesNot(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.setAside("")
	id := r.aside(store.AsideFilter{})[0].ID
	require.NoError(t, r.AwaitRecord(t.Context(), id))
	require.NotNil(t, r.aside(store.AsideFilter{})[0].RetriedAt)
	r.setAside("")
	require.Nil(t, r.aside(store.AsideFilter{})[0].RetriedAt, "it was seen and still cannot be read")

	require.NoError(t, r.AwaitRecord(t.Context(), id))
	retain := func() int64 {
		done, err := r.Retain(t.Context(), store.Retention{})
		require.NoError(t, err)
		return done.Records
	}
	assert.Zero(t, retain())
	r.now = r.Now().Add(time.Second)
	walk, err := r.OpenWalk(t.Context(), r.company, push.WalkSweep, r.tick())
	require.NoError(t, err)
	assert.Zero(t, retain(), "the sweep is not finished")
	r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true}})
	assert.Equal(t, int64(1), retain())
	assert.Empty(t, r.aside(store.AsideFilter{}))
}

func TestALookOfAPersonIsRecordedUnderTheFenceOfTheHolder(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	borrowed, ok, err := r.Borrow(t.Context(), companyID)
	require.NoError(t, err)
	require.True(t, ok)
	assert.Equal(t, r.company.Fence, borrowed.Fence)
	recorded := r.record(push.Record{Company: borrowed, Page: push.Page{Look: push.Look{Source: push.FromGet},
		Rows: push.RowsOf(r.op("k", push.Pending))}})
	assert.Equal(t, 1, recorded.Events)

	require.NoError(t, r.exec(`update pushwatch.lease set token = token + 1`))
	_, err = r.Record(t.Context(), r.complete(push.Record{Company: borrowed, Page: push.Page{
		Rows: push.RowsOf(r.op("late", push.Pending))}}))
	require.ErrorIs(t, err, store.ErrFenced)
	_, ok, err = r.Borrow(t.Context(), "never-seen")
	require.NoError(t, err)
	assert.False(t, ok)
}
