package simulation

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

// oracle holds what happens against what is promised, at every step, by what it
// has heard itself: it reads the state of neither database nor broker.
type oracle struct {
	world   *world
	shown   map[id][]sight         // what Codat has told of each operation
	chain   map[instance]change    // the last transition of each operation
	rows    map[instance]time.Time // the start of the latest look that showed what is stored
	first   map[string]time.Time   // when the first look at a company was committed, in the database of now
	facts   map[string]event.Event // what was committed, by id
	holders map[push.Fence]string  // who was given a token

	published map[string]bool // by id: somebody has recorded it as such

	copies map[string]int  // how often an event is in the stream, or left it by its age
	there  map[id][]string // the events of each operation in the stream, in order
	old    map[id]int64    // the highest version that left by its age

	mu    sync.Mutex              // protects pause, of which processes tell
	pause map[*database]time.Time // nobody may ask Codat before
}

type sight struct {
	status push.Status
	at     time.Time
	source push.Source
}

// instance is an operation in one database.
type instance struct {
	database string
	id
}

type change struct {
	version int64
	status  push.Status
}

func newOracle(w *world) *oracle {
	return &oracle{world: w, shown: map[id][]sight{}, chain: map[instance]change{}, rows: map[instance]time.Time{},
		first: map[string]time.Time{}, facts: map[string]event.Event{}, holders: map[push.Fence]string{},
		published: map[string]bool{},
		copies:    map[string]int{}, there: map[id][]string{}, old: map[id]int64{}, pause: map[*database]time.Time{}}
}

// copy returns what the oracle knows of the database as it is now.
func (o *oracle) copy() *oracle {
	return &oracle{chain: maps.Clone(o.chain), rows: maps.Clone(o.rows), first: maps.Clone(o.first)}
}

// forget hears that the database is as it was at a copy.
func (o *oracle) forget(before *oracle) {
	o.chain, o.rows, o.first = before.chain, before.rows, before.first
}

func nameOf(e event.Event) id { return id{e.CompanyID, e.PushOperationKey} }

// showed hears what Codat tells somebody.
func (o *oracle) showed(page push.Page) {
	for _, op := range push.Whole(page.Rows) {
		name := id{op.CompanyID, op.Key}
		o.shown[name] = append(o.shown[name], sight{op.Status, push.Time(page.StartedAt), page.Source})
	}
}

// firstLook hears that the first look at a company is about to begin.
func (o *oracle) firstLook(d *database, company string) {
	if _, ok := o.first[d.instance+company]; !ok {
		o.first[d.instance+company] = o.world.now()
	}
}

// throttled hears that a process has noted a 429.
func (o *oracle) throttled(d *database, until time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pause[d] = latest(o.pause[d], until)
}

// counted hears of a change of the quota. One that is used more is a request.
func (o *oracle) counted(d *database, was, is push.Quota) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now := o.world.now(); is.Used > was.Used && now.Before(o.pause[d]) {
		o.world.complain("a request is admitted, though Codat has told to wait until %s", o.world.since(o.pause[d]))
	}
}

// granted hears that a lease is given to a process.
func (o *oracle) granted(f push.Fence, holder string) {
	if other, ok := o.holders[f]; ok && other != holder && !o.world.renewed {
		o.world.complain("token %d of lease %s is given to %s, after %s", f.Token, f.Lease, holder, other)
	}
	o.holders[f] = holder
}

// wrote hears of a write that is accepted under a token.
func (o *oracle) wrote(f push.Fence, l *lease) {
	if l == nil || l.token != f.Token {
		o.world.complain("a write under token %d of lease %q is accepted, which another process has", f.Token, f.Lease)
	}
}

// looked hears that a look is committed that showed what is stored. Where that is
// terminal, an older look may still dispute it, and a get decides.
func (o *oracle) looked(d *database, name id, stored push.Known, looked time.Time) {
	if row := (instance{d.instance, name}); !stored.Status.Terminal() {
		o.rows[row] = latest(o.rows[row], looked)
	}
}

// wroteRow hears that a look writes a row.
func (o *oracle) wroteRow(d *database, name id, status push.Status, looked time.Time) {
	row, w := instance{d.instance, name}, o.world
	if looked.Before(o.rows[row]) {
		w.complain("%s/%s: a look begun %s overwrites one begun %s", name.company, name.key, w.since(looked), w.since(o.rows[row]))
	}
	o.rows[row] = looked
	if !slices.ContainsFunc(o.shown[name], func(s sight) bool { return s.status == status && s.at.Equal(looked) }) {
		w.complain("%s/%s is stored as %s, which no look begun %s has shown", name.company, name.key, status, w.since(looked))
	}
}

