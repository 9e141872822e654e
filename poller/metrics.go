package poller

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/push"
)

// Metrics are what a poller counts. It is a prometheus.Collector, registered by
// whoever wires the poller.
type Metrics struct {
	runs        *prometheus.CounterVec
	committed   prometheus.Counter
	transitions *prometheus.CounterVec
	detection   prometheus.Histogram
	quarantined *prometheus.CounterVec
	odd         *prometheus.CounterVec
	companies   prometheus.Gauge
}

// NewMetrics returns counters at zero.
func NewMetrics() *Metrics {
	return &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_poll_runs_total", Help: "Runs of the jobs discover, track and sweep, by result: ok, skipped (nothing may be asked now), failed, panic or stopped.",
		}, []string{"job", "result"}),
		committed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_events_committed_total", Help: "Events committed to the outbox.",
		}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_transitions_total", Help: "Changes of operations, by the status before (none at first sight) and after.",
		}, []string{"from", "to"}),
		detection: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "pushwatch_detection_seconds", Help: "Time from the completion of an operation at Codat to the look that showed it, the baseline left out.",
			Buckets: []float64{1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400},
		}),
		quarantined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_records_quarantined_total", Help: "Records set aside because they could not be read, by reason; a record counts at each look.",
		}, []string{"class"}),
		odd: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_records_odd_total", Help: "Records read though something in them was not as documented, by what; a finished one that reads as before does not count again.",
		}, []string{"what"}),
		companies: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pushwatch_companies", Help: "Companies assigned to this process.",
		}),
	}
}

// page counts what a recorded page held.
func (m *Metrics) page(page push.Page) {
	for _, item := range page.Quarantined {
		m.quarantined.WithLabelValues(item.Class).Inc()
	}
	for _, row := range page.Rows {
		if _, ok := row.Status.Documented(); !ok {
			m.odd.WithLabelValues("unknown_status").Inc()
		}
	}
}

// flagged counts what had to be mended in the operations that were written.
func (m *Metrics) flagged(flags []string) {
	for _, flag := range flags {
		_, what, _ := strings.Cut(flag, ":") // the field
		what, _, _ = strings.Cut(what, ":")  // a length
		m.odd.WithLabelValues(what).Inc()
	}
}

// changes counts what a look has changed.
func (m *Metrics) changes(edges []push.Edge, observedAt time.Time) {
	for _, edge := range edges {
		m.transitions.WithLabelValues(statusLabel(edge.From), statusLabel(edge.To)).Inc()
		if edge.To.Terminal() && !edge.Baseline && !edge.CompletedOn.IsZero() {
			m.detection.Observe(max(0, observedAt.Sub(edge.CompletedOn).Seconds()))
		}
	}
}

// statusLabel returns one of few values: statuses are an open set, labels are not.
func statusLabel(s push.Status) string {
	if s == "" {
		return "none"
	}
	known, ok := s.Documented()
	if !ok {
		return "other"
	}
	return strings.ToLower(string(known))
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.runs.Collect(ch)
	m.committed.Collect(ch)
	m.transitions.Collect(ch)
	m.detection.Collect(ch)
	m.quarantined.Collect(ch)
	m.odd.Collect(ch)
	m.companies.Collect(ch)
}
