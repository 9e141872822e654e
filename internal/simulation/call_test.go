package simulation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"
)

// call is a question that a process has asked and waits for the answer to. Every
// one of them may fail in each of the ways in which a question to another machine
// can: before its effect, after it, or with an effect that comes when nobody waits
// any more; and each of its two ways may be slow.
type call struct {
	process *process
	ctx     context.Context
	to      party
	actor
	what   string
	effect func() (how string) // runs at most once, while everybody else rests
	sure   bool                // the effect itself decides what goes wrong

	arrived  int       // the step in which it came
	notFor   time.Time // it is not touched before
	begun    bool      // notFor of a pause is set
	slowed   bool      // it was slow on its way
	answered bool      // the answer is on its way
	err      error     // the answer, when it is not the effect's
	reply    chan error
}

// party is whom a call is addressed to.
type party string

const (
	toDatabase party = "database"
	toBroker   party = "broker"
	toCodat    party = "codat"
	nobody     party = "" // a pause
)

// actor is who asks, and in the course of what.
type actor struct{ who, doing string }

type actorKey struct{}

// as names whoever works under the context that it returns.
func as(ctx context.Context, a actor) context.Context { return context.WithValue(ctx, actorKey{}, a) }

func actorOf(ctx context.Context) actor {
	a, _ := ctx.Value(actorKey{}).(actor)
	return a
}

var (
	errDead   = errors.New("the process is dead")
	errBroken = errors.New("the connection broke")
)

// ask puts a question to a party. An error says nothing of the effect, as in life.
func (p *process) ask(ctx context.Context, to party, what string, effect func() string) error {
	return p.world.arrive(&call{process: p, ctx: ctx, to: to, actor: actorOf(ctx), what: what, effect: effect})
}

// rest pauses a goroutine of the process.
func (p *process) rest(ctx context.Context, what string) error {
	return p.world.arrive(&call{process: p, ctx: ctx, to: nobody, actor: actorOf(ctx), what: what})
}

// arrive takes a call, from any goroutine, and returns its answer.
func (w *world) arrive(c *call) error {
	c.reply = make(chan error, 1)
	w.mu.Lock()
	if c.process.dead {
		w.mu.Unlock()
		return errDead
	}
	c.arrived, w.sorted = w.step, false
	w.waiting = append(w.waiting, c)
	w.mu.Unlock()
	select {
	case w.nudge <- struct{}{}:
	default:
	}
	return <-c.reply
}

// order is total for calls that differ. Those that do not, two reads of one thing
// that came in one step, go on together and are answered alike, so that it does
// not matter which is which.
func (c *call) order(d *call) int {
	return cmp.Or(cmp.Compare(c.arrived, d.arrived), strings.Compare(c.who, d.who),
		strings.Compare(c.doing, d.doing), strings.Compare(c.what, d.what))
}

// advance takes a call one step further: to its effect, or back to who asked.
func (w *world) advance(c *call) {
	calls := w.take(c)
	happen := func() {
		for _, d := range calls {
			w.note(d.who, d.doing+d.what, d.effect())
		}
	}
	fail := func(err error) {
		w.hold(calls, w.between(0, 2*time.Second), func(c *call) { c.answered, c.err = true, err })
	}
	cut := c.process.cut[c.to].After(w.now())
	gone := c.ctx.Err() != nil
	switch {
	case c.answered:
		if c.err = cmp.Or(c.err, c.ctx.Err()); c.err != nil { // nobody waits longer than that
			w.note(c.who, c.doing+c.what, c.err.Error())
		}
		w.answer(calls, c.err)
	case c.to == nobody:
		w.answer(calls, nil)
	case !c.slowed && w.chance(w.weather.slow):
		w.hold(calls, w.delay(), func(c *call) { c.slowed = true })
	case gone && w.chance(0.5), cut && w.chance(0.2), !c.sure && w.chance(w.weather.lost):
		happen()
		fail(cmp.Or(c.ctx.Err(), errBroken))
	case gone, cut, !c.sure && w.chance(w.weather.before):
		fail(cmp.Or(c.ctx.Err(), errBroken))
	case !c.sure && w.chance(w.weather.late):
		w.note(c.who, c.doing+c.what, "is late")
		w.after(w.delay(), happen)
		fail(errBroken)
	case w.chance(w.weather.slow):
		happen()
		w.hold(calls, w.delay(), func(c *call) { c.answered = true })
	default:
		happen()
		w.answer(calls, nil)
	}
}

// take takes c, and the calls that are like it, off the waiting ones.
func (w *world) take(c *call) []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	var taken []*call
	w.waiting = slices.DeleteFunc(w.waiting, func(d *call) bool {
		same := d == c || c.order(d) == 0
		if same {
			taken = append(taken, d)
		}
		return same
	})
	return taken
}

// hold lets calls, changed, wait for a while.
func (w *world) hold(calls []*call, d time.Duration, change func(*call)) {
	for _, c := range calls {
		c.notFor = w.now().Add(d)
		change(c)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting, w.sorted = append(w.waiting, calls...), false
}

// answer lets calls return.
func (w *world) answer(calls []*call, err error) {
	for _, c := range calls {
		c.reply <- err
	}
}

// longest is the time after which nothing is on its way any more.
const longest = 25 * time.Second

// delay is how long something slow takes: mostly a little, sometimes longer than
// any timeout.
func (w *world) delay() time.Duration {
	if w.chance(0.2) {
		return w.between(5*time.Second, longest)
	}
	return w.between(50*time.Millisecond, 3*time.Second)
}

// Why a goroutine pauses.
const (
	relayRests  = "rests"
	leasesRest  = "rest"
	awaitsAcks  = "waits for acknowledgements in vain"
	ackPatience = 5 * time.Second
)

// pause sets how long a pause lasts, and ends it when it is pointless.
func (w *world) pause(c *call, now time.Time) {
	if !c.begun {
		c.begun = true
		switch c.what {
		case relayRests:
			c.notFor = now.Add(w.between(500*time.Millisecond, 3*time.Second))
		case leasesRest:
			c.notFor = now.Add(w.between(2*time.Second, 5*time.Second))
		case awaitsAcks:
			c.notFor = now.Add(ackPatience)
		}
	}
	if c.ctx.Err() != nil || c.what == relayRests && c.process.takeWake() {
		c.notFor = now
	}
}
