package simulation

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

// replica is a place where one pushwatch runs at a time.
type replica struct {
	number int
	starts int
	now    *process // nil between two
}

// process is one pushwatch: the real poller, quota ledger and relay, wired as the
// daemon wires them. Its loops, which only keep time, are the world's.
type process struct {
	world  *world
	name   string
	data   *database
	poller *poller.Poller
	relay  *publisher.Relay
	ledger *poller.Ledger

	forever context.Context // of the world
	ctx     context.Context // until the process ends or is told to
	cancel  context.CancelFunc
	group   sync.WaitGroup

	dead        bool // protected by world.mu
	pausedUntil time.Time
	cut         map[party]time.Time // until when a party cannot be reached

	mu         sync.Mutex // protects all below
	busy       map[string]int
	woken      bool
	reconnects uint64
	clock      clock
	held       map[string]push.Fence
	renewed    time.Time // by the process's own clock
}

const (
	leaseTerm    = 15 * time.Second
	leaseTrusted = 10 * time.Second // by its holder, by its own clock
	statement    = 5 * time.Second  // how long one may take
)

// clock is what a process knows of the time: its own, which stands still while the
// machine sleeps, and the database's offset as it was last measured.
type clock struct {
	slept          time.Duration
	anchor, origin time.Time
	last           time.Time
}

func (c *clock) local() time.Time { return time.Now().Add(-c.slept) }

func (p *process) local() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock.local()
}

// now is pushwatch's clock: it never runs backwards.
func (p *process) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.clock
	if now := push.Time(c.origin.Add(c.local().Sub(c.anchor))); now.After(c.last) {
		c.last = now
	}
	return c.last
}

// start runs a pushwatch on a replica.
func (w *world) start(r *replica) {
	if r.now != nil || w.closed {
		return
	}
	r.starts++
	p := &process{world: w, name: "r" + strconv.Itoa(r.number) + "." + strconv.Itoa(r.starts), data: w.data,
		forever: context.Background(), cut: map[party]time.Time{}, busy: map[string]int{}}
	p.ctx, p.cancel = context.WithCancel(p.forever)
	p.clock.anchor, p.clock.origin = p.clock.local(), w.now()
	if w.weather.unequal > 0 {
		p.clock.origin = w.now().Add(w.between(-w.weather.unequal, w.weather.unequal))
	}
	p.wire()
	r.now, w.processes = p, append(w.processes, p)
	w.note(p.name, "starts", "")
	p.group.Go(func() { p.lease(as(p.ctx, actor{p.name + " leases", ""})) })
	p.group.Go(func() { p.publish(as(p.ctx, actor{p.name + " relay", ""})) })
	p.tick("discover", w.weather.discover, p.poller.Discover)
	p.tick("track", w.weather.track, p.poller.Track)
	if w.weather.sweeps {
		p.tick("sweep", w.weather.sweep, p.poller.Sweep)
	}
}

func (p *process) wire() {
	w, quiet := p.world, slog.New(slog.DiscardHandler)
	p.ledger = poller.NewLedger(p, func() (float64, int) { return 0.5, len(w.codat.companies) }, quiet)
	var err error
	p.poller, err = poller.New(poller.Config{Source: &source{p}, Assignments: p, Recorder: p, Now: p.now, OnEvents: p.wake, Logger: quiet,
		Plan: poller.Plan{Discover: w.weather.discover, Track: w.weather.track, Sweep: w.weather.sweep, PageSize: w.codat.pageSize}})
	if err != nil {
		panic(err)
	}
	o := &outbox{p}
	p.relay, err = publisher.New(publisher.Config{Stream: &stream{p}, Outbox: o, Archive: o, Heirs: o, Instance: p.data.instance,
		Audit: w.weather.audit, Now: p.now, AckTimeout: ackPatience, Batch: w.weather.batch, Flights: w.weather.flights, Atomic: w.weather.atomic})
	if err != nil {
		panic(err)
	}
}

// tick runs a job at the ticks of its schedule, whether its last run has ended or not.
func (p *process) tick(job string, schedule poller.Schedule, run func(context.Context) (poller.Result, error)) {
	w, n := p.world, 0
	var next func()
	next = func() {
		if p.over() {
			return
		}
		w.after(schedule.Next(w.now()).Sub(w.now())+w.between(0, 50*time.Millisecond), next)
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.busy[job] == 3 {
			return // another one would skip what is at work, like these
		}
		p.busy[job]++
		n++
		ctx := as(p.ctx, actor{p.name + " " + job + strconv.Itoa(n), ""})
		p.group.Go(func() {
			_, _ = run(ctx)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.busy[job]--
		})
	}
	w.after(w.between(0, 2*time.Second), next)
}

// over reports whether the process has ended or is about to.
func (p *process) over() bool {
	p.world.mu.Lock()
	defer p.world.mu.Unlock()
	return p.dead || p.ctx.Err() != nil
}

// publish is the relay's loop.
func (p *process) publish(ctx context.Context) {
	for ctx.Err() == nil {
		_, _ = p.relay.RunOnce(ctx)
		if p.rest(ctx, relayRests) != nil {
			return
		}
	}
}

func (p *process) wake() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.woken = true
}

func (p *process) takeWake() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.woken
	p.woken = false
	return was
}

// lease is the loop that renews leases and measures the clock.
func (p *process) lease(ctx context.Context) {
	for ctx.Err() == nil {
		p.renew(ctx)
		p.measure(ctx)
		if p.rest(ctx, leasesRest) != nil {
			return
		}
	}
}

// renew leaves what is held as it was when it fails.
func (p *process) renew(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	started := p.local()
	var held map[string]push.Fence
	err := p.ask(ctx, toDatabase, "are renewed", func() string {
		held = p.data.renew(p.name, p.world.leases())
		return p.world.tellLeases(held)
	})
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held, p.renewed = held, started
}

// measure takes the database's answer to belong to the middle of the round trip.
func (p *process) measure(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statement)
	defer cancel()
	before := p.local()
	var there time.Time
	if p.ask(ctx, toDatabase, "ask the time", func() string { there = p.data.now(); return "" }) != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clock.anchor, p.clock.origin = before.Add(p.clock.local().Sub(before)/2), there
}

// fences returns the leases among names that the process may act on now.
func (p *process) fences(names ...string) []push.Fence {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clock.local().Sub(p.renewed) > leaseTrusted {
		return nil
	}
	var fences []push.Fence
	for _, name := range names {
		if f, ok := p.held[name]; ok {
			fences = append(fences, f)
		}
	}
	return fences
}
