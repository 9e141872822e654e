package main

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/codat/codatsim"
)

// TestARecordLargerThanAPageMayBeHidesNoOther puts a record of 17 MiB among the
// newest of a company, where every list meets it, and one in its old history.
func TestARecordLargerThanAPageMayBeHidesNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 1), Rate: 0.01, History: 60})
	truth := w.sim.Truth()
	slices.SortFunc(truth, func(a, b codatsim.Truth) int { return b.RequestedOn.Compare(a.RequestedOn) })
	require.Len(t, truth, 60)
	huge := []string{truth[2].Key, truth[41].Key}
	for _, key := range huge {
		require.NoError(t, w.sim.Script(codatsim.Rule{Fault: codatsim.HugeRow, Key: key}))
	}
	w.sim.Freeze()
	cmd := w.daemon(t, "PUSHWATCH_POLL_PAGE_SIZE=25", "PUSHWATCH_POLL_DISCOVER=@every 2s", "PUSHWATCH_POLL_TRACK=@every 1h")
	discovered := func() int64 {
		return w.query(t, `select coalesce(extract(epoch from max(discovered_at)) * 1000, 0)::bigint from pushwatch.company where baselined`)
	}
	require.Eventually(t, func() bool { return discovered() > 0 }, 2*time.Minute, 100*time.Millisecond, "the baseline ends")
	differs := w.differences(t)
	slices.Sort(differs)
	missing := []string{huge[0] + " is missing", huge[1] + " is missing"}
	slices.Sort(missing)
	assert.Equal(t, missing, differs, "every other one is right in the view")
	assert.EqualValues(t, 2, w.query(t, `select count(*) from pushwatch.quarantine where class = '`+codat.TooLarge+
		`' and push_operation_key in ('`+huge[0]+`', '`+huge[1]+`')`))

	// The walks of a quiet company go on ending, at the first page.
	last := discovered()
	next := func() bool {
		now := discovered()
		defer func() { last = now }()
		return now > last
	}
	require.Eventually(t, next, time.Minute, 50*time.Millisecond)
	before := w.sim.Stats().ByKind[codatsim.List]
	const walks = 4
	for range walks {
		require.Eventually(t, next, time.Minute, 50*time.Millisecond)
	}
	assert.LessOrEqual(t, w.sim.Stats().ByKind[codatsim.List]-before, walks+1, "one request a tick")
	assert.EqualValues(t, 2, w.query(t, `select count(*) from pushwatch.quarantine`), "the same two every time")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
}
