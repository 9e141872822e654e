package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// Outbox is where events wait, in the database that also holds the changes they
// tell. The relay calls it from several goroutines at once and gives every call a
// deadline; it repeats what failed, so every method must bear to be called again
// after an error that came too late to prevent the effect.
type Outbox interface {
	// Pending returns at most max events behind a place that may be published now,
	// in the order of their places, which is nearly that of their age; behind place 0
	// are all of them. Of each operation it returns only the lowest unpublished
	// version, and only of hash buckets leased to this process. More tells whether
	// there may be others behind the last of them: max were found, or so many bytes
	// as are wise to hold at once.
	Pending(ctx context.Context, after int64, max int) (pending []event.Pending, more bool, err error)
	// Sent records events as published when they say, in one statement and one
	// commit: durable when it returns nil, unknown when it returns an error. Events
	// whose lease was lost meanwhile are left alone; it returns how many were recorded.
	Sent(ctx context.Context, sent []event.Sent) (int, error)
	// Requeue makes the events of the operations that are above what is left of
	// them, and were published within the age, pending again with the same ids and
	// bodies, marked by [event.HeaderReplayed], because the stream has lost them. It
	// returns how many; those whose bytes are not kept any more stay as they are. Those
	// whose lease was lost do, too, and make it an error beside what it returns, so that
	// nobody takes them for the former.
	//
	// Ages are by the outbox's own clock, here and in Archive, and 0 is any: the
	// clock of a machine that sleeps stands still, and would make young again what
	// has left the stream by its age.
	Requeue(ctx context.Context, lost []event.Lost, within time.Duration) (int, error)
	// Reject sets an event that can never be published aside; later versions of
	// its operation wait behind it. It returns false when the event does not wait any
	// more, because something that was asked for earlier took effect late.
	Reject(ctx context.Context, p event.Pending, class, detail string) (bool, error)
}

// Archive is what the database keeps of the events that are in the stream. The
// relay calls it as it calls [Outbox].
type Archive interface {
	// Buckets returns the hash buckets leased to this process now, a bit each. It is
	// cheap, and asks nobody.
	Buckets() uint64
	// Newest returns the most recently published max events that are kept, of
	// hash buckets leased to this process, published within the age.
	Newest(ctx context.Context, within time.Duration, max int) ([]event.Kept, error)
	// After returns, oldest first, at most max such events behind the given one,
	// by time and sequence; behind the zero event are all of them.
	After(ctx context.Context, last event.Kept, within time.Duration, max int) ([]event.Kept, error)
	// Adopt puts the operation's events that wait behind others of it, which are in
	// the stream and which the database does not know: versions and statuses go on
	// from the last of the messages, which are in order, and all that there are from
	// the lowest of those that wait on; what they tell already is not told again. One
	// commit; it returns false, and changes nothing, when the messages do not begin
	// where what was published ends, or when something was set aside.
	Adopt(ctx context.Context, op event.Operation, epoch string, there []event.Foreign) (bool, error)
}

// Inheritance is what a database asks of a stream to which an earlier database
// published. The relay calls it as it calls [Outbox].
type Inheritance interface {
	// Heirs returns at most max operations, of hash buckets leased to this process,
	// that have no version and were not compared with the stream yet.
	Heirs(ctx context.Context, max int) ([]event.Heir, error)
	// Settle records that the stream has nothing for heirs to take over. Those whose
	// lease was lost stay as they are.
	Settle(ctx context.Context, heirs []event.Heir) error
}

// Config is what a relay works with.
type Config struct {
	Stream     Stream
	Outbox     Outbox
	Archive    Archive          // nil: neither audits nor adoption
	Heirs      Inheritance      // nil: operations without a version are not looked for in the stream
	Instance   string           // of the database, as event ids begin; needed with Heirs
	Audit      time.Duration    // how often the stream's tail is audited without a reason; default 5 min
	Now        func() time.Time // the clock that the outbox records by; default time.Now
	Log        *slog.Logger     // default: none
	Batch      int              // events of a batch, all in flight at once; 1 to 1000, default 1000
	Flights    int              // batches under way at once; default 4
	AckTimeout time.Duration    // how long to wait for acknowledgements; default 5 s
	Atomic     Atomic           // when a batch is published as one; default AtomicAuto
	Poll       time.Duration    // how often [Relay.Run] looks without being woken; default 1 s
}

