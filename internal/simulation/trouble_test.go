package simulation

import (
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// trouble is one thing that can happen to a running system.
type trouble struct {
	name   string
	strike func(*world)
}

var troubles = []trouble{
	{"a process is killed", func(w *world) {
		if r := w.victim(); r != nil {
			w.kill(r)
			w.after(w.between(100*time.Millisecond, 30*time.Second), func() { w.start(r) })
		}
	}},
	{"a process is told to stop", func(w *world) {
		if r := w.victim(); r != nil {
			w.stop(r)
			w.after(w.between(100*time.Millisecond, 30*time.Second), func() { w.start(r) })
		}
	}},
	{"a process stands still", func(w *world) { w.suspend(false) }},
	{"a machine sleeps", func(w *world) { w.suspend(true) }},
	{"a process is cut off", func(w *world) {
		if r := w.victim(); r != nil {
			to := []party{toDatabase, toBroker, toCodat}[w.dice.IntN(3)]
			d := w.between(time.Second, 30*time.Second)
			r.now.cut[to] = w.now().Add(d)
			w.note(r.now.name, "is cut off from "+string(to), w.say("for %s", d))
		}
	}},
	{"the broker loses its tail", func(w *world) { // a power cut, or an older copy of its store
		if w.mayLose() {
			w.broker.powerCut(1 + w.dice.IntN(1+w.dice.IntN(len(w.broker.messages)+1)))
		}
	}},
	{"the stream is deleted", func(w *world) {
		if w.mayLose() {
			w.broker.delete()
		}
	}},
	{"the stream is purged", func(w *world) {
		if w.mayLose() {
			w.broker.purge()
		}
	}},
	{"the stream is full", func(w *world) {
		w.broker.limit = len(w.broker.messages) + w.dice.IntN(3)
		w.note("broker", "is full", w.say("at %d messages", w.broker.limit))
		w.after(w.between(5*time.Second, 40*time.Second), func() { w.broker.limit = 0 })
	}},
	{"Codat throttles", func(w *world) {
		d := w.between(time.Second, 30*time.Second)
		w.codat.throttled, w.codat.retry = w.now().Add(d), d.Truncate(time.Second)+time.Second
		w.note("codat", "throttles", w.say("for %s", d))
	}},
	{"the database is a fresh one", (*world).renew},
	{"the database is an older copy", (*world).fallBack},
	{"everything is down", (*world).rest},
}

// victim returns a replica on which a pushwatch runs, or nil.
func (w *world) victim() *replica {
	var running []*replica
	for _, r := range w.replicas {
		if r.now != nil {
			running = append(running, r)
		}
	}
	if len(running) == 0 {
		return nil
	}
	return running[w.dice.IntN(len(running))]
}

// suspend stops a process for a while, often for longer than its leases last: with
// its clock where the machine sleeps, without it where the process alone stands still.
func (w *world) suspend(machine bool) {
	r := w.victim()
	if r == nil {
		return
	}
	p, d := r.now, w.between(5*time.Second, 45*time.Second)
	if w.chance(0.2) {
		d *= 5
	}
	p.pausedUntil = w.now().Add(d)
	if !machine {
		w.note(p.name, "stands still", w.say("for %s", d))
		return
	}
	w.note(p.name, "sleeps, and its clock with it", w.say("for %s", d))
	w.slept += d
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.slept += d
}

// kill ends a process without warning. What it had asked may still happen.
func (w *world) kill(r *replica) {
	p := r.now
	r.now = nil
	w.note(p.name, "is killed", "")
	w.mu.Lock()
	p.dead = true
	w.sort()
	var left, cut []*call
	for _, c := range w.waiting {
		if c.process == p {
			cut = append(cut, c)
		} else {
			left = append(left, c)
		}
	}
	w.waiting = left
	w.mu.Unlock()
	for _, c := range cut {
		if c.effect == nil || c.answered {
			continue
		}
		happen := func() { w.note(c.who, c.doing+c.what, c.effect()+" (its process is dead)") }
		switch w.dice.IntN(3) {
		case 0:
			happen()
		case 1:
			w.after(w.delay(), happen)
		}
	}
	if w.chance(0.5) { // its peers are on the same machine
		w.data.gone[p.name] = true
	}
	w.answer(cut, errDead)
	p.cancel()
}

// stop ends a process gracefully.
func (w *world) stop(r *replica) {
	p := r.now
	r.now = nil
	w.note(p.name, "is told to stop", "")
	p.cancel()
	go func() {
		p.group.Wait()
		ctx := as(p.forever, actor{p.name + " leases", ""})
		_ = p.ask(ctx, toDatabase, "gives them back", func() string { p.data.release(p.name); return "" })
	}()
}

// mayLose reports whether what the stream loses can be healed: the database has
// published all of it itself and still has it.
func (w *world) mayLose() bool { return w.broker.maxAge == 0 && !w.renewed && !w.copied }

// renew ends every process and begins with a fresh database beside the old stream.
func (w *world) renew() {
	if w.renewed || w.copied || w.closed {
		return
	}
	w.renewed = true
	w.shut()
	// Two databases that publish at once are beyond what is promised: what the old
	// one's processes have sent arrives before the new one's begin.
	w.after(longest+w.between(time.Second, 20*time.Second), func() {
		w.found()
		w.note("world", "the database is a fresh one", "")
		w.open()
	})
}

// fallBack copies the database, and puts the copy into its place some time later: what
// was committed meanwhile is lost, and what the stream was told of it is not.
func (w *world) fallBack() {
	if w.renewed || w.copied || w.broker.maxAge > 0 {
		return // what a lost commit alone knows as told is told again when it has left by its age
	}
	for _, c := range w.data.companies {
		if len(c.walks[push.WalkBaseline]) == 0 || c.open(push.WalkBaseline) != nil {
			return // whose baseline would hide what changed, see "What is not promised" in docs/reliability.md
		}
	}
	w.copied = true
	data, before := w.data.copy(), w.oracle.copy()
	w.note("database", "is copied", "")
	w.after(w.between(time.Second, time.Minute), func() {
		if w.closed || w.calm {
			return
		}
		w.shut()
		w.after(longest+w.between(time.Second, 20*time.Second), func() {
			w.data, w.renewed = data, true
			w.oracle.forget(before)
			w.note("world", "the database is the older copy", "")
			w.open()
		})
	})
}

// rest ends every process, for so long that much leaves the stream by its age.
func (w *world) rest() {
	if w.rested || w.closed {
		return
	}
	w.rested = true
	w.shut()
	d := w.between(5*time.Minute, 15*time.Minute)
	w.note("world", "everything is down", w.say("for %s", d))
	w.storm = w.storm.Add(d)
	w.after(d, w.open)
}

func (w *world) shut() {
	w.closed = true
	for _, r := range w.replicas {
		if r.now != nil {
			w.kill(r)
		}
	}
}

func (w *world) open() {
	w.closed = false
	for _, r := range w.replicas {
		w.start(r)
	}
}
