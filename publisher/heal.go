package publisher

import (
	"context"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

const (
	tailRows  = 256  // the newest events that every audit looks at
	auditPage = 1000 // events of a page, once one of them is missing
)

// audited says under which circumstances the tail of the stream was last found
// whole, so that a change of them is a reason to look again.
type audited struct {
	at         time.Time // zero: never
	reconnects uint64
	buckets    uint64 // whose events were looked at, and that were held ever since
}

// due reports whether there is a reason for an audit. Whoever held a bucket before
// may have ended before it saw what was lost, so that taking one over is a reason.
func (r *Relay) due() bool {
	held := r.archive.Buckets()
	r.audited.buckets &= held
	suspect := false
	r.note(func() { suspect = r.suspect })
	return suspect || r.audited.at.IsZero() || r.now().Sub(r.audited.at) >= r.auditEvery ||
		r.stream.Reconnects() != r.audited.reconnects || held != r.audited.buckets
}

// shrunk reports whether a stream holds less than before, as after a purge or
// an older copy of its store; also after messages left by their age, for which
// the audit makes allowance.
func shrunk(was, is Identity) bool {
	return is.State.LastSeq < was.State.LastSeq || is.State.Msgs < was.State.Msgs
}

// audit compares the tail of the stream with what is recorded of it, when there
// is a reason to. The newest rows are the first to be lost. Where one of them is
// missing, all kept rows are compared, oldest first. They are not bisected: when
// an older copy of the store came back, sequences were given out twice, and rows
// that are sound stand between those that are not.
//
// True if we crash here: what was made pending again is published like anything
// else, and the rest, the newest, is found by the next start's audit, which comes
// before its first publication.
func (p *pass) audit(ctx context.Context) error {
	if p.archive == nil || !p.due() || fault.Off(fault.TailAudit) {
		return nil
	}
	now := audited{at: p.now(), reconnects: p.stream.Reconnects(), buckets: p.archive.Buckets()}
	is, err := p.identify(ctx)
	if err != nil {
		return err
	}
	within := kept(is.Config.MaxAge)
	tail, err := p.newest(ctx, within)
	if err != nil {
		return err
	}
	missing, err := p.missing(ctx, tail)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		if err := p.heal(ctx, within); err != nil {
			return err
		}
	}
	if p.older, err = older(ctx, p.stream, p.known.Events, p.instance); err != nil {
		return err
	}
	now.buckets &= p.archive.Buckets()
	p.audited = now
	p.note(func() { p.suspect = false })
	return nil
}

func (p *pass) newest(ctx context.Context, within time.Duration) ([]event.Kept, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return p.archive.Newest(ctx, within, tailRows)
}

// heal makes everything pending again that the stream has lost, a page at a time.
func (p *pass) heal(ctx context.Context, within time.Duration) error {
	requeued := 0
	for last := (event.Kept{}); ; {
		page, err := p.after(ctx, last, within)
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		last = page[len(page)-1]
		n, err := p.healPage(ctx, page, within)
		requeued += n
		if err != nil {
			return err
		}
	}
	if requeued > 0 {
		p.log.ErrorContext(ctx, "the stream has lost events that it had acknowledged; they are published again",
			"stream", p.known.Config.Name, "epoch", p.known.Epoch, "requeued", requeued)
	}
	return nil
}

func (p *pass) after(ctx context.Context, last event.Kept, within time.Duration) ([]event.Kept, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return p.archive.After(ctx, last, within, auditPage)
}

func (p *pass) healPage(ctx context.Context, page []event.Kept, within time.Duration) (int, error) {
	missing, err := p.missing(ctx, page)
	if err != nil || len(missing) == 0 {
		return 0, err
	}
	lost, err := p.left(ctx, missing)
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	n, err := p.outbox.Requeue(ctx, lost, within)
	p.result.Requeued += n
	p.Metrics.tailLost.Add(float64(n))
	return n, err
}

// missing returns the events of which the stream has no message, or another one,
// at the recorded sequence. Nothing is published here during an audit, so what is
// beyond the last sequence needs no question.
func (p *pass) missing(ctx context.Context, rows []event.Kept) ([]event.Kept, error) {
	state := p.known.State
	gone := make([]bool, len(rows))
	err := inParallel(ctx, len(rows), func(ctx context.Context, i int) error {
		sequence := rows[i].Sequence
		if sequence < state.FirstSeq || sequence > state.LastSeq {
			gone[i] = true
			return nil
		}
		msg, err := p.stream.Get(ctx, Query{Sequence: sequence})
		gone[i] = err == nil && (msg == nil || msg.ID != rows[i].ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	var missing []event.Kept
	for i, row := range rows {
		if gone[i] {
			missing = append(missing, row)
		}
	}
	return missing, nil
}

// left returns, for each operation of the missing events, what the stream still
// has of it. An event that is missing before a later one of its operation cannot
// come back in order; it is counted and told.
func (p *pass) left(ctx context.Context, missing []event.Kept) ([]event.Lost, error) {
	highest := map[event.Operation]event.Kept{}
	var order []event.Operation
	for _, row := range missing {
		was, ok := highest[row.Operation]
		if !ok {
			order = append(order, row.Operation)
		}
		if !ok || row.Version > was.Version {
			highest[row.Operation] = row
		}
	}
	lasts := make([]*StoredMessage, len(order))
	err := inParallel(ctx, len(order), func(ctx context.Context, i int) (err error) {
		lasts[i], err = last(ctx, p.stream, highest[order[i]].Filter)
		return err
	})
	if err != nil {
		return nil, err
	}
	var lost []event.Lost
	for i, op := range order {
		above, again, err := p.whole(ctx, highest[op], lasts[i])
		if err != nil {
			return nil, err
		}
		if again {
			lost = append(lost, event.Lost{Operation: op, Above: above})
		}
	}
	return lost, nil
}

// whole returns up to which version an operation is whole in the stream, where row
// is the highest of its events that were not found where they are recorded and last
// is its last message; and whether the events above must be published again.
func (p *pass) whole(ctx context.Context, row event.Kept, last *StoredMessage) (above int64, again bool, err error) {
	if last == nil {
		return 0, true, nil
	}
	if there, ok := event.ParseID(last.ID); ok && there.Version < row.Version {
		return there.Version, true, nil
	}
	msg := last
	if msg.ID != row.ID {
		if msg, err = find(ctx, p.stream, row.Filter, row.ID); err != nil {
			return 0, false, err
		}
	}
	switch {
	case msg == nil:
		p.Metrics.gaps.Inc()
		p.log.ErrorContext(ctx, "an event is missing from the stream before a later one of its operation",
			"event_id", row.ID, "sequence", row.Sequence, "last_there", last.ID)
		return 0, false, nil
	case msg.Sequence == row.Sequence:
		return 0, false, nil // it came while we looked: its bucket has only just become ours
	}
	// It is elsewhere: another copy, on its way for long, took the place of one that
	// was lost. When it is published again it is found there, and recorded.
	return row.Version - 1, true, nil
}

// inParallel calls fn for 0 to n-1, a few at once, and returns the first error.
// No goroutine outlives the call.
func inParallel(ctx context.Context, n int, fn func(context.Context, int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(readers, n) {
		wg.Go(func() {
			for i := range next {
				if err := fn(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	for i := 0; i < n && ctx.Err() == nil; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}
