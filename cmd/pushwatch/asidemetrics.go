package main

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/store"
)

var (
	asideDesc = prometheus.NewDesc("pushwatch_quarantined",
		"Records and events that are set aside now, by kind and reason.", []string{"kind", "class"}, nil)
	droppedDesc = prometheus.NewDesc("pushwatch_quarantine_dropped",
		"Records and events that somebody gave up on, by kind and reason.", []string{"kind", "class"}, nil)
)

// asideMetrics counts the quarantine whenever it is asked: the numbers are the
// database's, and so the same on every replica.
type asideMetrics struct {
	store *store.Store
	log   *slog.Logger
}

// Describe implements [prometheus.Collector].
func (m *asideMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- asideDesc; ch <- droppedDesc }

// Collect implements [prometheus.Collector]. While the database cannot be asked
// the numbers are absent, and everything else is told.
func (m *asideMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), probeDatabase)
	defer cancel()
	counts, err := m.store.CountAside(ctx)
	if err != nil {
		m.log.Debug("metrics of the quarantine", "error", err)
		return
	}
	for _, c := range counts {
		ch <- prometheus.MustNewConstMetric(asideDesc, prometheus.GaugeValue, float64(c.Aside), string(c.Kind), c.Class)
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.GaugeValue, float64(c.Dropped), string(c.Kind), c.Class)
	}
}
