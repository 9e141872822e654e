package poller

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestMetricsTellWhatChangedAndHowLateItWasSeen(t *testing.T) {
	m := NewMetrics()
	m.changes([]push.Edge{
		{To: push.Pending},
		{From: push.Pending, To: push.Success, CompletedOn: midday.Add(-2 * time.Second)},
		{From: "pending", To: "Cancelled", CompletedOn: midday.Add(-time.Hour)}, // not terminal: nobody knows what it means
		{To: push.Failed, CompletedOn: midday.Add(time.Second)},                 // Codat's clock is ahead
		{To: push.Success, Baseline: true, CompletedOn: midday.AddDate(-1, 0, 0)},
	}, midday)
	require.NoError(t, testutil.CollectAndCompare(m, strings.NewReader(`
# HELP pushwatch_transitions_total Changes of operations, by the status before (none at first sight) and after.
# TYPE pushwatch_transitions_total counter
pushwatch_transitions_total{from="none",to="failed"} 1
pushwatch_transitions_total{from="none",to="pending"} 1
pushwatch_transitions_total{from="none",to="success"} 1
pushwatch_transitions_total{from="pending",to="other"} 1
pushwatch_transitions_total{from="pending",to="success"} 1
# HELP pushwatch_detection_seconds Time from the completion of an operation at Codat to the look that showed it, the baseline left out.
# TYPE pushwatch_detection_seconds histogram
pushwatch_detection_seconds_bucket{le="1"} 1
pushwatch_detection_seconds_bucket{le="2.5"} 2
pushwatch_detection_seconds_bucket{le="5"} 2
pushwatch_detection_seconds_bucket{le="10"} 2
pushwatch_detection_seconds_bucket{le="30"} 2
pushwatch_detection_seconds_bucket{le="60"} 2
pushwatch_detection_seconds_bucket{le="120"} 2
pushwatch_detection_seconds_bucket{le="300"} 2
pushwatch_detection_seconds_bucket{le="600"} 2
pushwatch_detection_seconds_bucket{le="1800"} 2
pushwatch_detection_seconds_bucket{le="3600"} 2
pushwatch_detection_seconds_bucket{le="21600"} 2
pushwatch_detection_seconds_bucket{le="86400"} 2
pushwatch_detection_seconds_bucket{le="+Inf"} 2
pushwatch_detection_seconds_sum 2
pushwatch_detection_seconds_count 2
`), "pushwatch_transitions_total", "pushwatch_detection_seconds"))
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
}
