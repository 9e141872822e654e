package poller

import (
	"context"
	"iter"
	"runtime/debug"
	"sync"

	"github.com/pushwatch/pushwatch/push"
)

// ahead lists as a source does, but asks for a page while the one before it is
// being worked on, in a goroutine that has ended when the sequence has. At most two
// pages are held. It is for walks that read to the end of their list in any case: a
// walk that stops early has asked for a page too many.
func (p *Poller) ahead(ctx context.Context, list push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		reading, cancel := context.WithCancel(ctx)
		pages := make(chan answered)
		var reader sync.WaitGroup
		reader.Go(func() {
			defer close(pages)
			read(reading, p.config.Source, list, pages)
		})
		defer reader.Wait()
		defer cancel()
		for page := range pages {
			if !yield(page.Page, page.err) {
				return
			}
		}
		if ctx.Err() != nil { // nothing was handed over any more
			yield(push.Page{}, ctx.Err())
		}
	}
}

// answered is a page, or why there is none.
type answered struct {
	push.Page
	err error
}

// read hands over page after page until the list ends or ctx does.
func read(ctx context.Context, source Source, list push.ListWalk, pages chan<- answered) {
	hand := func(page answered) bool {
		if ctx.Err() != nil { // select would toss a coin
			return false
		}
		select {
		case pages <- page:
			return true
		case <-ctx.Done():
			return false
		}
	}
	defer func() { // as guarded does
		if r := recover(); r != nil {
			hand(answered{err: &panicError{companyID: list.CompanyID, cause: r, stack: debug.Stack()}})
		}
	}()
	for page, err := range source.Walk(ctx, list) {
		if !hand(answered{page, err}) {
			return
		}
	}
}
