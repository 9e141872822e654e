package codatsim

import (
	"fmt"
	"slices"
	"time"
)

// Operation is an operation that a test scripts. Only CompanyID is needed.
type Operation struct {
	CompanyID    string
	Key          string    // empty: a UUID is drawn
	ConnectionID string    // empty: the company's first connection
	DataType     string    // empty: null
	RequestedOn  time.Time // zero: now. Kept in steps of 100 ns, as are all times
	// VisibleAt is when the API begins to show it; zero: at RequestedOn.
	VisibleAt time.Time
	// Status is what it is from RequestedOn on, for good; empty: Pending.
	Status string
	// Steps are further statuses with their times, in order.
	Steps            []Step
	TimeoutInMinutes int    // 0: null
	ErrorMessage     string // replaces the drawn text where the status has one
}

// Add puts an operation into the timeline and returns its key. A key that the
// company has already, or steps that are not in order, are errors.
func (s *Sim) Add(op Operation) (key string, err error) {
	err = s.change(op.CompanyID, func(c *company, now time.Time) error {
		o, err := c.scripted(op, now)
		if err != nil {
			return fmt.Errorf("add operation to company %s: %w", c.ID, err)
		}
		key = o.key
		c.place(o)
		return nil
	})
	return key, err
}

// scripted builds the operation that op describes. The caller holds mu.
func (c *company) scripted(op Operation, now time.Time) (*operation, error) {
	c.scripts++
	seed := mix(c.sim.cfg.Seed, word("script"), c.name64, c.scripts)
	setDefault(&op.Key, uuid(dice(seed)))
	setDefault(&op.ConnectionID, c.connections[0].ID)
	setDefault(&op.Status, Pending)
	setDefault(&op.RequestedOn, now)
	setDefault(&op.VisibleAt, op.RequestedOn)
	o := &operation{
		seed:       seed,
		key:        op.Key,
		connection: op.ConnectionID,
		dataType:   op.DataType,
		timeout:    op.TimeoutInMinutes,
		message:    op.ErrorMessage,
		requested:  instant(op.RequestedOn),
		visible:    instant(op.VisibleAt),
	}
	o.steps = []Step{{o.requested, op.Status}}
	for _, step := range op.Steps {
		o.steps = append(o.steps, Step{instant(step.At), step.Status})
	}
	if !slices.IsSortedFunc(o.steps, func(a, b Step) int { return a.At.Compare(b.At) }) {
		return nil, fmt.Errorf("operation %s: its steps are not in order of time", o.key)
	}
	if _, taken := c.byKey[o.key]; taken {
		return nil, fmt.Errorf("operation %s is there already", o.key)
	}
	return o, nil
}

// place adds an operation to the timeline. The caller holds mu.
func (c *company) place(o *operation) {
	c.byKey[o.key] = o
	c.ahead = append(c.ahead, o)
	c.advance(c.now)
}

// Arrive lets n operations arrive at a company now, as if by chance: their lives
// follow the laws. It returns their keys.
func (s *Sim) Arrive(companyID string, n int) (keys []string, err error) {
	err = s.change(companyID, func(c *company, now time.Time) error {
		for range n {
			c.scripts++
			o := c.conceive(mix(c.sim.cfg.Seed, word("arrive"), c.name64, c.scripts), now)
			keys = append(keys, o.key)
			c.place(o)
		}
		return nil
	})
	return keys, err
}

// Set gives an operation one status after the other, all now, so that the last
// one holds; whatever was still ahead of it is called off.
func (s *Sim) Set(companyID, key string, statuses ...string) error {
	return s.change(companyID, func(c *company, now time.Time) error {
		o, ok := c.byKey[key]
		if !ok || !o.removed.IsZero() {
			return fmt.Errorf("operation %s of company %s: %w", key, companyID, ErrUnknown)
		}
		// A fresh slice: views of earlier looks keep theirs.
		steps := slices.Clone(o.steps[:o.at(now)+1])
		at := now
		if at.Before(o.requested) {
			at = o.requested
		}
		for _, status := range statuses {
			steps = append(steps, Step{at, status})
		}
		o.steps = steps
		return nil
	})
}

// Remove makes an operation vanish, as if its history had expired: lists skip it
// and getting it is a 404. The truth keeps it, with the time of its removal.
func (s *Sim) Remove(companyID, key string) error {
	return s.change(companyID, func(c *company, now time.Time) error {
		o, ok := c.byKey[key]
		if !ok || !o.removed.IsZero() {
			return fmt.Errorf("operation %s of company %s: %w", key, companyID, ErrUnknown)
		}
		o.removed = now
		same := func(other *operation) bool { return other == o }
		c.shown = slices.DeleteFunc(c.shown, same)
		c.ahead = slices.DeleteFunc(c.ahead, same)
		c.gone = append(c.gone, o)
		return nil
	})
}
