// Bench measures how fast pushwatch's own paths are, beside the limits that the
// same servers set on the same machine in the same minutes.
//
// It guarantees that what it measures is what runs in production: the packages are
// wired as cmd/pushwatch wires them, with its defaults, every guarantee switched
// on, on a PostgreSQL that syncs its commits and a NATS server with file storage.
// Both servers run in processes of their own. Every measurement counts afterwards
// what is in tables and stream and fails when that is not what it should be, so
// that nothing gets fast by being wrong.
//
// Absolute rates of shared machines swing by a factor of two. What counts are
// ratios between two rates of one repetition; the order of the measurements is
// another one in each. A first repetition warms up and is thrown away.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"syscall"
	"time"
)

// options are what a run is asked for.
type options struct {
	pick        *regexp.Regexp // names of measurements; nil: all
	repetitions int
	events      int    // the size of everything: events of a relay measurement
	subjects    int    // in the stream among which later events are published
	waiting     int    // events that wait while memory is measured, and ten times as many
	idle        int    // events of a wake-up measurement
	profiles    string // directory for CPU profiles; empty: none
	format      string // table or json
	docs        string // directory of the documentation to update; empty: none
}

func main() {
	if task := os.Getenv(childTask); task != "" {
		os.Exit(child(task))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// command runs what args ask for.
func command(ctx context.Context, args []string, out, progress io.Writer) error {
	if len(args) > 0 && args[0] == "-scale" {
		return atScale(ctx, args[1:], out, progress)
	}
	o, err := parse(args, progress)
	if err != nil {
		return err
	}
	report, err := run(ctx, o, time.Now, newShown(progress))
	if err != nil {
		return err
	}
	if o.docs != "" {
		if err := report.updateDocs(o.docs); err != nil {
			return err
		}
	}
	if o.format == "json" {
		return writeJSON(out, report)
	}
	return report.writeTable(out)
}

// parse reads the command line.
func parse(args []string, usage io.Writer) (options, error) {
	var o options
	var pick string
	var short bool
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	scale := flags.Bool("scale", false, "as the first flag: what is large instead of what is fast; see bench -scale -help")
	flags.StringVar(&pick, "run", "", "measure what matches this `regexp`, and what it is compared with: "+names())
	flags.IntVar(&o.repetitions, "n", 5, "`repetitions`, beside one to warm up")
	flags.IntVar(&o.events, "events", 40000, "size: `events` of a relay measurement, operations of a list; what syncs each is a part of it")
	flags.IntVar(&o.subjects, "subjects", 300000, "`subjects` in the stream among which later events are published")
	flags.IntVar(&o.idle, "idle", 300, "`events` of a wake-up measurement")
	flags.BoolVar(&short, "short", false, "everything once and tiny, as a smoke test: its numbers mean nothing")
	flags.StringVar(&o.profiles, "cpuprofile", "", "write a CPU profile of each measurement's timed part into this `directory`")
	flags.StringVar(&o.format, "o", "table", "`format`: table or json")
	flags.StringVar(&o.docs, "update", "", "write table and plot into performance.md and performance.svg of this `directory`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.waiting = 10000
	if short {
		o.repetitions, o.events, o.subjects, o.waiting, o.idle = 1, 400, 1000, 100, 5
	}
	var err error
	if o.pick, err = regexp.Compile(pick); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q: only flags are taken", flags.Arg(0))
	case *scale:
		return o, errors.New("-scale: it must be the first flag, before its own ones")
	case o.format != "table" && o.format != "json":
		return o, fmt.Errorf("-o %s: allowed are table and json", o.format)
	case min(o.repetitions, o.idle) < 1:
		return o, errors.New("-n and -idle: 1 or more are needed")
	case o.events < 100:
		return o, fmt.Errorf("-events %d: 100 or more are needed", o.events)
	case o.subjects < (o.repetitions+1)*o.events:
		return o, fmt.Errorf("-subjects %d: each later event has an operation of its own, and %d repetitions and one of %d are asked for",
			o.subjects, o.repetitions, o.events)
	}
	return o, nil
}
