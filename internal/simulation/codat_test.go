package simulation

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// codat is the truth, and what it tells of itself.
type codat struct {
	world     *world
	companies []*books
	pageSize  int // what pushwatch asks for
	granted   int // the most that a page holds

	throttled time.Time // 429 until then
	retry     time.Duration
}

// books are the push operations of one company.
type books struct {
	id  string
	ops []*pushed // newest first
}

// pushed is a push operation as it really is.
type pushed struct {
	op      push.Operation // without status
	made    time.Time
	visible time.Time
	life    []state // in order, at least one
}

type state struct {
	since  time.Time
	status push.Status
}

func (o *pushed) at(now time.Time) push.Status {
	status := o.life[0].status
	for _, s := range o.life {
		if !s.since.After(now) {
			status = s.status
		}
	}
	return status
}

// shown returns the operation with a status.
func (o *pushed) shown(status push.Status) push.Operation {
	op := o.op
	if op.Status = status; status.Terminal() {
		op.CompletedOn = op.RequestedOn.Add(time.Second)
	}
	return op
}

// clock is the time by Codat's clock.
func (c *codat) clock() time.Time { return push.Time(c.world.now().Add(c.world.weather.ahead)) }

// populate makes the companies, what they have pushed and what they will.
func (w *world) populate() {
	c := &codat{world: w, pageSize: 2 + w.dice.IntN(4), granted: 3 + w.dice.IntN(4)}
	w.codat = c
	for i := range 1 + w.dice.IntN(2) {
		b := &books{id: "c" + strconv.Itoa(i+1)}
		c.companies = append(c.companies, b)
		for range w.dice.IntN(7) {
			c.push(b, w.between(0, 20*time.Minute))
		}
		for range 2 + w.dice.IntN(10) {
			w.after(w.between(0, w.weather.lasts), func() { c.push(b, 0) })
		}
	}
}

// push makes an operation that was requested a while ago, and plans its life: it
// ends in some state before the storm does.
func (c *codat) push(b *books, ago time.Duration) {
	w := c.world
	made := w.now().Add(-ago)
	o := &pushed{made: made, visible: w.now(), life: []state{{made, push.Pending}},
		op: push.Operation{CompanyID: b.id, Key: "k" + strconv.Itoa(len(b.ops)+1),
			ConnectionID: "connection", DataType: "invoices", RequestedOn: c.clock().Add(-ago)}}
	if ago == 0 && w.chance(0.1) { // a list shows it late
		o.visible = w.now().Add(w.between(0, time.Minute))
	}
	become := func(statuses ...push.Status) {
		at := o.life[len(o.life)-1].since.Add(w.between(time.Second, 40*time.Second))
		if status := statuses[w.dice.IntN(len(statuses))]; at.Before(w.began.Add(w.weather.lasts)) {
			o.life = append(o.life, state{at, status})
		}
	}
	if w.chance(0.15) {
		become("Processing")
	}
	if !w.chance(0.1) {
		become(push.Success, push.Success, push.Failed, push.TimedOut)
	}
	for w.chance(0.2) { // what Codat should not do
		become(push.Pending, push.Success, push.Failed)
	}
	w.note("codat", b.id+"/"+o.op.Key+" is pushed", w.tellLife(o))
	b.ops = append(b.ops, o)
	slices.SortStableFunc(b.ops, func(a, b *pushed) int { return b.op.RequestedOn.Compare(a.op.RequestedOn) })
}

// list answers list_operations with one page, as it is or, in bad weather, is not.
func (c *codat) list(b *books, page *push.Page) {
	w, f, now := c.world, &c.world.weather, c.world.now()
	var visible []*pushed
	for _, o := range b.ops {
		if !o.visible.After(now) {
			visible = append(visible, o)
		}
	}
	page.Ordered = !w.chance(f.unordered)
	from := min((page.Number-1)*page.Size, len(visible))
	to := min(from+page.Size, len(visible))
	page.Last = to == len(visible)
	var lag time.Duration
	if w.chance(f.lags) {
		lag = w.between(0, 30*time.Second)
	}
	for _, o := range visible[from:to] {
		status := o.at(now)
		if status.Terminal() {
			status = o.at(now.Add(-lag))
		}
		page.Rows = append(page.Rows, push.RowOf(o.shown(status)))
	}
	if from < to && w.chance(f.repeats) {
		o := visible[from+w.dice.IntN(to-from)]
		page.Rows = append(page.Rows, push.RowOf(o.shown(o.at(now.Add(-w.between(0, 20*time.Second))))))
	}
	if from < to && w.chance(f.unread) {
		i := w.dice.IntN(len(page.Rows))
		row := page.Rows[i]
		page.Rows = slices.Delete(page.Rows, i, i+1)
		hash := sha256.Sum256([]byte(row.Key + string(row.Status)))
		page.Quarantined = append(page.Quarantined, push.Quarantined{CompanyID: b.id, Key: row.Key, Class: "unreadable", Hash: hash[:]})
	}
}

func (c *codat) books(company string) *books {
	for _, b := range c.companies {
		if b.id == company {
			return b
		}
	}
	return nil
}

// find returns an operation that can be seen, or nil.
func (c *codat) find(company, key string) *pushed {
	for _, o := range c.books(company).ops {
		if o.op.Key == key && !o.visible.After(c.world.now()) {
			return o
		}
	}
	return nil
}

// tellLife and tellPage spell for the history.
func (w *world) tellLife(o *pushed) string {
	if !w.recording {
		return ""
	}
	var b strings.Builder
	for _, s := range o.life {
		b.WriteString(string(s.status) + " from " + w.since(s.since) + ", ")
	}
	return b.String() + "visible from " + w.since(o.visible)
}

func (w *world) tellPage(page push.Page) string {
	if !w.recording {
		return ""
	}
	var b strings.Builder
	for _, row := range page.Rows {
		b.WriteString(" " + row.Key + "=" + string(row.Status))
	}
	for _, q := range page.Quarantined {
		b.WriteString(" " + q.Key + "=unreadable")
	}
	return b.String()
}
