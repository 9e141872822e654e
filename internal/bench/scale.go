package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// scaleOptions are what a run at scale is asked for.
type scaleOptions struct {
	operations int           // in the large table
	companies  int           // they belong to
	looked     int           // operations of a company that is looked at, in the small table and in the large one
	traffic    time.Duration // how long events are made as fast as they are published
	cold       int           // operations of the history that a cold start reads
	still      time.Duration // how long a process with many companies is watched
	format     string
	docs       string
}

// finding is one number of a run at scale.
type finding struct {
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Value  float64 `json:"value"`
	Unit   string  `json:"unit,omitempty"`
	Target *target `json:"target,omitempty"`
	Note   string  `json:"note,omitempty"`
}

// atMost gives a finding a target.
func (f finding) atMost(bound float64) finding {
	f.Target = judged(comparison{target: bound, most: true}, f.Value)
	return f
}

// scaled is everything that a run at scale found, as -o json prints it.
type scaled struct {
	machine
	Operations int       `json:"operations"`
	Companies  int       `json:"companies"`
	Findings   []finding `json:"findings"`
}

// crowd is what the parts of a run at scale share: the servers and the large world.
type crowd struct {
	*rig
	scaleOptions
	large *world
	made  int // events of it, all published
}

// part is one of them.
type part struct {
	name string
	do   func(context.Context, *crowd) ([]finding, error)
}

func parts() []part {
	return []part{
		{"filling the large table", fillLarge},
		{"pages of known operations", comparePages},
		{"traffic", sustain},
		{"sequential scans", findScans},
		{"companies", weighCompanies},
		{"cold start", startCold},
	}
}

// atScale is the command bench -scale.
func atScale(ctx context.Context, args []string, out, progress io.Writer) error {
	o, err := parseScale(args, progress)
	if err != nil {
		return err
	}
	found, err := runScale(ctx, o, time.Now, newShown(progress))
	if err != nil {
		return err
	}
	if o.docs != "" {
		if err := updatePage(o.docs, scaleBegin, scaleEnd, found.markdown()); err != nil {
			return err
		}
	}
	if o.format == "json" {
		return writeJSON(out, found)
	}
	return found.writeTable(out)
}

func parseScale(args []string, usage io.Writer) (scaleOptions, error) {
	o := scaleOptions{looked: 10_000}
	var short bool
	flags := flag.NewFlagSet("bench -scale", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.IntVar(&o.operations, "operations", 10_000_000, "`operations` of the large table")
	flags.IntVar(&o.companies, "companies", 100_000, "`companies` that they belong to")
	flags.DurationVar(&o.traffic, "traffic", 10*time.Minute, "how long events are made as fast as they are published")
	flags.IntVar(&o.cold, "cold", 1_000_000, "`operations` of the history that a cold start reads")
	flags.DurationVar(&o.still, "still", time.Minute, "how long a process with many companies is watched")
	flags.BoolVar(&short, "short", false, "everything tiny, as a smoke test: its numbers mean nothing")
	flags.StringVar(&o.format, "o", "table", "`format`: table or json")
	flags.StringVar(&o.docs, "update", "", "write the table into performance.md of this `directory`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if short {
		o.operations, o.companies, o.looked, o.traffic, o.cold, o.still = 2000, 20, 200, 2*time.Second, 4*coldPage, time.Second
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q: only flags are taken", flags.Arg(0))
	case o.format != "table" && o.format != "json":
		return o, fmt.Errorf("-o %s: allowed are table and json", o.format)
	case o.companies < fewCompanies || o.operations < o.companies:
		return o, fmt.Errorf("-operations %d, -companies %d: %d companies or more are needed, and an operation of each", o.operations, o.companies, fewCompanies)
	case o.cold < 4*coldPage:
		return o, fmt.Errorf("-cold %d: four pages of %d or more are needed, so that a start can be cut short", o.cold, coldPage)
	case o.traffic < time.Second || o.still < time.Second:
		return o, errors.New("-traffic and -still: a second or more is needed")
	}
	return o, nil
}

func runScale(ctx context.Context, o scaleOptions, now func() time.Time, shown *shown) (_ *scaled, err error) {
	shown.say("starting PostgreSQL and two NATS servers")
	r, err := openRig(ctx, options{}, now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close(ctx)); shown.end() }()
	c := &crowd{rig: r, scaleOptions: o}
	defer func() {
		if c.large != nil {
			err = errors.Join(err, c.large.close(ctx))
		}
	}()
	found := &scaled{machine: r.machine(), Operations: o.operations, Companies: o.companies}
	for i, p := range parts() {
		shown.say(fmt.Sprintf("%d of %d: %s", i+1, len(parts()), p.name))
		began := now()
		some, err := p.do(ctx, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		shown.took(now().Sub(began))
		found.Findings = append(found.Findings, some...)
	}
	return found, nil
}

func (f finding) value() string { return strings.TrimSpace(number(f.Value) + " " + f.Unit) }

func (f finding) wanted() string  { return compared{Target: f.Target}.wanted() }
func (f finding) verdict() string { return compared{Target: f.Target}.verdict() }

func (s *scaled) where() string {
	return fmt.Sprintf("%s; %s operations of %s companies", s.machine, number(float64(s.Operations)), number(float64(s.Companies)))
}

func (s *scaled) writeTable(out io.Writer) error {
	fmt.Fprintf(out, "%s\n\n", s.where())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "found\tvalue\ttarget\t")
	for _, f := range s.Findings {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Title, f.value(), strings.TrimSpace(f.wanted()+" "+f.verdict()), f.Note)
	}
	return w.Flush()
}

func (s *scaled) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n| what | found | target | | |\n|---|---|---|---|---|\n", s.where())
	for _, f := range s.Findings {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", f.Title, f.value(), f.wanted(), f.verdict(), f.Note)
	}
	return b.String()
}
