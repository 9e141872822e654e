package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

var monthly = store.Retention{History: 720 * time.Hour, Horizon: 168 * time.Hour}

// publishAll publishes everything that is pending.
func (r *rig) publishAll() {
	r.Helper()
	o := r.Outbox(r.leases)
	for sequence := uint64(1); ; {
		all := pending(r, o)
		if len(all) == 0 {
			return
		}
		for _, p := range all {
			send(r, o, sequence, p)
			sequence++
		}
	}
}

// age makes everything that is there 40 days old.
func (r *rig) age() {
	r.Helper()
	require.NoError(r, r.exec(`
update pushwatch.operation set last_changed_at = last_changed_at - interval '40 days', looked_at = looked_at - interval '40 days',
    first_seen_at = first_seen_at - interval '40 days', requested_at = requested_at - interval '40 days',
    got_at = got_at - interval '40 days';
update pushwatch.publication set published_at = published_at - interval '40 days';
update pushwatch.sent set published_at = published_at - interval '40 days';
update pushwatch.quarantine set last_seen_at = last_seen_at - interval '40 days'`))
}

func (r *rig) retain(retention store.Retention) store.Retained {
	r.Helper()
	done, err := r.Retain(r.Context(), retention)
	require.NoError(r, err)
	storetest.CheckInvariants(r, r.url)
	return done
}

func TestPrunedHistoryIsGoneAndItsOperationIsStillKnown(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	op := r.op("k", push.Pending)
	r.look(push.FromList, op)
	op.Status = push.Failed
	message := "Toft owes 12"
	op.ErrorMessage = &message
	r.look(push.FromGet, op)
	r.publishAll()
	require.Zero(t, r.retain(monthly).Operations, "it is young")
	r.age()
	require.Zero(t, r.retain(store.Retention{Horizon: time.Hour}).Operations, "0 is for ever")
	require.Equal(t, int64(1), r.retain(monthly).Operations)
	require.Zero(t, r.retain(monthly).Operations)

	for _, table := range []string{"pushwatch.transition", "pushwatch.publication", "pushwatch.sent", "reporting.push_operations"} {
		assert.Zero(t, query[int64](r, `select count(*) from `+table), table)
	}
	assert.Zero(t, query[int64](r, `select count(*) from pushwatch.operation where operation::text like '%Toft%'`))
	pruned := []store.Pruned{}
	require.NoError(t, r.EachPruned(t.Context(), func(p store.Pruned) error { pruned = append(pruned, p); return nil }))
	assert.Equal(t, []store.Pruned{{CompanyID: companyID, Key: "k", Versions: 2}}, pruned)

	t.Run("Codat lists it for ever and it is no news", func(t *testing.T) {
		op.RequestedOn = op.RequestedOn.Add(-40 * 24 * time.Hour)
		for _, source := range []push.Source{push.FromList, push.FromGet, push.FromList} {
			recorded := r.look(source, op)
			assert.Zero(t, recorded.Events+recorded.First)
		}
		other := "another text"
		op.ErrorMessage = &other
		assert.Zero(t, r.look(push.FromList, op).Events)
		assert.Zero(t, query[int64](r, `select count(*) from pushwatch.operation where error_message is not null`), "its texts stay away")
		assert.Empty(t, pending(r, r.Outbox(r.leases)))
	})
	t.Run("a change after all is the next version", func(t *testing.T) {
		op.Status = push.Success
		require.Equal(t, []string{"k"}, r.look(push.FromList, op).Disputed)
		require.Equal(t, 1, r.look(push.FromGet, op).Events)
		p := pending(r, r.Outbox(r.leases))
		require.Len(t, p, 1)
		assert.Equal(t, int64(3), p[0].Version)
		assert.Contains(t, string(p[0].Data), `"previousStatus":"Failed"`)
		assert.NotEmpty(t, p[0].PreviousID)
		assert.Equal(t, int64(1), query[int64](r, `select count(*) from reporting.push_operations`), "it is seen again")
		r.publishAll()
		r.age()
		assert.Equal(t, int64(1), r.retain(monthly).Operations, "and pruned again in its time")
	})
}