const (
	outboxTimeout = 5 * time.Second
	rounds        = 3                // how often one batch publishes an event that stays unclear
	passBatches   = 64               // after so many a pass ends, and the next one begins with the oldest
	checkEvery    = 10 * time.Second // how often an idle relay looks after the stream
)

// Relay publishes what the outbox holds. Any number of relays may work on one
// outbox and one stream.
type Relay struct {
	Metrics *Metrics // to be registered by the program

	stream     Stream
	outbox     Outbox
	archive    Archive
	heirs      Inheritance
	instance   string
	auditEvery time.Duration
	now        func() time.Time
	log        *slog.Logger
	batch      int
	flights    int
	ackTimeout time.Duration
	poll       time.Duration
	atomic     Atomic
	cas        bool // off in a test that must then see duplicates
	wake       chan struct{}

	running sync.Mutex // held by RunOnce; protects the two below
	audited audited    // the last audit
	older   bool       // the stream began with events of another database, at the last audit

	noting  sync.Mutex // protects what the batches of a run note of the stream: the four below
	known   Identity   // of the stream, zero when it must be asked before publishing
	epoch   string     // last one seen, kept through trouble
	checked time.Time  // when the stream was last asked
	suspect bool       // something happened by which the stream may have lost events

	pace   pace
	health health
}