// committed hears of a transition. One that no look has brought goes on behind the
// events of an earlier database.
func (o *oracle) committed(d *database, e event.Event, looked time.Time) {
	name, w := nameOf(e), o.world
	before := o.chain[instance{d.instance, name}]
	adopted := looked.IsZero() || before.version == 0 && w.renewed
	switch {
	case !adopted && e.Version != before.version+1:
		w.complain("%s/%s: version %d is committed behind version %d", name.company, name.key, e.Version, before.version)
	case !adopted && before.version > 0 && *e.PreviousStatus != before.status:
		w.complain("%s/%s: version %d does not begin where version %d ended", name.company, name.key, e.Version, before.version)
	case e.PreviousStatus != nil && *e.PreviousStatus == e.Status:
		w.complain("%s/%s: version %d changes nothing", name.company, name.key, e.Version)
	case !looked.IsZero() && e.PreviousStatus != nil && e.PreviousStatus.Terminal() && !o.confirmed(name, e.Status, looked):
		w.complain("%s/%s: version %d leaves %s for %s after a single reading", name.company, name.key, e.Version, *e.PreviousStatus, e.Status)
	}
	o.chain[instance{d.instance, name}] = change{e.Version, e.Status}
	o.facts[e.ID] = e
}

// confirmed reports whether two looks have shown the status, the last one a get, or
// begun a minute or more after the first.
func (o *oracle) confirmed(name id, status push.Status, looked time.Time) bool {
	for _, first := range o.shown[name] {
		for _, second := range o.shown[name] {
			if first.status == status && second.status == status && second.at.Equal(looked) && first.at.Before(looked) &&
				(second.source == push.FromGet || !looked.Before(first.at.Add(time.Minute))) {
				return true
			}
		}
	}
	return false
}

// stored hears of a message that the stream takes.
func (o *oracle) stored(m *publisher.StoredMessage) {
	w := o.world
	fact, ok := o.facts[m.ID]
	if !ok {
		w.complain("message %d is event %s, which nobody has committed", m.Sequence, m.ID)
		return
	}
	if body, err := json.Marshal(fact); err != nil || !bytes.Equal(body, m.Data) {
		w.complain("message %d says %s, committed was %s", m.Sequence, m.Data, body)
	}
	if o.copies[m.ID]++; o.copies[m.ID] > 1 {
		w.complain("%s is in the stream twice, now as message %d", w.named(m.ID), m.Sequence)
	}
	name := nameOf(fact)
	anew := w.renewed && fact.Version == 1 && len(o.there[name]) == 0 // what stood there left by its age, and was never seen
	if before := max(o.old[name], o.highest(name)); fact.Version != before+1 && !anew {
		w.complain("%s stands behind version %d in the stream, as message %d", w.named(m.ID), before, m.Sequence)
	}
	o.there[name] = append(o.there[name], m.ID)
}

// highest returns the last version of an operation in the stream, 0 for none.
func (o *oracle) highest(name id) int64 {
	if ids := o.there[name]; len(ids) > 0 {
		return o.facts[ids[len(ids)-1]].Version
	}
	return 0
}

// lost hears of a message that the broker loses.
func (o *oracle) lost(m *publisher.StoredMessage) {
	o.leave(m)
	o.copies[m.ID]--
}

// recorded hears that an event is recorded as published.
func (o *oracle) recorded(id string) { o.published[id] = true }

// aged hears of a message that leaves by its age. One that nobody could record
// until then is published again: outages are survived up to the stream's retention.
func (o *oracle) aged(m *publisher.StoredMessage) {
	if !o.published[m.ID] {
		o.lost(m)
		return
	}
	o.leave(m)
	fact := o.facts[m.ID]
	o.old[nameOf(fact)] = max(o.old[nameOf(fact)], fact.Version)
}

func (o *oracle) leave(m *publisher.StoredMessage) {
	name := nameOf(o.facts[m.ID])
	o.there[name] = slices.DeleteFunc(o.there[name], func(id string) bool { return id == m.ID })
}

// guard is the part of a witness that hears of leases, and of what is recorded as published.
type guard interface {
	granted(f push.Fence, holder string)
	wrote(f push.Fence, l *lease)
	recorded(id string)
}