func TestWhatIsOpenUnpublishedOrInsideTheHorizonIsNeverPruned(t *testing.T) {
	for name, spoil := range map[string]func(r *rig){
		"unfinished": func(r *rig) {
			require.NoError(r, r.exec(`update pushwatch.operation set is_terminal = false`))
		},
		"disputed": func(r *rig) {
			require.NoError(r, r.exec(`update pushwatch.operation set disputed_status = 'Failed', disputed_at = now()`))
		},
		"published inside the horizon": func(r *rig) {
			require.NoError(r, r.exec(`update pushwatch.publication set published_at = now() - interval '6 days' where version = 2`))
		},
		"an event that waits": func(r *rig) {
			require.NoError(r, r.exec(`
insert into pushwatch.outbox (company_id, push_operation_key, version, bucket, event_id, subject, filter, header, payload, created_at)
select company_id, push_operation_key, version, 0, event_id, 's', 'f', '{}', '', now() from pushwatch.transition where version = 2`))
		},
		"an event that is neither published nor waits": func(r *rig) {
			require.NoError(r, r.exec(`delete from pushwatch.publication where version = 1`))
		},
		"changed lately": func(r *rig) {
			require.NoError(r, r.exec(`update pushwatch.operation set last_changed_at = now() - interval '29 days'`))
		},
		"finished after less than the horizon, with a history shorter than it": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, store.Config{})
			r.firstLook()
			r.twoVersions("k")
			r.publishAll()
			retention := monthly
			if spoil == nil {
				retention = store.Retention{History: time.Nanosecond, Horizon: 168 * time.Hour}
			} else {
				r.age()
				spoil(r)
			}
			done, err := r.Retain(t.Context(), retention)
			require.NoError(t, err)
			assert.Zero(t, done.Operations)
			assert.Equal(t, int64(2), query[int64](r, `select count(*) from pushwatch.transition`))
		})
	}
}

func TestADroppedEventAndASilentBaselineDoNotKeepHistoryForEver(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.twoVersions("k")
	require.NoError(t, r.DropAside(t.Context(), r.reject(r.Outbox(r.leases), "k", "too_large")))
	r.publishAll()
	old := r.op("old", push.Success)
	old.RequestedOn = old.RequestedOn.AddDate(-1, 0, 0)
	r.look(push.FromList, old)
	r.age()
	require.NoError(t, r.exec(`update pushwatch.dropped_event set dropped_at = dropped_at - interval '40 days'`))
	assert.Equal(t, int64(2), r.retain(monthly).Operations)
	assert.Zero(t, r.look(push.FromList, old).First)
}

func TestReplicasThatPruneAtOnceCountEachOperationOnce(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	var all []push.Operation
	for i := range 1200 {
		op := r.op(fmt.Sprintf("k%04d", i), push.Success)
		op.RequestedOn = op.RequestedOn.AddDate(-1, 0, 0) // silent baseline: no events to publish
		all = append(all, op)
	}
	r.look(push.FromList, all...)
	r.age()
	var total int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			done, err := r.Retain(t.Context(), monthly)
			assert.NoError(t, err)
			mu.Lock()
			total += done.Operations
			mu.Unlock()
		})
	}
	wg.Wait()
	assert.Equal(t, int64(1200), total+r.retain(monthly).Operations)
}

func TestBodiesAndRecordsGoWhenTheyWereNotSeenForLong(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.setAside("old")
	r.age()
	r.setAside("young")
	assert.Equal(t, store.Retained{Payloads: 1}, r.retain(store.Retention{Payloads: 720 * time.Hour, Quarantine: 2160 * time.Hour}))
	assert.Equal(t, "", query[string](r, `select body from pushwatch.quarantine where push_operation_key = 'old'`))
	assert.Equal(t, store.Retained{Records: 1}, r.retain(store.Retention{Payloads: 720 * time.Hour, Quarantine: 960*time.Hour - time.Minute}))
	left := r.aside(store.AsideFilter{})
	require.Len(t, left, 1)
	assert.Equal(t, "young", left[0].Key)
}
