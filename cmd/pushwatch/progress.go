package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"github.com/pushwatch/pushwatch/store"
)

// isTerminal reports whether out is a terminal, where bars may be drawn.
func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// demoShown shows the counts of the demo: as bars on a terminal, else as lines.
type demoShown struct {
	out    io.Writer
	length time.Duration
	counts store.Counts

	bars               *mpb.Progress // nil: lines
	elapsed, published *mpb.Bar
}

func newDemoProgress(out io.Writer, length time.Duration) *demoShown {
	s := &demoShown{out: out, length: length}
	if !isTerminal(out) {
		return s
	}
	s.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(40))
	name := func(text string) mpb.BarOption { return mpb.PrependDecorators(decor.Name(text, decor.WCSyncSpaceR)) }
	s.published = s.bars.AddBar(0, name("changes published"), mpb.AppendDecorators(decor.Any(func(st decor.Statistics) string {
		return fmt.Sprintf("%d of %d changes of %d operations", st.Current, st.Total, s.counts.Operations)
	})))
	if length > 0 {
		s.elapsed = s.bars.AddBar(int64(length), name("time"), mpb.AppendDecorators(decor.Any(func(st decor.Statistics) string {
			return fmt.Sprintf("%s of %s", time.Duration(st.Current).Truncate(time.Second), length)
		})))
	}
	return s
}

// show is called by one goroutine.
func (s *demoShown) show(elapsed time.Duration, counts store.Counts) {
	if s.bars == nil {
		fmt.Fprintf(s.out, "%4.0fs  operations %5d  changes %5d  published %5d  waiting %3d\n",
			elapsed.Seconds(), counts.Operations, counts.Transitions, counts.Published, counts.Waiting)
		return
	}
	s.counts = counts
	s.published.SetTotal(int64(counts.Transitions), false)
	s.published.SetCurrent(int64(counts.Published))
	if s.elapsed != nil {
		s.elapsed.SetCurrent(int64(min(elapsed, s.length)))
	}
}

// close leaves the last state on the screen.
func (s *demoShown) close() {
	if s.bars == nil {
		return
	}
	s.published.Abort(false)
	if s.elapsed != nil {
		s.elapsed.Abort(false)
	}
	s.bars.Wait()
}
