package simulation

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

// What the pushwatch of a process asks, as calls to database and broker.
var (
	_ poller.Source         = (*source)(nil)
	_ poller.Assignments    = (*process)(nil)
	_ poller.Recorder       = (*process)(nil)
	_ poller.Book           = (*process)(nil)
	_ publisher.Outbox      = (*outbox)(nil)
	_ publisher.Archive     = (*outbox)(nil)
	_ publisher.Inheritance = (*outbox)(nil)
	_ publisher.Stream      = (*stream)(nil)
)

// within asks the database, for as long as a statement may take.
func (p *process) within(ctx context.Context, what string, effect func() string) error {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	return p.ask(ctx, toDatabase, what, effect)
}

// outcome is how a call went. Of one whose answer was lost nothing is looked at: its
// effect may come yet, beside whoever looks.
func outcome(lost error, err *error) error {
	if lost != nil {
		return lost
	}
	return *err
}

func (w *world) leases() []string {
	names := make([]string, w.data.buckets, w.data.buckets+len(w.codat.companies))
	for i := range names {
		names[i] = bucketLease(int16(i))
	}
	return append(names, w.companyLeases()...)
}

func (w *world) companyLeases() []string {
	names := make([]string, len(w.codat.companies))
	for i, b := range w.codat.companies {
		names[i] = companyLease(b.id)
	}
	return names
}

func (w *world) tellLeases(held map[string]push.Fence) string {
	if !w.recording {
		return ""
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(held)) {
		names = append(names, name+" under "+strconv.FormatInt(held[name].Token, 10))
	}
	return strings.Join(names, ", ")
}

// tell spells an outcome.
func (w *world) tell(err error, format string, args ...any) string {
	if err != nil {
		return err.Error()
	}
	return w.say(format, args...)
}

