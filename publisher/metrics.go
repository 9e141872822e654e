package publisher

import "github.com/prometheus/client_golang/prometheus"

// How a read-back resolved an event whose answer was not a clean
// acknowledgement: the values of the label "by".
const (
	byFound    = "found"    // it was there
	byRetry    = "retry"    // it was not there, and nothing was wrong: published again
	byExpired  = "expired"  // as retry, after the event before it left the stream by its age
	byLost     = "lost"     // the events before it are missing from the stream
	byRejected = "rejected" // it can never be published
	byAdopted  = "adopted"  // events that the database does not know stand there: its history goes on behind them
)

var resolutions = []string{byFound, byRetry, byExpired, byLost, byRejected, byAdopted}

// Why an event can never be published: the values of the label "class", and of
// the class that [Outbox] keeps.
const (
	classTooLarge        = "too_large"        // beyond our own limit, the stream's or the server's
	classBadMessage      = "bad_message"      // its subject or header is none
	classForeignInstance = "foreign_instance" // another database published this operation
	classForeignMessage  = "foreign_message"  // somebody else publishes below the prefix
	classOvertaken       = "overtaken"        // a later version is in the stream, this one is not
)

var classes = []string{classTooLarge, classBadMessage, classForeignInstance, classForeignMessage, classOvertaken}

// What became of an atomic batch: the values of the label "outcome".
const (
	batchStored  = "stored"
	batchRefused = "refused" // nothing of it is stored
	batchUnclear = "unclear" // no answer, or none that says
)

var outcomes = []string{batchStored, batchRefused, batchUnclear}

// Metrics are the relay's counters; it is a [prometheus.Collector] for the
// program to register.
type Metrics struct {
	published prometheus.Counter
	resolved  *prometheus.CounterVec
	rejected  *prometheus.CounterVec
	seconds   prometheus.Histogram
	lost      prometheus.Counter
	tailLost  prometheus.Counter
	gaps      prometheus.Counter
	adopted   prometheus.Counter
	batches   *prometheus.CounterVec
}

func newMetrics() *Metrics {
	m := &Metrics{
		published: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_events_published_total",
			Help: "Events recorded as being in the stream.",
		}),
		resolved: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_events_resolved_total",
			Help: "Events without a clean acknowledgement, by what reading the stream back showed.",
		}, []string{"by"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_events_rejected_total",
			Help: "Events set aside because they can never be published, by reason.",
		}, []string{"class"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "pushwatch_publish_seconds",
			Help:    "Time from the commit of an event to its acknowledgement by the stream.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60, 600, 3600},
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_stream_lost_total",
			Help: "Times that events of an operation which the stream had acknowledged were missing from it.",
		}),
		tailLost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_stream_tail_lost_total",
			Help: "Events that the stream had acknowledged and lost, found by an audit and made pending again.",
		}),
		gaps: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_stream_gaps_total",
			Help: "Operations seen by an audit whose lost events stand before a later one and cannot be published in order any more.",
		}),
		adopted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "pushwatch_operations_adopted_total",
			Help: "Operations that go on behind events in the stream which the database did not know.",
		}),
		batches: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pushwatch_atomic_batches_total",
			Help: "Atomic batches of events, by what the stream answered; the events of a refused one are published one by one.",
		}, []string{"outcome"}),
	}
	for _, outcome := range outcomes {
		m.batches.WithLabelValues(outcome)
	}
	for _, by := range resolutions {
		m.resolved.WithLabelValues(by)
	}
	for _, class := range classes {
		m.rejected.WithLabelValues(class)
	}
	return m
}

// batch counts an atomic batch, all of whose events have the same answer.
func (m *Metrics) batch(answers []answer, err error) {
	outcome := batchStored
	switch {
	case err != nil:
		outcome = batchRefused
	case answers[0].outcome != stored:
		outcome = batchUnclear
	}
	m.batches.WithLabelValues(outcome).Inc()
}

func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.published, m.resolved, m.rejected, m.seconds, m.lost, m.tailLost, m.gaps, m.adopted, m.batches}
}

// Describe implements [prometheus.Collector].
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.all() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.all() {
		c.Collect(ch)
	}
}
