package publisher

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// publish sends attempts and sorts them by their answers. It returns those that
// must be read back.
func (b *batch) publish(ctx context.Context, attempts []attempt) []attempt {
	var small, clouded []attempt
	for _, a := range attempts {
		if size := len(a.pending.Data); size > maxEventSize {
			b.reject(ctx, a.pending, classTooLarge, fmt.Sprintf("%d bytes, at most %d", size, maxEventSize))
		} else {
			small = append(small, a)
		}
	}
	for i, answer := range b.answers(ctx, small) {
		a := small[i]
		a.err = answer.err
		switch answer.outcome {
		case stored:
			b.keep(a.pending, answer.sequence, a.pending.ReadAt)
		case unclear:
			clouded = append(clouded, a)
		case full:
			if fault.Off(fault.FullIsWaiting) {
				b.reject(ctx, a.pending, "full", a.err.Error())
			}
			b.fail(fmt.Errorf("stream %s takes nothing: %w; %s", b.known.Config.Name, a.err, roomCommand(b.known.Config, a.err.Error())))
		case unpublishable:
			if fault.Off(fault.SetAside) {
				b.fail(a.err)
				break
			}
			b.reject(ctx, a.pending, answer.class, a.err.Error())
		case refused:
			b.fail(fmt.Errorf("publish event %s: %w", a.pending.ID, a.err))
		}
	}
	return clouded
}

// answers sends attempts and returns what is proven of each, in their order.
func (b *batch) answers(ctx context.Context, attempts []attempt) []answer {
	n := len(attempts)
	if n < 2 || b.atomic == AtomicNever || !b.known.Config.AllowAtomicPublish {
		return b.single(attempts)
	}
	if b.atomic == AtomicAlways {
		return b.whole(ctx, attempts)
	}
	atomic, compare := b.pace.next(n)
	switch {
	case compare:
		began := b.now()
		answers := b.single(attempts[:n/2])
		between := b.now()
		answers = append(answers, b.whole(ctx, attempts[n/2:])...)
		if !slices.ContainsFunc(answers, func(a answer) bool { return a.outcome != stored }) {
			b.pace.compared(between.Sub(began), b.now().Sub(between))
		}
		return answers
	case atomic:
		return b.whole(ctx, attempts)
	}
	return b.single(attempts)
}

func (b *batch) single(attempts []attempt) []answer {
	return publish(b.stream, b.known.Config.Name, attempts, b.cas, b.ackTimeout)
}

// whole sends attempts as an atomic batch. Of a refused one nothing is stored: one by one
// each is told why, and the good ones get through.
func (b *batch) whole(ctx context.Context, attempts []attempt) []answer {
	answers, err := publishAtomic(b.stream, b.known.Config.Name, attempts, b.cas, b.ackTimeout)
	b.Metrics.batch(answers, err)
	if err != nil {
		b.log.DebugContext(ctx, "an atomic batch was refused", "events", len(attempts), "error", err)
		return b.single(attempts)
	}
	return answers
}

func (b *batch) keep(p *event.Pending, sequence uint64, at time.Time) {
	b.sent = append(b.sent, event.Sent{Pending: p, Sequence: sequence, At: at})
}

// resolve reads back what the stream has of the operations of attempts, and
// returns those events that must be published again.
//
// True if we crash anywhere in here: nothing was changed but by the outbox's own
// commits, and the rest is resolved anew.
func (b *batch) resolve(ctx context.Context, attempts []attempt) ([]attempt, error) {
	if fault.Off(fault.ReadBack) {
		return attempts, nil
	}
	lasts, err := lasts(ctx, b.stream, attempts)
	if err != nil {
		return nil, fmt.Errorf("resolve %d events (%w): %w", len(attempts), attempts[0].err, err)
	}
	var again []attempt
	for i, a := range attempts {
		v := decide(*a.pending, lasts[i], b.known.Config.MaxAge)
		if v.action == search {
			if v, err = b.search(ctx, a.pending, v); err != nil {
				return nil, err
			}
		}
		a.after = v.sequence
		switch v.action {
		case found:
			b.keep(a.pending, v.sequence, v.at)
			b.Metrics.resolved.WithLabelValues(byFound).Inc()
		case retry:
			again = append(again, a)
			b.Metrics.resolved.WithLabelValues(byRetry).Inc()
		case expired:
			again = append(again, a)
			b.Metrics.resolved.WithLabelValues(byExpired).Inc()
		case lost:
			if n := b.requeue(ctx, a.pending, v); n == 0 {
				again = append(again, a)
			}
		case adopt:
			if err := b.adopt(ctx, a.pending, v); err != nil {
				b.fail(err)
			}
		case reject:
			b.Metrics.resolved.WithLabelValues(byRejected).Inc()
			b.reject(ctx, a.pending, v.class, v.detail)
		}
	}
	return again, nil
}

// search looks for an event behind which a later one of its operation stands.
func (b *batch) search(ctx context.Context, p *event.Pending, later verdict) (verdict, error) {
	msg, err := find(ctx, b.stream, p.Filter, p.ID)
	switch {
	case err != nil:
		return verdict{}, err
	case msg == nil:
		return verdict{action: reject, class: classOvertaken, detail: later.detail}, nil
	}
	return same(*p, msg), nil
}

// requeue brings back what the stream lost before p, and returns how many events
// that were. Where it is none, because their bytes are not kept any more, p goes
// on behind what is there: a gap that is told beats an operation that stands
// still. An error counts as one, so that p waits: also that of a lost lease, whose
// new holder brings back what we can not.
func (b *batch) requeue(ctx context.Context, p *event.Pending, v verdict) int {
	b.Metrics.lost.Inc()
	b.note(func() { b.suspect = true }) // where one is lost there may be more: the next run begins with an audit
	b.Metrics.resolved.WithLabelValues(byLost).Inc()
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	lost := event.Lost{Operation: operationOf(p), Above: v.above}
	n, err := b.outbox.Requeue(ctx, []event.Lost{lost}, kept(b.known.Config.MaxAge))
	if err != nil {
		b.fail(err)
		return 1
	}
	b.result.Requeued += n
	b.log.ErrorContext(ctx, "the stream has lost events that it had acknowledged", "company_id", p.CompanyID,
		"operation", p.Key, "version", p.Version, "last_version_there", v.above, "requeued", n)
	return n
}

// reject sets aside an event that can never be published.
func (b *batch) reject(ctx context.Context, p *event.Pending, class, detail string) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	waited, err := b.outbox.Reject(ctx, *p, class, detail)
	if err != nil || !waited {
		b.fail(err)
		return
	}
	b.result.Rejected++
	b.Metrics.rejected.WithLabelValues(class).Inc()
	b.log.ErrorContext(ctx, "an event can never be published and was set aside", "event_id", p.ID, "class", class, "detail", detail)
}
