package main

import (
	"bytes"
	_ "embed"
	"math"
	"text/template"
)

// plotText draws the panels. Its colours follow the reader's light or dark scheme.
//
//go:embed plot.svg.tmpl
var plotText string

// The plot's measures, in its own units.
const (
	plotWidth  = 860
	barLeft    = 330 // where bars begin
	barRight   = 790 // where the axis ends
	rowHeight  = 26
	barHeight  = 16
	panelTop   = 46 // from a panel's top to its first row
	panelBelow = 58 // from its last row to the next panel
	mostTicks  = 8
)

// bar is a ratio to draw. Peers' ratios are known ones, ours are measured.
type bar struct {
	Label  string
	Ratio  float64
	Ours   bool
	Target float64 // 0: none
}

// panel is one set of bars over one axis.
type panel struct {
	Title, Axis string
	Bars        []bar
}

// watermillBatched and riverTuned are the peers that targets are told against: ratios
// to PublishMsgAsync with a window of 4096 that were measured side by side; see
// docs/performance.md.
const (
	watermillBatched = 0.058
	riverTuned       = 0.067
)

// peers are relays of others, as the same ratios.
var peers = []bar{
	{Label: "Watermill forwarder, default", Ratio: 0.038},
	{Label: "Watermill forwarder, batch 1000", Ratio: watermillBatched},
	{Label: "River, one job an event, default", Ratio: 0.018},
	{Label: "River, tuned, 500 workers", Ratio: riverTuned},
	{Label: "by hand, a row at a time", Ratio: 0.039},
	{Label: "by hand, in batches", Ratio: 0.075},
}

// panels are what the plot shows of a report.
func (r *report) panels() []panel {
	relays := panel{Title: "Relays, events per second", Axis: "ratio to PublishMsgAsync, window 4096", Bars: append([]bar(nil), peers...)}
	relays.Bars = append(relays.Bars, r.bars(map[string]string{
		"relay-first": "pushwatch, first events", "relay-later": "pushwatch, later events"}, "relay-first", "relay-later")...)
	records := panel{Title: "Recording, operations per second", Axis: "ratio to an insert from unnest, 500 rows a statement"}
	records.Bars = r.bars(map[string]string{
		"record-new": "record, all new", "record-changed": "record, 10 % changed", "record-same": "record, none changed",
		"sweep-changed": "end to end, 10 % changed", "sweep-same": "end to end, none changed",
	}, "record-new", "record-changed", "record-same", "sweep-changed", "sweep-same")
	return []panel{relays, records}
}

// bars returns the comparisons of those names, as far as they were measured.
func (r *report) bars(labels map[string]string, names ...string) []bar {
	var bars []bar
	for _, name := range names {
		for _, c := range r.Ratios {
			if c.Name == name {
				bars = append(bars, bar{Label: labels[name], Ratio: c.Median, Ours: true, Target: c.Target.Bound})
			}
		}
	}
	return bars
}

// most is where a panel's axis ends: behind the longest bar, and 1 at least.
func (p panel) most() float64 {
	most := 1.0
	for _, b := range p.Bars {
		most = max(most, b.Ratio, b.Target)
	}
	step := p.step(most)
	return math.Ceil(most/step) * step
}

// step is the distance of two ticks: the smallest round one that does not crowd.
func (p panel) step(most float64) float64 {
	for _, step := range []float64{0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 50, 100} {
		if most/step <= mostTicks {
			return step
		}
	}
	return most
}

// drawn is a panel with its places.
type drawn struct {
	panel
	Y, Top, Base int // the panel, its first row, and the axis below the last one
	Rows         []row
	Ticks        []tick
}

type row struct {
	bar
	Y, TextY              int
	Width, ValueX         float64
	TargetX               float64
	TargetTop, TargetBase int
	Value                 string
}

type tick struct {
	X     float64
	Label string
}

// near is the target of a bar that ends just before it, so that its number does
// not stand on the mark.
func near(b bar) float64 {
	if b.Target > b.Ratio && b.Target < b.Ratio*1.3 {
		return b.Target
	}
	return 0
}

// plot draws the report.
func (r *report) plot() ([]byte, error) {
	var all []drawn
	y := 0
	for _, p := range r.panels() {
		d := drawn{panel: p, Y: y, Top: y + panelTop - 4}
		scale := (barRight - barLeft) / p.most()
		for i, b := range p.Bars {
			top := y + panelTop + i*rowHeight
			d.Rows = append(d.Rows, row{bar: b, Y: top, TextY: top + barHeight - 3, Value: number(b.Ratio),
				Width: b.Ratio * scale, ValueX: barLeft + max(b.Ratio, near(b))*scale + 7,
				TargetX: barLeft + b.Target*scale, TargetTop: top - 3, TargetBase: top + barHeight + 3})
		}
		d.Base = y + panelTop + len(p.Bars)*rowHeight
		step := p.step(p.most())
		for at := 0; float64(at)*step <= p.most()+step/2; at++ {
			d.Ticks = append(d.Ticks, tick{barLeft + float64(at)*step*scale, number(float64(at) * step)})
		}
		all = append(all, d)
		y = d.Base + panelBelow
	}
	parsed, err := template.New("plot").Parse(plotText)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = parsed.Execute(&out, map[string]any{"Width": plotWidth, "Height": y + 20, "LegendY": y, "Left": barLeft, "Right": barRight,
		"LabelX": barLeft - 10, "BarHeight": barHeight, "Panels": all, "Caption": "measured " + r.Date.Format("2006-01-02") +
			"; the peers' ratios are those of an earlier side by side measurement"})
	return out.Bytes(), err
}
