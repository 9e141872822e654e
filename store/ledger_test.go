package store_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

func TestTheLedgerCountsEveryRequestOfEveryReplica(t *testing.T) {
	r := newRig(t, store.Config{})
	var group sync.WaitGroup
	errs := make(chan error, 8*25)
	for range 8 {
		group.Go(func() {
			for range 25 {
				errs <- r.UpdateQuota(context.WithoutCancel(t.Context()), time.Time{}, func(_ time.Time, q *push.Quota) { q.Used++ })
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		require.NoError(t, err)
	}
	assert.Equal(t, int64(200), query[int64](r, `select used from pushwatch.quota_day`))
}

func TestTheLedgerKeepsDaysApartAndTheGateForAll(t *testing.T) {
	r := newRig(t, store.Config{})
	limit, yesterday := 2000, r.Now().AddDate(0, 0, -1)
	until := r.Now().Add(time.Hour)
	require.NoError(t, r.UpdateQuota(t.Context(), yesterday, func(_ time.Time, q *push.Quota) {
		q.Limit, q.Used, q.UsedWalks = &limit, 3, 2
		q.BlockedUntil, q.BlockedBy = until, push.KindThrottled
	}))
	require.NoError(t, r.UpdateQuota(t.Context(), time.Time{}, func(now time.Time, q *push.Quota) {
		assert.Nil(t, q.Limit)
		assert.Zero(t, q.Used)
		assert.Equal(t, until, q.BlockedUntil)
		assert.Equal(t, push.KindThrottled, q.BlockedBy)
		assert.WithinDuration(t, r.Now(), now, 10*time.Second)
		q.BlockedUntil, q.BlockedBy = time.Time{}, ""
	}))
	require.NoError(t, r.UpdateQuota(t.Context(), yesterday, func(_ time.Time, q *push.Quota) {
		assert.Equal(t, 2000, *q.Limit)
		assert.Equal(t, 3, q.Used)
		assert.Equal(t, 2, q.UsedWalks)
		assert.True(t, q.BlockedUntil.IsZero())
	}))
}

func TestDue(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	young, old, done := r.op("young", push.Pending), r.op("old", push.Pending), r.op("done", push.Success)
	old.RequestedOn = r.now.Add(-100 * time.Minute)
	r.look(push.FromList, young, old, done)
	companies := []push.Company{r.company}
	keys := func(now time.Time) []string {
		due, err := r.Due(t.Context(), companies, now, time.Minute)
		require.NoError(t, err)
		names := []string{}
		for _, d := range due {
			names = append(names, d.Key)
		}
		return names
	}
	seen := r.now
	assert.Empty(t, keys(seen.Add(30*time.Second)), "no sooner than one track period")
	assert.Equal(t, []string{"young"}, keys(seen.Add(2*time.Minute)), "an old one waits a tenth of its age")
	assert.Equal(t, []string{"young", "old"}, keys(seen.Add(15*time.Minute)), "youngest first")
	assert.Equal(t, []string{"young", "old"}, keys(seen.AddDate(0, 0, 10)))
	assert.Equal(t, []string{"young", "old"}, keys(seen.AddDate(1, 0, 0).Add(time.Hour)), "at most an hour")

	t.Run("a list that shows it has seen it", func(t *testing.T) {
		r.now = seen.Add(5 * time.Minute)
		r.record(push.Record{Page: push.Page{Ordered: true, Rows: push.RowsOf(young, old)}})
		assert.Empty(t, keys(r.now.Add(30*time.Second)))
	})
	t.Run("a list of everything that does not show it has not", func(t *testing.T) {
		r.now = r.now.Add(15 * time.Minute)
		r.record(push.Record{Page: push.Page{Ordered: true, Last: true, Rows: push.RowsOf(old)}})
		assert.Equal(t, []string{"young"}, keys(r.now.Add(30*time.Second)))
	})
	t.Run("a disputed one is due whatever its age", func(t *testing.T) {
		done.Status = push.Pending
		r.look(push.FromList, done)
		assert.Contains(t, keys(r.now), "done")
	})
}

func TestDueTellsWhatLiesOnTheFirstPage(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	fallen, there := r.op("fallen", push.Pending), r.op("there", push.Pending)
	there.RequestedOn = r.tick()
	r.look(push.FromList, fallen, there)
	r.record(push.Record{Page: push.Page{Ordered: true, Rows: push.RowsOf(there)}})
	due, err := r.Due(t.Context(), []push.Company{r.company}, r.now.Add(time.Hour), time.Minute)
	require.NoError(t, err)
	require.Len(t, due, 2)
	assert.Equal(t, "there", due[0].Key)
	assert.True(t, due[0].OnFirstPage)
	assert.False(t, due[1].OnFirstPage)
}
