package simulation

import (
	"time"

	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
)

// weather is what can go wrong in a run, and how often. Each seed draws its own:
// few faults at a time find more than all of them at once.
type weather struct {
	replicas int
	lasts    time.Duration // how long there are faults
	slow     float64       // of each way of a call
	before   float64       // calls that fail before their effect
	lost     float64       // answers that are lost
	late     float64       // effects that come when nobody waits any more
	troubles []trouble     // what else may happen
	every    time.Duration // about how often one of them does
	ahead    time.Duration // of Codat's clock
	unequal  time.Duration // clocks of new processes, at most

	refuses   float64 // gets answered with 503
	lags      float64 // lists that show finished operations as they were
	repeats   float64 // lists that show a row twice, once as it was
	unordered float64 // lists whose order is not what was asked for
	unread    float64 // lists with a record that cannot be read

	sweeps                 bool // there are any
	discover, track, sweep poller.Schedule
	audit                  time.Duration
	batch, flights         int // of the relay; 0: as it likes
	atomic                 publisher.Atomic
}

func (w *world) forecast() weather {
	rate := func(most float64) float64 {
		if w.chance(0.5) {
			return 0
		}
		return most * w.dice.Float64()
	}
	f := weather{
		replicas: 1 + w.dice.IntN(3), lasts: w.between(90*time.Second, 4*time.Minute),
		slow: rate(0.1), before: rate(0.1), lost: rate(0.1), late: rate(0.1),
		every: w.between(5*time.Second, 40*time.Second), ahead: w.between(-3*time.Second, 3*time.Second),
		refuses: rate(0.3), lags: rate(0.3), repeats: rate(0.2), unordered: rate(0.2), unread: rate(0.2),
		sweeps: w.chance(0.5), discover: schedule("@every 20s"), track: schedule("@every 10s"), sweep: schedule("@every 90s"),
		audit: w.between(30*time.Second, 5*time.Minute),
	}
	if w.chance(0.5) {
		f.atomic = publisher.AtomicAlways
	}
	if w.chance(0.5) {
		f.unequal = 2 * time.Second
	}
	if w.chance(0.7) {
		f.batch, f.flights = 1+w.dice.IntN(3), 1+w.dice.IntN(4)
	}
	if !f.sweeps {
		f.unread = 0 // what is quarantined once is read again by a sweep
	}
	for _, t := range troubles {
		if w.chance(0.25) {
			f.troubles = append(f.troubles, t)
		}
	}
	return f
}

func schedule(spec string) poller.Schedule {
	s, err := poller.ParseSchedule(spec)
	if err != nil {
		panic(err)
	}
	return s
}

// brew plans the next trouble.
func (w *world) brew() {
	if len(w.weather.troubles) == 0 {
		return
	}
	w.after(w.between(w.weather.every/2, w.weather.every*2), func() {
		if w.calm {
			return
		}
		w.weather.troubles[w.dice.IntN(len(w.weather.troubles))].strike(w)
		w.brew()
	})
}

// pacify ends all faults.
func (w *world) pacify() {
	w.note("world", "there are no more faults", "")
	w.calm = true
	f := &w.weather
	f.slow, f.before, f.lost, f.late, f.refuses, f.lags, f.repeats, f.unordered, f.unread = 0, 0, 0, 0, 0, 0, 0, 0, 0
	w.broker.limit = 0
	for _, r := range w.replicas {
		if r.now != nil {
			clear(r.now.cut)
			r.now.pausedUntil = time.Time{}
		}
	}
}
