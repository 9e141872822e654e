package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
)

// Outbox is where events wait, in the database that also holds the changes they
// tell. The relay calls it from one goroutine at a time and gives every call a
// deadline; it repeats what failed, so every method must bear to be called again
// after an error that came too late to prevent the effect.
type Outbox interface {
	// Pending returns at most max events that may be published now, oldest first:
	// of each operation only the lowest unpublished version, and only of hash
	// buckets leased to this process.
	Pending(ctx context.Context, max int) ([]event.Pending, error)
	// Sent records events as published when they say, in one statement and one
	// commit: durable when it returns nil, unknown when it returns an error. Events
	// whose lease was lost meanwhile are left alone; it returns how many were recorded.
	Sent(ctx context.Context, sent []event.Sent) (int, error)
	// Requeue makes the events of the operations that are above what is left of
	// them, and were published within the age, pending again with the same ids and
	// bytes, because the stream has lost them. It returns how many; those whose bytes
	// are not kept any more stay as they are. Those whose lease was lost do, too, and
	// make it an error beside what it returns, so that nobody takes them for the former.
	//
	// Ages are by the outbox's own clock, here and in Archive, and 0 is any: the
	// clock of a machine that sleeps stands still, and would make young again what
	// has left the stream by its age.
	Requeue(ctx context.Context, lost []event.Lost, within time.Duration) (int, error)
	// Reject sets an event that can never be published aside; later versions of
	// its operation wait behind it.
	Reject(ctx context.Context, p event.Pending, class, detail string) error
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
	// Adopt puts the operation's own history, none of which is in the stream,
	// behind that of another database, which is: versions and statuses go on from
	// the last of the messages, which are all that there are, in order; what they
	// tell already is not told again. One commit; it returns false, and changes
	// nothing, when something of the operation was published or set aside.
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
	Batch      int              // events of a run, all in flight at once; 1 to 256, default 256
	AckTimeout time.Duration    // how long to wait for acknowledgements; default 5 s
	Poll       time.Duration    // how often [Relay.Run] looks without being woken; default 1 s
}

const (
	outboxTimeout = 5 * time.Second
	rounds        = 3                // how often one run publishes an event that stays unclear
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
	ackTimeout time.Duration
	poll       time.Duration
	cas        bool // off in a test that must then see duplicates
	wake       chan struct{}

	running sync.Mutex // held by RunOnce; protects the six below
	known   Identity   // of the stream, zero when it must be asked before publishing
	epoch   string     // last one seen, kept through trouble
	checked time.Time  // when the stream was last asked
	audited audited    // the last audit
	older   bool       // the stream began with events of another database, at the last audit
	suspect bool       // something happened by which the stream may have lost events

	health health
}

