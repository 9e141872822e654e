package store_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// replayed reads a whole selection, few at a time, and returns its events.
func (r *rig) replayed(of store.Selection, page int) (all []event.Event) {
	r.Helper()
	reader := r.NewReplay(of, "codat.replay", "00c0ffee5eeded01")
	reader.SetPage(page)
	for {
		messages, err := reader.Next(r.Context(), 2)
		require.NoError(r, err)
		if len(messages) == 0 {
			break
		}
		for _, m := range messages {
			var e event.Event
			require.NoError(r, json.Unmarshal(m.Data, &e))
			all = append(all, e)
		}
	}
	count, err := r.CountReplay(r.Context(), of)
	require.NoError(r, err)
	assert.Len(r, all, int(count))
	return all
}

// lookAt records operations that a list showed from start to end.
func (r *rig) lookAt(start, end time.Time, operations ...push.Operation) {
	r.record(push.Record{Page: push.Page{Look: push.Look{Source: push.FromList, StartedAt: start, FinishedAt: end}, Rows: push.RowsOf(operations...)}})
}

func TestAReplayComesInTheOrderOfObservationHoweverItIsPaged(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	var want []string
	for i := range 7 {
		at := r.tick()
		r.lookAt(at, at, r.op(fmt.Sprintf("k%d", 6-i), push.Pending))
		want = append(want, fmt.Sprintf("k%d v1", 6-i))
	}
	at := r.tick() // observed at once: in the order of keys
	r.lookAt(at, at, r.op("k5", push.Success), r.op("k0", push.Failed), r.op("k3", push.Success))
	want = append(want, "k0 v2", "k3 v2", "k5 v2")
	for page := range 12 {
		var got []string
		for _, e := range r.replayed(store.Selection{}, page+1) {
			got = append(got, fmt.Sprintf("%s v%d", e.PushOperationKey, e.Version))
		}
		assert.Equal(t, want, got, "%d keys a page", page+1)
	}
}

func TestAVersionObservedBeforeItsPredecessorIsReplayedAfterIt(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	start := r.tick()
	r.lookAt(start, start.Add(10*time.Second), r.op("slow", push.Pending))
	r.lookAt(start.Add(time.Second), start.Add(2*time.Second), r.op("slow", push.Success), r.op("quick", push.Pending))
	var got []string
	for _, e := range r.replayed(store.Selection{}, 1) {
		got = append(got, fmt.Sprintf("%s v%d", e.PushOperationKey, e.Version))
	}
	assert.Equal(t, []string{"quick v1", "slow v1", "slow v2"}, got)
	until := start.Add(5 * time.Second)
	assert.Len(t, r.replayed(store.Selection{Until: until}, 1), 2, "the filter is on its own time")
}

func TestAReplayKeepsTheSubjectOfTheFirstSight(t *testing.T) {
	r := newRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("k", push.Pending))
	moved := r.op("k", push.Success)
	moved.DataType = "bills"
	r.look(push.FromGet, moved)
	messages, err := r.NewReplay(store.Selection{DataTypes: []string{"bills"}}, "codat.replay", "00c0ffee5eeded01").Next(t.Context(), 10)
	require.NoError(t, err)
	require.Len(t, messages, 1)
	assert.Equal(t, "codat.replay."+companyID+".invoices.k.success", messages[0].Subject)
	assert.Contains(t, string(messages[0].Data), `"dataType":"bills"`)
	assert.Contains(t, string(messages[0].Data), `"source":"get"`)
}
