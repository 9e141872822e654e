package codatsim

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// operation is one push operation. Everything but steps and removed is fixed
// once it is in a timeline; those two are guarded by the company's mutex.
type operation struct {
	seed       uint64 // of its texts
	key        string
	connection string
	dataType   string // empty: null
	timeout    int    // minutes; 0: none
	message    string // replaces the drawn errorMessage where there is one
	requested  time.Time
	visible    time.Time // when the API begins to show it
	steps      []Step    // in order of time, at least one
	removed    time.Time // zero while it exists
}

// at returns the index of the step that holds at t.
func (o *operation) at(t time.Time) int {
	i := len(o.steps) - 1
	for i > 0 && o.steps[i].At.After(t) {
		i--
	}
	return i
}

// view is an operation at one moment, safe to use without any lock.
type view struct {
	*operation
	now  Step
	prev Step // the step before now; zero for the first

	padding int // bytes of error message, for HugeRow
}

func (o *operation) view(t time.Time) view {
	i := o.at(t)
	v := view{operation: o, now: o.steps[i]}
	if i > 0 {
		v.prev = o.steps[i-1]
	}
	return v
}

// company is the timeline of one company, worked out as far as it was asked for.
type company struct {
	Company
	sim         *Sim
	connections []Connection
	rate        float64 // mean arrivals per minute
	name64      uint64  // word(ID)

	mu      sync.Mutex // guards all below
	now     time.Time  // as far as the timeline has been worked out
	minute  int64      // the next minute to generate; 0 before the first use
	shown   []*operation
	ahead   []*operation // not visible yet, by visible
	gone    []*operation // removed by script
	byKey   map[string]*operation
	scripts uint64 // operations that were added by script or shift
}

func newCompany(s *Sim, c Company, rate float64) *company {
	return &company{
		Company:     c,
		sim:         s,
		connections: connectionsOf(s.cfg.Seed, c.ID, s.cfg.Laws),
		rate:        rate,
		name64:      word(c.ID),
		byKey:       map[string]*operation{},
	}
}

// shares returns the weight of each of n companies: falling like one over the
// square root, one on average.
func shares(n int) []float64 {
	weights, total := make([]float64, n), 0.0
	for i := range weights {
		weights[i] = 1 / math.Sqrt(float64(i+1))
		total += weights[i]
	}
	for i := range weights {
		weights[i] *= float64(n) / total
	}
	return weights
}

func minuteOf(t time.Time) int64 { return t.Unix() / 60 }

// advance works the timeline out up to now. The caller holds mu.
func (c *company) advance(now time.Time) {
	if now.After(c.now) {
		c.now = now
	}
	if c.minute == 0 {
		c.begin()
	}
	for last := minuteOf(c.now); c.rate > 0 && c.minute <= last; c.minute++ {
		c.ahead = append(c.ahead, c.arrivals(c.minute, c.rate)...)
	}
	slices.SortStableFunc(c.ahead, func(a, b *operation) int { return a.visible.Compare(b.visible) })
	due := 0
	for due < len(c.ahead) && !c.ahead[due].visible.After(c.now) {
		c.show(c.ahead[due])
		due++
	}
	c.ahead = slices.Delete(c.ahead, 0, due)
}

// begin makes the history, walking back from the start minute by minute, and the
// rest of the minute in which the simulator started.
func (c *company) begin() {
	start, rate := c.sim.start, c.rate
	if rate == 0 {
		rate = 1
	}
	first := minuteOf(start)
	c.minute = first + 1
	split := c.arrivals(first, rate)
	n := 0
	for n < len(split) && !split[n].requested.After(start) {
		n++
	}
	if c.rate > 0 {
		c.ahead = append(c.ahead, split[n:]...)
	}
	history := split[:n:n]
	slices.Reverse(history)
	for minute := first - 1; len(history) < c.sim.cfg.History; minute-- {
		earlier := c.arrivals(minute, rate)
		slices.Reverse(earlier)
		history = append(history, earlier...)
	}
	history = history[:c.sim.cfg.History]
	slices.Reverse(history)
	for _, o := range history {
		c.show(o)
	}
}

// arrivals returns the operations that are requested in one minute of absolute
// time, oldest first: gaps are exponential, so that arrivals are Poisson.
func (c *company) arrivals(minute int64, rate float64) []*operation {
	d := dice(c.sim.cfg.Seed, word("arrivals"), c.name64, uint64(minute))
	var ops []*operation
	for at := d.ExpFloat64() / rate; at < 1; at += d.ExpFloat64() / rate {
		requested := time.Unix(minute*60, 0).Add(time.Duration(at * float64(time.Minute)))
		ops = append(ops, c.conceive(d.Uint64(), instant(requested)))
	}
	return ops
}

// conceive draws everything about an operation from its seed.
func (c *company) conceive(seed uint64, requested time.Time) *operation {
	d := dice(seed)
	law := c.pickLaw(d)
	o := &operation{
		seed:       seed,
		key:        uuid(d),
		connection: c.connections[law].ID,
		dataType:   pickDataType(d),
		requested:  requested,
		visible:    requested,
	}
	o.steps, o.timeout = c.sim.cfg.Laws[law].plan(d, requested, c.sim.cfg.Speed)
	return o
}

func (c *company) pickLaw(d *rand.Rand) int {
	laws := c.sim.cfg.Laws
	return pick(d, len(laws), func(i int) float64 { return laws[i].Share })
}

// show puts an operation where its requestedOn belongs. The caller holds mu.
func (c *company) show(o *operation) {
	c.byKey[o.key] = o
	at := len(c.shown)
	if at > 0 && older(o, c.shown[at-1]) < 0 {
		at, _ = slices.BinarySearchFunc(c.shown, o, older)
	}
	c.shown = slices.Insert(c.shown, at, o)
}

// older orders operations by requestedOn, and by key where that is equal.
func older(a, b *operation) int {
	return cmp.Or(a.requested.Compare(b.requested), cmp.Compare(a.key, b.key))
}

// order is the order of a list.
type order int

const (
	newestFirst order = iota
	oldestFirst
	shuffled
)

// page returns count operations from offset in the given order, as they are at
// now, and how many there are in all. An operation that arrives later never pushes
// another one out of a walk: it is at the end, or moves others back.
func (c *company) page(now time.Time, by order, offset, count int) (views []view, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	ops := c.shown
	if by == shuffled {
		ops = slices.Clone(ops)
		slices.SortFunc(ops, func(a, b *operation) int { return cmp.Compare(mix(a.seed), mix(b.seed)) })
	}
	total = len(ops)
	for i := offset; i < min(offset+count, total); i++ {
		at := i
		if by == newestFirst {
			at = total - 1 - i
		}
		views = append(views, ops[at].view(c.now))
	}
	return views, total
}

// find returns the operation with this key as it is at now, if the API shows it.
func (c *company) find(now time.Time, key string) (view, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	o, ok := c.byKey[key]
	if !ok || o.visible.After(c.now) || !o.removed.IsZero() {
		return view{}, false
	}
	return o.view(c.now), true
}