// New returns a relay, which does nothing until it is run.
func New(c Config) (*Relay, error) {
	if c.Stream == nil || c.Outbox == nil {
		return nil, errors.New("relay: a stream and an outbox are needed")
	}
	r := &Relay{
		Metrics: newMetrics(), stream: c.Stream, outbox: c.Outbox, now: c.Now, log: c.Log, batch: c.Batch,
		archive: c.Archive, heirs: c.Heirs, instance: c.Instance, auditEvery: c.Audit, ackTimeout: c.AckTimeout, poll: c.Poll, cas: !fault.Off(fault.ExpectedSequence), wake: make(chan struct{}, 1),
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
	if r.auditEvery == 0 {
		r.auditEvery = 5 * time.Minute
	}
	if r.ackTimeout == 0 {
		r.ackTimeout = 5 * time.Second
	}
	if r.poll == 0 {
		r.poll = time.Second
	}
	if r.batch < 1 || r.batch > maxInFlight || r.ackTimeout < 0 || r.poll < 0 {
		return nil, fmt.Errorf("relay: batch %d (1 to %d), acknowledgement timeout %s, poll %s", r.batch, maxInFlight, r.ackTimeout, r.poll)
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

// progressed reports whether the outbox is another than before.
func (r Result) progressed() bool { return r.Recorded+r.Requeued+r.Adopted+r.Compared+r.Rejected > 0 }

// RunOnce publishes one batch and records it. It returns the first thing that
// went wrong, beside what was done all the same; whatever it did not finish is
// still pending. When ctx ends it publishes nothing more, waits for the
// acknowledgements that are under way and records them.
func (r *Relay) RunOnce(ctx context.Context) (Result, error) {
	r.running.Lock()
	defer r.running.Unlock()
	b := &batch{Relay: r}
	err := b.run(ctx)
	if err != nil {
		r.known = Identity{}
	}
	return b.result, err
}

// batch is the state of one run.
type batch struct {
	*Relay
	result  Result
	sent    []event.Sent
	failure error // the first
}

func (b *batch) fail(err error) {
	if b.failure == nil {
		b.failure = err
	}
}

// run does the durable steps of a batch, in order.
func (b *batch) run(ctx context.Context) error {
	// Before anything is published behind what the stream may have lost.
	if err := b.audit(ctx); err != nil {
		return err
	}
	if err := b.inherit(ctx); err != nil {
		b.fail(err) // what has a version can be published all the same
	}
	pending, err := b.pending(ctx)
	if err != nil {
		return err
	}
	if len(pending) == 0 {
		if err := b.lookAfter(ctx); err != nil {
			b.fail(err)
		}
		return b.failure
	}
	if b.known.Epoch == "" {
		if err := b.identify(ctx); err != nil {
			return err
		}
	}
	attempts := make([]attempt, len(pending))
	for i := range pending {
		attempts[i] = attempt{pending: &pending[i], after: pending[i].PreviousSequence}
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
		if err != nil {
			b.fail(err)
		}
		if len(again) == 0 || ctx.Err() != nil {
			break
		}
		if round == rounds {
			b.fail(fmt.Errorf("event %s is not in the stream after %d attempts: %w", again[0].pending.ID, rounds, again[0].err))
			break
		}
		unclear = b.publish(finish, again)
	}
	if err := b.record(finish); err != nil {
		b.fail(err)
	}
	return b.failure
}

// pending reads the outbox and makes sure of what the order of an operation's
// events rests on: that no two of them are in flight.
func (b *batch) pending(ctx context.Context) ([]event.Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	pending, err := b.outbox.Pending(ctx, b.batch)
	if err != nil {
		return nil, err
	}
	b.result.Taken = len(pending)
	type operation struct{ company, key string }
	lowest := make(map[operation]int, len(pending))
	kept := pending[:0]
	for _, p := range pending[:min(len(pending), b.batch)] {
		op := operation{p.CompanyID, p.Key}
		if i, ok := lowest[op]; !ok {
			lowest[op] = len(kept)
			kept = append(kept, p)
		} else if p.Version < kept[i].Version {
			kept[i] = p
		}
	}
	return kept, nil
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
	before := b.known.Epoch
	err := b.identify(ctx)
	if b.known.Epoch != before {
		if err == nil {
			err = fmt.Errorf("stream %s was made anew during a batch", b.known.Config.Name)
		}
		return err
	}
	if err != nil {
		b.fail(err) // the stream's configuration was changed: record, then stop
	}
	for i := range b.sent {
		b.sent[i].Epoch = before
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

// identify asks which stream it is. After an error known is zero unless it is
// the stream that is wrong.
func (r *Relay) identify(ctx context.Context) error {
	known, err := r.stream.Identify(ctx)
	r.suspect = r.suspect || r.known.Epoch != "" && shrunk(r.known, known)
	r.known = known
	if known.Epoch == "" {
		return err
	}
	r.checked = r.now()
	if r.epoch != "" && r.epoch != known.Epoch {
		r.log.Error("the stream is another one than before: it was deleted and made again", "was", r.epoch, "is", known.Epoch)
		r.suspect = true
	}
	r.epoch = known.Epoch
	return err
}

// lookAfter notices trouble with the stream while there is nothing to publish.
func (r *Relay) lookAfter(ctx context.Context) error {
	if r.known.Epoch != "" && r.now().Sub(r.checked) < checkEvery {
		return nil
	}
	return r.identify(ctx)
}
