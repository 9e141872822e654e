package main

import (
	"fmt"
	"io"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// replayShown shows how far a replay is: with a bar on a terminal, with a line
// now and then elsewhere. One goroutine uses it.
type replayShown struct {
	out   io.Writer
	total int64
	last  time.Time // of the last line

	bars *mpb.Progress // nil: lines
	bar  *mpb.Bar      // nil until the first news
}

const shownEvery = 5 * time.Second

func newReplayShown(out io.Writer, total int64) *replayShown {
	p := &replayShown{out: out, total: total, last: time.Now()}
	if isTerminal(out) {
		p.bars = mpb.New(mpb.WithOutput(out), mpb.WithWidth(60))
	}
	return p
}

// done says that n of the total are done.
func (p *replayShown) done(n int64) {
	switch {
	case p.bars == nil && time.Since(p.last) >= shownEvery:
		p.last = time.Now()
		fmt.Fprintf(p.out, "%d of %d\n", n, p.total)
	case p.bars != nil && p.bar == nil:
		p.bar = p.bars.AddBar(max(p.total, n),
			mpb.PrependDecorators(decor.CountersNoUnit("%d of %d ", decor.WCSyncWidth)),
			mpb.AppendDecorators(decor.Percentage(decor.WC{W: 5}), decor.AverageETA(decor.ET_STYLE_GO, decor.WC{W: 8})))
		p.bar.SetCurrent(n)
	case p.bar != nil:
		p.bar.SetCurrent(n)
	}
}

// end leaves the last state on the screen and waits until it is drawn. It may be
// called again.
func (p *replayShown) end(complete bool) {
	if p.bars == nil {
		return
	}
	if p.bar != nil && complete {
		p.bar.SetTotal(-1, true)
	} else if p.bar != nil {
		p.bar.Abort(false)
	}
	p.bars.Wait()
}
