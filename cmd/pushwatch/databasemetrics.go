package main

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/store"
)

var (
	asideDesc = prometheus.NewDesc("pushwatch_quarantined",
		"Records and events that are set aside now, by kind and reason.", []string{"kind", "class"}, nil)
	droppedDesc = prometheus.NewDesc("pushwatch_quarantine_dropped",
		"Records and events that somebody gave up on, by kind and reason.", []string{"kind", "class"}, nil)
	oldestDesc = prometheus.NewDesc("pushwatch_outbox_oldest_seconds",
		"Age of the oldest event that waits to be published; 0 while none does.", nil, nil)
)

// databaseMetrics looks into the database whenever they are asked for: the numbers
// are the same on every replica.
type databaseMetrics struct {
	store *store.Store
	log   *slog.Logger
}

// Describe implements [prometheus.Collector].
func (m *databaseMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- asideDesc
	ch <- droppedDesc
	ch <- oldestDesc
}

// Collect implements [prometheus.Collector]. While the database cannot be asked
// the numbers are absent, and everything else is told.
func (m *databaseMetrics) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), probeDatabase)
	defer cancel()
	counts, err := m.store.CountAside(ctx)
	var oldest time.Duration
	if err == nil {
		oldest, err = m.store.OldestPending(ctx)
	}
	if err != nil {
		m.log.Debug("metrics of the database", "error", err)
		return
	}
	ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, oldest.Seconds())
	for _, c := range counts {
		ch <- prometheus.MustNewConstMetric(asideDesc, prometheus.GaugeValue, float64(c.Aside), string(c.Kind), c.Class)
		ch <- prometheus.MustNewConstMetric(droppedDesc, prometheus.GaugeValue, float64(c.Dropped), string(c.Kind), c.Class)
	}
}
