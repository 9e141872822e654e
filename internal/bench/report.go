package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// machine is where and what was measured.
type machine struct {
	Date       time.Time `json:"date"`
	Commit     string    `json:"commit"` // empty when it was not built from one
	Go         string    `json:"go"`
	PostgreSQL string    `json:"postgresql"`
	NATS       string    `json:"nats"`
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	System     string    `json:"system"`
	Load       string    `json:"load"` // of the machine at the start: averages of 1, 5 and 15 minutes
}

// report is everything that a run found, as -o json prints it.
type report struct {
	machine
	Repetitions int `json:"repetitions"`
	Events      int `json:"events"`
	Subjects    int `json:"subjects"`

	Measurements []measured `json:"measurements"`
	Ratios       []compared `json:"ratios"`
	Busy         []busy     `json:"busy,omitempty"` // where the system tells it
}

// busy is how many cores were at work during a timed part: the median of each
// server's over the repetitions.
type busy struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	cores
}

// measured is one series of a run.
type measured struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Unit  string `json:"unit"`
	spread
}

// spread is a number of each repetition.
type spread struct {
	Samples []float64 `json:"samples"`
	Median  float64   `json:"median"`
	Min     float64   `json:"min"`
	Max     float64   `json:"max"`
}

// compared is a comparison of a run.
type compared struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Of     string  `json:"of"`
	To     string  `json:"to,omitempty"`
	Known  float64 `json:"dividedBy,omitempty"` // what a peer has of this ratio
	spread         // of the ratios, each inside one repetition
	Target *target `json:"target,omitempty"`
}

// target is what a comparison should be, and whether its median is.
type target struct {
	Bound   float64 `json:"bound"`
	Most    bool    `json:"most"` // the bound is the most that is allowed
	Reached bool    `json:"reached"`
	Missed  float64 `json:"missedByPercent,omitempty"` // of the bound
}

func (r *rig) machine() machine {
	return machine{Date: r.now().UTC().Truncate(time.Second), Commit: commit(), Go: runtime.Version(), PostgreSQL: r.version,
		NATS: r.lazy.Version, CPU: cpu(), Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH, Load: load()}
}

func newReport(r *rig, some []measurement) *report {
	all := &report{machine: r.machine(), Repetitions: r.repetitions, Events: r.events, Subjects: r.subjects}
	for _, m := range some {
		for _, s := range m.series {
			all.Measurements = append(all.Measurements, measured{Name: s.name, Title: s.title, Unit: s.unit})
		}
	}
	return all
}

// commit is what the program was built from.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision, modified string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = "-modified"
		}
	}
	return revision[:min(12, len(revision))] + modified
}

// cpu is the processor's name, where the system tells it.
func cpu() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // not there on other systems
	for line := range bytes.Lines(info) {
		if name, value, ok := strings.Cut(string(line), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// load is how busy the machine is with others.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 3 {
		return "unknown"
	}
	return strings.Join(fields[:3], " ")
}

// add takes in what one repetition brought.
func (r *report) add(got samples) {
	for i := range r.Measurements {
		if value, ok := got[r.Measurements[i].Name]; ok { // else it is another measurement's
			r.Measurements[i].Samples = append(r.Measurements[i].Samples, value)
		}
	}
}

// compare computes medians and ratios.
func (r *report) compare() {
	for i := range r.Measurements {
		r.Measurements[i].summarise()
	}
	for _, c := range comparisons() {
		of, ok := r.series(c.of)
		if !ok {
			continue
		}
		found := compared{Name: c.name, Title: c.title, Of: c.of, To: c.to, Known: c.known, spread: spread{Samples: slices.Clone(of.Samples)}}
		if c.to != "" {
			to, ok := r.series(c.to)
			if !ok {
				continue
			}
			for i := range found.Samples {
				found.Samples[i] /= to.Samples[i]
			}
		}
		if c.known > 0 {
			for i := range found.Samples {
				found.Samples[i] /= c.known
			}
		}
		found.summarise()
		if !c.told {
			found.Target = judged(c, found.Median)
		}
		r.Ratios = append(r.Ratios, found)
	}
}

func (r *report) series(name string) (measured, bool) {
	i := slices.IndexFunc(r.Measurements, func(m measured) bool { return m.Name == name })
	if i < 0 {
		return measured{}, false
	}
	return r.Measurements[i], true
}

