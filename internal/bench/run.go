package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"time"

	"golang.org/x/term"
)

// run starts the servers, measures, and reports.
func run(ctx context.Context, o options, now func() time.Time, shown *shown) (_ *report, err error) {
	shown.say("starting PostgreSQL and two NATS servers")
	r, err := openRig(ctx, o, now)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.close(ctx)); shown.end() }()
	some := picked(measurements(), o.pick)
	if len(some) == 0 {
		return nil, fmt.Errorf("-run %s matches none of %s", o.pick, names())
	}
	all := newReport(r, some)
	// The first one warms up: its samples are checked and thrown away.
	for repetition := range o.repetitions + 1 {
		for i := range some {
			m := some[(i+repetition)%len(some)] // never twice in the same order
			shown.say(fmt.Sprintf("%s, repetition %d of %d", m.name, repetition, o.repetitions))
			r.repetition = repetition
			runtime.GC() // what the one before left is not this one's work
			began := now()
			got, err := m.do(ctx, r)
			if err != nil {
				return nil, fmt.Errorf("%s, repetition %d: %w", m.name, repetition, err)
			}
			shown.took(now().Sub(began))
			if repetition > 0 {
				all.add(got)
			}
		}
	}
	all.compare()
	all.tellBusy(r.busy)
	return all, nil
}

// timed runs the part of a measurement that counts, and notes for whom processors
// were at work meanwhile. Name is that of the series that it is for.
func (r *rig) timed(name string, part func() error) (time.Duration, error) {
	stop, err := r.profile(name)
	if err != nil {
		return 0, err
	}
	before, told := r.spent()
	started := r.now()
	err = part()
	took := r.now().Sub(started)
	if after, ok := r.spent(); ok && told && r.repetition > 0 {
		r.busy[name] = append(r.busy[name], after.since(before, took))
	}
	return took, errors.Join(err, stop())
}

// profile begins a CPU profile of a timed part, if profiles are asked for. Those
// of one name are merged by go tool pprof.
func (r *rig) profile(name string) (stop func() error, err error) {
	if r.profiles == "" || r.repetition == 0 {
		return func() error { return nil }, nil
	}
	if err := os.MkdirAll(r.profiles, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Create(filepath.Join(r.profiles, fmt.Sprintf("%s-%d.pprof", name, r.repetition)))
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error { pprof.StopCPUProfile(); return file.Close() }, nil
}

// shown tells how far a run is: in one line that changes on a terminal, else in
// lines.
type shown struct {
	out      io.Writer
	terminal bool
}

func newShown(out io.Writer) *shown {
	file, ok := out.(*os.File)
	return &shown{out, ok && term.IsTerminal(int(file.Fd()))}
}

func (s *shown) say(what string) {
	if s.terminal {
		fmt.Fprintf(s.out, "\r\x1b[K%s", what)
		return
	}
	fmt.Fprintln(s.out, what)
}

// took tells how long what was said last took, preparation and checks too.
func (s *shown) took(d time.Duration) {
	if !s.terminal {
		fmt.Fprintf(s.out, "    %.1f s\n", d.Seconds())
	}
}

func (s *shown) end() {
	if s.terminal {
		fmt.Fprint(s.out, "\r\x1b[K")
	}
}