func (p *process) Companies(ctx context.Context) ([]push.Company, error) {
	held := p.fences(p.world.companyLeases()...)
	var all []push.Company
	err := p.within(ctx, "reads its companies", func() string {
		all = p.data.assigned(held)
		return p.world.say("%d", len(all))
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Changed never tells: the jobs ask at every tick.
func (p *process) Changed() <-chan struct{} { return nil }

func (p *process) MarkAbsent(ctx context.Context, c push.Company, until time.Time) (err error) {
	lost := p.within(ctx, "marks "+c.ID+" absent", func() string {
		err = p.data.markAbsent(c, until)
		return p.world.tell(err, "")
	})
	return outcome(lost, &err)
}

func (p *process) OpenWalk(ctx context.Context, c push.Company, kind push.WalkKind, startedAt time.Time) (push.Walk, error) {
	var walk push.Walk
	var err error
	lost := p.within(ctx, "opens a "+string(kind)+" walk of "+c.ID, func() string {
		if walk, err = p.data.openWalk(c, kind, startedAt); err == nil && kind == push.WalkBaseline {
			p.world.oracle.firstLook(p.data, c.ID)
		}
		return p.world.tell(err, "from page %d, floor %s", walk.FirstPage, p.world.since(walk.Floor))
	})
	if err := outcome(lost, &err); err != nil {
		return push.Walk{}, err
	}
	return walk, nil
}

func (p *process) Due(ctx context.Context, companies []push.Company, now time.Time, period time.Duration) ([]push.Due, error) {
	var due []push.Due
	err := p.within(ctx, "reads what is due", func() string {
		due = p.data.due(companies, now, period)
		return p.world.say("%d", len(due))
	})
	if err != nil {
		return nil, err
	}
	return due, nil
}

// Record reads without locks first and then commits, as the store does: others may
// commit in between.
func (p *process) Record(ctx context.Context, r push.Record) (push.Recorded, error) {
	w := p.world
	what := "look at " + r.Company.ID
	switch {
	case r.Walk != nil:
		what = "page " + strconv.Itoa(r.Page.Number) + " of the " + string(r.Walk.Kind) + " walk of " + r.Company.ID
	case r.Page.Source == push.FromGet && len(r.Page.Rows) > 0:
		what = "get of " + r.Company.ID + "/" + r.Page.Rows[0].Key
	}
	what += " begun " + w.since(r.Page.StartedAt)
	var before known
	err := p.within(ctx, "compares the "+what, func() string {
		before = p.data.probe(r)
		return w.say("%d differ", len(before.differs))
	})
	if err != nil {
		return push.Recorded{}, err
	}
	var recorded push.Recorded
	lost := p.within(ctx, "records the "+what, func() string {
		recorded, err = p.data.record(r, before)
		return w.tell(err, "%d events, known %t, finished %t, disputed %v", recorded.Events, recorded.Known, recorded.Finished, recorded.Disputed)
	})
	if err := outcome(lost, &err); err != nil {
		return push.Recorded{}, err
	}
	return recorded, nil
}

func (p *process) UpdateQuota(ctx context.Context, day time.Time, rule func(time.Time, *push.Quota)) error {
	ctx = as(ctx, actor{p.name + " ledger", ""})            // for several requests, whichever came first
	return p.ask(ctx, toDatabase, "counts", func() string { // the line has bounded it
		was, is := p.data.updateQuota(day, rule)
		p.world.oracle.counted(p.data, was, is)
		return p.world.say("%d used", is.Used)
	})
}

// outbox is the outbox as one process sees it.
type outbox struct{ *process }

func (o *outbox) owned() owned {
	held := owned{}
	for i := range int16(o.data.buckets) {
		for _, f := range o.fences(bucketLease(i)) {
			held[i] = f
		}
	}
	return held
}

func (o *outbox) Buckets() (bits uint64) {
	for bucket := range o.owned() {
		bits |= 1 << bucket
	}
	return bits
}

func (o *outbox) Pending(ctx context.Context, after int64, most int) ([]event.Pending, bool, error) {
	held := o.owned()
	if len(held) == 0 {
		return nil, false, nil
	}
	var pending []event.Pending
	var more bool
	err := o.ask(ctx, toDatabase, "reads the outbox behind "+strconv.FormatInt(after, 10), func() string {
		pending, more = o.data.pending(held, after, most)
		return o.world.say("%d", len(pending))
	})
	if err != nil { // the effect may come yet
		return nil, false, err
	}
	return pending, more, nil
}

func (o *outbox) Sent(ctx context.Context, sent []event.Sent) (int, error) {
	held := o.owned()
	return o.count(ctx, "records "+several(sent[0].Pending.ID, len(sent))+" as published", func() (int, error) { return o.data.markSent(held, sent), nil })
}

func (o *outbox) Requeue(ctx context.Context, lost []event.Lost, within time.Duration) (int, error) {
	held := o.owned()
	return o.count(ctx, "makes lost events of "+lost[0].CompanyID+"/"+lost[0].Key+" pending", func() (int, error) { return o.data.requeue(held, lost, within) })
}

func (o *outbox) count(ctx context.Context, what string, effect func() (int, error)) (int, error) {
	var n int
	var err error
	lost := o.ask(ctx, toDatabase, what, func() string { n, err = effect(); return o.world.tell(err, "%d", n) })
	if lost != nil {
		return 0, lost
	}
	return n, err
}

func (o *outbox) Reject(ctx context.Context, p event.Pending, class, detail string) (bool, error) {
	held := o.owned()
	var waited bool
	var err error
	lost := o.ask(ctx, toDatabase, "sets aside "+p.ID, func() string {
		if waited, err = o.data.reject(held, p, class); waited {
			o.world.complain("%s was set aside as %s: %s", o.world.named(p.ID), class, detail)
		}
		return o.world.tell(err, "%s, %t", class, waited)
	})
	if lost != nil { // the effect may come yet
		return false, lost
	}
	return waited, err
}

func (o *outbox) Newest(ctx context.Context, within time.Duration, most int) ([]event.Kept, error) {
	return o.kept(ctx, "reads the newest published events", func(held owned) []event.Kept { return o.data.newest(held, within, most) })
}

func (o *outbox) After(ctx context.Context, last event.Kept, within time.Duration, most int) ([]event.Kept, error) {
	return o.kept(ctx, "reads published events", func(held owned) []event.Kept { return o.data.behind(last, held, within, most) })
}

func (o *outbox) kept(ctx context.Context, what string, read func(owned) []event.Kept) ([]event.Kept, error) {
	held := o.owned()
	if len(held) == 0 {
		return nil, nil
	}
	var all []event.Kept
	err := o.ask(ctx, toDatabase, what, func() string { all = read(held); return o.world.say("%d", len(all)) })
	if err != nil {
		return nil, err
	}
	return all, nil
}

func (o *outbox) Heirs(ctx context.Context, most int) ([]event.Heir, error) {
	held := o.owned()
	if len(held) == 0 {
		return nil, nil
	}
	var heirs []event.Heir
	err := o.ask(ctx, toDatabase, "reads operations without a version", func() string {
		heirs = o.data.heirs(held, most)
		return o.world.say("%d", len(heirs))
	})
	if err != nil {
		return nil, err
	}
	return heirs, nil
}

func (o *outbox) Settle(ctx context.Context, heirs []event.Heir) error {
	held := o.owned()
	return o.ask(ctx, toDatabase, "settles operations without a version", func() string {
		o.data.settle(held, heirs)
		return o.world.say("%d", len(heirs))
	})
}

func (o *outbox) Adopt(ctx context.Context, op event.Operation, epoch string, there []event.Foreign) (bool, error) {
	held := o.owned()
	var adopted bool
	var err error
	lost := o.ask(ctx, toDatabase, "adopts "+op.CompanyID+"/"+op.Key, func() string {
		adopted, err = o.data.adopt(held, op, epoch, there)
		return o.world.tell(err, "%t, behind version %d", adopted, there[len(there)-1].Event.Version)
	})
	if err := outcome(lost, &err); err != nil {
		return false, err
	}
	return adopted, nil
}

// stream is the broker as one process sees it.
type stream struct{ *process }

func (s *stream) Identify(ctx context.Context) (publisher.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	var is publisher.Identity
	err := s.ask(ctx, toBroker, "asks which stream it is", func() string {
		is = s.world.broker.identify()
		return s.world.say("made at %s, %d messages up to %d", s.world.since(s.world.broker.created), is.State.Msgs, is.State.LastSeq)
	})
	if err != nil {
		return publisher.Identity{}, &publisher.UnavailableError{Op: "look at stream", Err: err}
	}
	return is, nil
}

func (s *stream) Get(ctx context.Context, q publisher.Query) (*publisher.StoredMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	what := "reads message " + strconv.FormatUint(q.Sequence, 10)
	switch {
	case q.Last != "":
		what = "reads the last message of " + q.Last
	case q.Next != "":
		what = "reads the next message of " + q.Next + " from " + strconv.FormatUint(q.Sequence, 10)
	}
	var msg *publisher.StoredMessage
	var err error
	lost := s.ask(ctx, toBroker, what, func() string {
		if msg, err = s.world.broker.get(q); msg == nil {
			return s.world.tell(err, "none")
		}
		return s.world.say("%d is %s", msg.Sequence, s.world.named(msg.ID))
	})
	switch {
	case lost != nil:
		return nil, &publisher.UnavailableError{Op: "read stream", Err: lost}
	case err != nil:
		return nil, err
	}
	return msg, nil
}

func (s *stream) Reconnects() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reconnects
}

// Publish hands the messages over in a few steps, between which others may come.
func (s *stream) Publish(messages []*nats.Msg, atomic bool, _ time.Duration) []publisher.Reply {
	w := s.world
	deliver := w.deliver
	if atomic {
		deliver = w.deliverAtomic
	}
	ctx := as(s.forever, actor{s.name + " relay", ""})
	what := "publishes " + several(messages[0].Header.Get(jetstream.MsgIDHeader), len(messages)) + " "
	replies := make([]publisher.Reply, len(messages))
	broken := false
	for at := 0; at < len(messages) && !broken; {
		var next int
		heard := make([]publisher.Reply, len(messages))
		err := w.arrive(&call{process: s.process, ctx: ctx, to: toBroker, actor: actorOf(ctx), what: what, sure: true,
			effect: func() (how string) {
				next, broken, how = deliver(s.process, messages, heard, at)
				return how
			}})
		if err != nil { // what the broker has taken is not known
			broken = true
			break
		}
		copy(replies[at:next], heard[at:next])
		at = next
	}
	var why error
	if broken {
		why = nats.ErrDisconnected
	}
	for i := range replies {
		if replies[i].Msg != nil {
			continue
		}
		if why == nil {
			why = context.DeadlineExceeded
			_ = w.arrive(&call{process: s.process, ctx: ctx, to: nobody, actor: actorOf(ctx), what: awaitsAcks})
		}
		replies[i].Err = why
	}
	return replies
}

// deliver lets the broker have some of the messages from at on, and decides the
// fate of each and of its answer. It returns which one is next, and whether the
// connection broke.
func (w *world) deliver(p *process, messages []*nats.Msg, heard []publisher.Reply, at int) (next int, broken bool, how string) {
	f := w.weather
	for i := at; i < len(messages); i++ {
		msg := messages[i]
		name := w.named(msg.Header.Get(jetstream.MsgIDHeader))
		switch {
		case w.chance(f.before):
			how += w.say("%s is lost on its way. ", name)
		case w.chance(f.late):
			how += w.say("%s is late. ", name)
			w.after(w.delay(), func() {
				answer := w.broker.publish(msg)
				w.note(p.name+" relay", "the late message arrives: "+name, w.say("%s", answer.Data))
			})
		case w.broker.clustered && w.chance(f.lost):
			heard[i].Msg = inFlight(w.dice.IntN(2))
			how += w.say("%s meets another one in flight. ", name)
		case w.chance(f.lost):
			answer := w.broker.publish(msg)
			how += w.say("%s: %s, and nobody hears. ", name, answer.Data)
			if w.chance(0.3) {
				p.mu.Lock()
				p.reconnects++
				p.mu.Unlock()
				return i + 1, true, how + "The connection breaks."
			}
		default:
			heard[i].Msg = w.broker.publish(msg)
			how += w.say("%s: %s. ", name, heard[i].Msg.Data)
		}
		if w.chance(0.2) {
			return i + 1, false, how
		}
	}
	return len(messages), false, how
}

// deliverAtomic does the same with an atomic batch, which has one fate.
func (w *world) deliverAtomic(p *process, messages []*nats.Msg, heard []publisher.Reply, _ int) (next int, broken bool, how string) {
	f, next := w.weather, len(messages)
	switch {
	case w.chance(f.before):
		how = w.say("The batch is lost on its way.")
	case w.chance(f.late):
		how = w.say("The batch is late.")
		name := several(messages[0].Header.Get(jetstream.MsgIDHeader), len(messages))
		w.after(w.delay(), func() {
			answer := w.broker.publishAtomic(messages)
			w.note(p.name+" relay", "the late batch arrives: "+name, w.say("%s", answer.Data))
		})
	case w.broker.clustered && w.chance(f.lost):
		how = w.say("The batch meets a message in flight.")
		for i := range heard {
			heard[i].Msg = inFlight(w.dice.IntN(2))
		}
	case w.chance(f.lost):
		answer := w.broker.publishAtomic(messages)
		how = w.say("The batch: %s, and nobody hears.", answer.Data)
		if w.chance(0.3) {
			p.mu.Lock()
			p.reconnects++
			p.mu.Unlock()
			return next, true, how + " The connection breaks."
		}
	default:
		answer := w.broker.publishAtomic(messages)
		how = w.say("The batch: %s.", answer.Data)
		for i := range heard {
			heard[i].Msg = answer
		}
	}
	return next, false, how
}

// several names events by the first of them: no two batches have that in common.
func several(id string, n int) string { return id + " and " + strconv.Itoa(n-1) + " more" }

// named spells an event's id as people know it.
func (w *world) named(id string) string {
	if e, ok := w.oracle.facts[id]; ok {
		return e.CompanyID + "/" + e.PushOperationKey + " v" + strconv.FormatInt(e.Version, 10)
	}
	return id
}