// New returns a relay, which does nothing until it is run.
func New(c Config) (*Relay, error) {
	if c.Stream == nil || c.Outbox == nil {
		return nil, errors.New("relay: a stream and an outbox are needed")
	}
	r := &Relay{
		Metrics: newMetrics(), stream: c.Stream, outbox: c.Outbox, now: c.Now, log: c.Log, batch: c.Batch, flights: c.Flights,
		archive: c.Archive, heirs: c.Heirs, instance: c.Instance, auditEvery: c.Audit, atomic: c.Atomic, ackTimeout: c.AckTimeout, poll: c.Poll, cas: !fault.Off(fault.ExpectedSequence), wake: make(chan struct{}, 1),
	}
	if r.now == nil {
		r.now = time.Now
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if r.batch == 0 {
		r.batch = maxInFlight
	}
	if r.flights == 0 {
		r.flights = 4
	}
	switch r.atomic {
	case "":
		r.atomic = AtomicAuto
	case AtomicAuto, AtomicAlways, AtomicNever:
	default:
		return nil, fmt.Errorf("relay: atomic batches %q (%s, %s or %s)", c.Atomic, AtomicAuto, AtomicAlways, AtomicNever)
	}
	if r.auditEvery == 0 {
		r.auditEvery = 5 * time.Minute
	}
	if r.ackTimeout == 0 {
		r.ackTimeout = 5 * time.Second
	}
	if r.poll == 0 {
		r.poll = time.Second
	}
	if r.batch < 1 || r.batch > maxInFlight || r.flights < 1 || r.ackTimeout < 0 || r.poll < 0 {
		return nil, fmt.Errorf("relay: batch %d (1 to %d), flights %d (1 or more), acknowledgement timeout %s, poll %s",
			r.batch, maxInFlight, r.flights, r.ackTimeout, r.poll)
	}
	r.health.start(r.now())
	return r, nil
}

// Result is what one run did.
type Result struct {
	Taken    int // events read from the outbox
	Recorded int // events recorded as published
	Requeued int // events that the stream had lost, pending again
	Adopted  int // operations that took over the history of an earlier database
	Compared int // operations without a version that were looked for in an older stream
	Rejected int // events set aside
}

func (r *Result) add(o Result) {
	r.Taken += o.Taken
	r.Recorded += o.Recorded
	r.Requeued += o.Requeued
	r.Adopted += o.Adopted
	r.Compared += o.Compared
	r.Rejected += o.Rejected
}

// progressed reports whether the outbox is another than before.
func (r Result) progressed() bool { return r.Recorded+r.Requeued+r.Adopted+r.Compared+r.Rejected > 0 }

// RunOnce publishes what is pending and records it. It returns the first thing
// that went wrong, beside what was done all the same; whatever it did not finish is
// still pending. When ctx ends it publishes nothing more, waits for the
// acknowledgements that are under way and records them.
func (r *Relay) RunOnce(ctx context.Context) (Result, error) {
	r.running.Lock()
	defer r.running.Unlock()
	p := &pass{Relay: r}
	p.fail(p.run(ctx))
	if p.failure != nil {
		r.note(func() { r.known = Identity{} })
	}
	return p.result, p.failure
}

// tally is what was done, and the first thing that went wrong.
type tally struct {
	result  Result
	failure error
}

func (t *tally) fail(err error) {
	if t.failure == nil {
		t.failure = err
	}
}

// pass is one way through the outbox, from the oldest event to the youngest.
type pass struct {
	*Relay
	tally
	joining sync.Mutex // protects the tally while batches are under way
}

// run takes batch after batch on its way, a few at once. They have no operation in
// common: an operation's next version can be read only once the one before it is
// recorded, and what was read is behind the place that the next read begins at.
// Events that were committed out of that order are the next pass's.
func (p *pass) run(ctx context.Context) error {
	// Before anything is published behind what the stream may have lost.
	if err := p.audit(ctx); err != nil {
		return err
	}
	if err := p.inherit(ctx); err != nil {
		p.fail(err) // what has a version can be published all the same
	}
	pending, next, err := p.pending(ctx, 0)
	switch {
	case err != nil:
		return err
	case len(pending) == 0:
		return p.lookAfter(ctx)
	}
	known := p.knownNow()
	if known.Epoch == "" {
		if known, err = p.identify(ctx); err != nil {
			return err
		}
	}
	var flights errgroup.Group
	flights.SetLimit(p.flights)
	for n := 1; len(pending) > 0; n++ {
		b := &batch{Relay: p.Relay, known: known, pending: pending}
		flights.Go(func() error {
			b.run(ctx)
			p.join(b)
			return nil
		})
		if next == 0 || n == passBatches || ctx.Err() != nil || !p.well() {
			break
		}
		if pending, next, err = p.pending(ctx, next); err != nil {
			break
		}
	}
	_ = flights.Wait()
	return err
}

// join adds what became of a batch.
func (p *pass) join(b *batch) {
	p.joining.Lock()
	defer p.joining.Unlock()
	p.result.add(b.result)
	p.fail(b.failure)
}

// well reports whether nothing has happened after which one should stop, or look
// whether the stream has lost something.
func (p *pass) well() bool {
	p.joining.Lock()
	defer p.joining.Unlock()
	return p.failure == nil && (p.archive == nil || !p.due())
}

// batch is some events on their way, together.
type batch struct {
	*Relay
	tally
	known   Identity // of the stream, before the first of them is published
	pending []event.Pending
	sent    []event.Sent
}

// run does the durable steps of a batch, in order.
func (b *batch) run(ctx context.Context) {
	attempts := make([]attempt, len(b.pending))
	for i := range b.pending {
		attempts[i] = attempt{pending: &b.pending[i], after: b.pending[i].PreviousSequence}
	}
	// What is under way is finished even if ctx ends meanwhile; only another
	// round is not begun.
	finish := context.WithoutCancel(ctx)
	unclear := b.publish(finish, attempts)
	fault.Point(fault.Acknowledged)
	// True if we crash here: the events are in the stream, acknowledged, and not
	// recorded. They are published again, refused, and found by reading back.
	for round := 1; len(unclear) > 0 && ctx.Err() == nil; round++ {
		again, err := b.resolve(ctx, unclear)
		b.fail(err)
		if len(again) == 0 || ctx.Err() != nil {
			break
		}
		if round == rounds {
			b.fail(fmt.Errorf("event %s is not in the stream after %d attempts: %w", again[0].pending.ID, rounds, again[0].err))
			break
		}
		unclear = b.publish(finish, again)
	}
	b.fail(b.record(finish))
}

// pending reads the outbox behind a place, and returns the place that the next read
// begins behind; 0 when there is nothing more. It makes sure of what the order of an
// operation's events rests on: that no two of them are in a batch.
func (p *pass) pending(ctx context.Context, after int64) (kept []event.Pending, next int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	pending, more, err := p.outbox.Pending(ctx, after, p.batch)
	if err != nil {
		return nil, 0, err
	}
	p.joining.Lock()
	p.result.Taken += len(pending)
	p.joining.Unlock()
	type operation struct{ company, key string }
	lowest := make(map[operation]int, len(pending))
	kept = pending[:0]
	for _, e := range pending[:min(len(pending), p.batch)] {
		if more {
			next = max(next, e.Place)
		}
		op := operation{e.CompanyID, e.Key}
		if i, ok := lowest[op]; !ok {
			lowest[op] = len(kept)
			kept = append(kept, e)
		} else if e.Version < kept[i].Version {
			kept[i] = e
		}
	}
	return kept, next, nil
}

// record writes down where the batch's events are, in one statement.
//
// True if we crash during the commit, or lose its answer: either all of them are
// recorded or none is. Those that are not are still pending and meet themselves
// in the stream.
func (b *batch) record(ctx context.Context) error {
	if len(b.sent) == 0 {
		return nil
	}
	// An acknowledgement does not say which stream of that name it is from. Only
	// if it was the same one before and after is it known where the events are;
	// otherwise they stay pending and are looked for.
	is, err := b.identify(ctx)
	if is.Epoch != b.known.Epoch {
		if err == nil {
			err = fmt.Errorf("stream %s was made anew during a batch", is.Config.Name)
		}
		return err
	}
	b.fail(err) // the stream's configuration was changed: record, then stop
	for i := range b.sent {
		b.sent[i].Epoch = is.Epoch
	}
	acknowledged := b.now()
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	n, err := b.outbox.Sent(ctx, b.sent)
	if err != nil {
		return err
	}
	b.result.Recorded = n
	b.Metrics.published.Add(float64(n))
	for _, s := range b.sent {
		b.Metrics.seconds.Observe(max(acknowledged.Sub(s.Pending.CreatedAt), 0).Seconds())
	}
	return nil
}

// identify asks which stream it is. With an error it returns none, unless it is the
// stream that is wrong.
func (r *Relay) identify(ctx context.Context) (Identity, error) {
	before := r.knownNow() // answered before this is asked, so that less than that is a loss
	is, err := r.stream.Identify(ctx)
	r.note(func() {
		r.suspect = r.suspect || before.Epoch != "" && shrunk(before, is)
		r.known = is
		if is.Epoch == "" {
			return
		}
		r.checked = r.now()
		if r.epoch != "" && r.epoch != is.Epoch {
			r.log.Error("the stream is another one than before: it was deleted and made again", "was", r.epoch, "is", is.Epoch)
			r.suspect = true
		}
		r.epoch = is.Epoch
	})
	return is, err
}

// note changes what is known of the stream.
func (r *Relay) note(change func()) {
	r.noting.Lock()
	defer r.noting.Unlock()
	change()
}

func (r *Relay) knownNow() Identity {
	r.noting.Lock()
	defer r.noting.Unlock()
	return r.known
}

// lookAfter notices trouble with the stream while there is nothing to publish.
func (p *pass) lookAfter(ctx context.Context) error {
	if p.known.Epoch != "" && p.now().Sub(p.checked) < checkEvery {
		return nil
	}
	_, err := p.identify(ctx)
	return err
}
