package poller

import "github.com/prometheus/client_golang/prometheus"

// Metrics are what a poller counts. It is a prometheus.Collector, registered by
// whoever wires the poller.
type Metrics struct {
	runs        *prometheus.CounterVec
	transitions prometheus.Counter
	quarantined *prometheus.CounterVec
	companies   prometheus.Gauge
}

// NewMetrics returns counters at zero.
func NewMetrics() *Metrics {
	return &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_poll_runs_total", Help: "Runs of the jobs discover, track and sweep, by result.",
		}, []string{"job", "result"}),
		transitions: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_events_committed_total", Help: "Events committed to the outbox.",
		}),
		quarantined: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_records_quarantined_total", Help: "Records set aside because they could not be read, by reason; a record counts at each look.",
		}, []string{"class"}),
		companies: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "pushwatch_companies", Help: "Companies assigned to this process.",
		}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	m.runs.Collect(ch)
	m.transitions.Collect(ch)
	m.quarantined.Collect(ch)
	m.companies.Collect(ch)
}
