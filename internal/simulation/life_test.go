package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
)

// patience is how long a system without faults may take to become sound. The
// longest waits are those for an audit of the stream, and for a server that has been
// purged to forget the ids of what it holds no more.
const patience = 10 * time.Minute

// live is the life of a world: storm, calm, end.
func (w *world) live() {
	w.dice = rand.New(rand.NewPCG(w.seed, 0))
	w.nudge = make(chan struct{}, 1)
	w.began = w.now()
	w.weather = w.forecast()
	w.storm = w.began.Add(w.weather.lasts)
	w.oracle = newOracle(w)
	w.broker = newBroker(w.now, []time.Duration{100 * time.Millisecond, 10 * time.Second, 2 * time.Minute}[w.dice.IntN(3)])
	w.broker.world, w.broker.clustered = w, w.chance(0.3)
	if w.chance(0.2) {
		w.broker.maxAge = w.between(10*time.Minute, 15*time.Minute) // the tenth that counts as gone is more than a minute
	}
	w.populate()
	w.found()
	for i := range w.weather.replicas {
		r := &replica{number: i + 1}
		w.replicas = append(w.replicas, r)
		w.after(w.between(0, 5*time.Second), func() { w.start(r) })
	}
	w.brew()
	w.run(&w.storm, nil)
	w.pacify()
	calm := w.now()
	end := calm.Add(patience)
	w.run(&end, w.sound)
	w.healed = w.now().Sub(calm)
	if w.complaint == "" && !w.sound() {
		w.complain("%s after the last fault: %s", patience, w.missing())
	}
	end = w.now().Add(20 * time.Second)
	w.run(&end, nil) // and so it stays
	w.end()
}

// found makes the database.
func (w *world) found() {
	var companies []string
	for _, b := range w.codat.companies {
		companies = append(companies, b.id)
	}
	w.data = newDatabase(w.now, fmt.Sprintf("%08x", w.dice.Uint32()), w.chance(0.5), 4, companies...)
	w.data.witness = w.oracle
}

// end lets every goroutine return.
func (w *world) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.processes {
		p.dead = true
		p.cancel()
	}
	w.answer(w.waiting, errDead)
	w.waiting = nil
}

func (w *world) sound() bool { return w.missing() == "" }

// missing says what a subscriber or a reader of the database would miss, the first
// of it; nothing when the system is sound.
func (w *world) missing() string {
	for _, b := range w.codat.companies {
		for _, o := range b.ops {
			if what := w.missingOf(b.id, o); what != "" {
				return what
			}
		}
	}
	if len(w.data.outbox) > 0 {
		return w.named(w.data.outbox[0].ID) + " is pending"
	}
	for v, at := range w.data.places {
		m, err := w.broker.get(publisher.Query{Sequence: at.sequence})
		aged := w.broker.maxAge > 0 && w.now().Sub(at.at) > w.broker.maxAge-2*time.Minute
		if !aged && (err != nil || m == nil || w.oracle.facts[m.ID].Version != v.number || nameOf(w.oracle.facts[m.ID]) != v.id) {
			return fmt.Sprintf("%s/%s v%d is recorded as message %d, which it is not", v.company, v.key, v.number, at.sequence)
		}
		if m != nil && !w.data.tells(v, m.Data) {
			return fmt.Sprintf("%s/%s v%d is recorded as message %d, which says %s", v.company, v.key, v.number, at.sequence, m.Data)
		}
	}
	return ""
}

// tells reports whether a version is what a message says.
func (d *database) tells(v version, data []byte) bool {
	return slices.ContainsFunc(d.companies[v.company].ops[v.key].history, func(e event.Event) bool {
		body, err := json.Marshal(e)
		return e.Version == v.number && err == nil && bytes.Equal(body, data)
	})
}

func (w *world) missingOf(company string, o *pushed) string {
	name, truth := company+"/"+o.op.Key, o.at(w.now())
	stored := w.data.companies[company].ops[o.op.Key]
	firstLook := w.oracle.first[w.data.instance+company]
	switch {
	case stored == nil:
		return name + " is unknown"
	case stored.Status != truth:
		return fmt.Sprintf("%s is %s, stored is %s", name, truth, stored.Status)
	case stored.known.DisputedStatus != "":
		return name + " is disputed"
	case stored.versions == 0 && o.made.After(firstLook.Add(uncertain+w.slept)):
		return name + " was never announced"
	}
	for _, e := range stored.history {
		if w.oracle.copies[e.ID] == 0 {
			return w.named(e.ID) + " is not in the stream"
		}
	}
	if ids := w.oracle.there[id{company, o.op.Key}]; len(ids) > 0 {
		last := w.oracle.facts[ids[len(ids)-1]]
		// An older copy of the database does not know what lost commits told; it hears of
		// that, and corrects it, with the operation's next change.
		unknown := w.copied && !slices.ContainsFunc(stored.history, func(e event.Event) bool { return e.ID == last.ID })
		if last.Status != truth && !unknown {
			return fmt.Sprintf("%s is %s, the stream says %s", name, truth, last.Status)
		}
	}
	return ""
}

// uncertain is how far a first look may lie from what Codat's clock, whose answers
// name the second, and a process's own make of it; where a machine slept, so much more.
const uncertain = 10 * time.Second