func (s *spread) summarise() {
	sorted := slices.Sorted(slices.Values(s.Samples))
	n := len(sorted)
	s.Min, s.Median, s.Max = sorted[0], (sorted[(n-1)/2]+sorted[n/2])/2, sorted[n-1]
}

func judged(c comparison, median float64) *target {
	t := &target{Bound: c.target, Most: c.most, Reached: median >= c.target}
	missed := 1 - median/c.target
	if c.most {
		t.Reached, missed = median <= c.target, median/c.target-1
	}
	if !t.Reached {
		t.Missed = 100 * missed
		if c.target == 0 { // any is as much too much
			t.Missed = 100
		}
	}
	return t
}

// tellBusy takes in for whom processors were at work.
func (r *report) tellBusy(all map[string][]cores) {
	for _, m := range r.Measurements {
		during := all[m.Name]
		if len(during) == 0 {
			continue
		}
		middle := func(of func(cores) float64) float64 {
			var s spread
			for _, c := range during {
				s.Samples = append(s.Samples, of(c))
			}
			s.summarise()
			return s.Median
		}
		r.Busy = append(r.Busy, busy{m.Name, m.Title, cores{
			Pushwatch:  middle(func(c cores) float64 { return c.Pushwatch }),
			PostgreSQL: middle(func(c cores) float64 { return c.PostgreSQL }),
			NATS:       middle(func(c cores) float64 { return c.NATS }),
		}})
	}
}

func writeJSON(out io.Writer, v any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}

func (m machine) String() string {
	built := m.Commit
	if built == "" {
		built = "unknown"
	}
	return fmt.Sprintf("%s, commit %s, %s, PostgreSQL %s, nats-server %s; %d cores (%s, %s), load at the start %s",
		m.Date.Format("2006-01-02 15:04 UTC"), built, m.Go, m.PostgreSQL, m.NATS, m.Cores, m.CPU, m.System, m.Load)
}

// how is where and how it was measured, in words.
func (r *report) how() string {
	return fmt.Sprintf("%s; medians of %d repetitions, %d events, later events among %d subjects", r.machine, r.Repetitions, r.Events, r.Subjects)
}

// writeTable prints the report for people.
func (r *report) writeTable(out io.Writer) error {
	fmt.Fprintf(out, "%s\n\n", r.how())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "measured\tmedian\tmin\tmax\tunit")
	for _, m := range r.Measurements {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", m.Title, number(m.Median), number(m.Min), number(m.Max), m.Unit)
	}
	fmt.Fprintln(w, "\t\t\t\t")
	fmt.Fprintln(w, "ratio, or value\tmedian\tmin\tmax\ttarget")
	for _, c := range r.Ratios {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", c.Title, number(c.Median), number(c.Min), number(c.Max), strings.TrimSpace(c.wanted()+" "+c.verdict()))
	}
	fmt.Fprintln(w, "\t\t\t\t")
	fmt.Fprintln(w, "cores at work\tpushwatch\tPostgreSQL\tNATS\t")
	for _, b := range r.Busy {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%.2f\t\n", b.Title, b.Pushwatch, b.PostgreSQL, b.NATS)
	}
	return w.Flush()
}

// wanted is the target in words; empty when there is none.
func (c compared) wanted() string {
	switch {
	case c.Target == nil:
		return ""
	case c.Target.Most:
		return "at most " + number(c.Target.Bound)
	}
	return "at least " + number(c.Target.Bound)
}

func (c compared) verdict() string {
	switch {
	case c.Target == nil:
		return ""
	case c.Target.Reached:
		return "reached"
	}
	return fmt.Sprintf("missed by %.0f %%", c.Target.Missed)
}

// number writes a value with three digits that count, thousands apart.
func number(x float64) string {
	if x < 1000 {
		decimals := 0
		for limit := 100.0; x < limit && decimals < 3; limit /= 10 {
			decimals++
		}
		text := fmt.Sprintf("%.*f", decimals, x)
		if strings.Contains(text, ".") {
			text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
		}
		return text
	}
	whole := fmt.Sprintf("%.0f", x)
	var groups []string
	for len(whole) > 3 {
		groups = append([]string{whole[len(whole)-3:]}, groups...)
		whole = whole[:len(whole)-3]
	}
	return strings.Join(append([]string{whole}, groups...), ",")
}
