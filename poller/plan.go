package poller

import (
	"errors"
	"fmt"
)

// Plan says when a poller looks, and how much at once.
type Plan struct {
	Discover Schedule // when companies are listed
	Track    Schedule // when unfinished operations are followed
	Sweep    Schedule // when whole histories are walked
	PageSize int      // of discover, 1 to 5000; 0: 100
}

// Replan replaces the plan, also while the poller runs: looks under way go on as
// they are, and a tick that the new schedules have missed is made up at once. A
// plan that cannot be kept is refused, and the old one stays.
func (p *Poller) Replan(plan Plan) error {
	if plan.PageSize == 0 {
		plan.PageSize = 100
	}
	switch {
	case plan.PageSize < 1 || plan.PageSize > largestPage:
		return fmt.Errorf("poller: page size %d: allowed are 1 to %d", plan.PageSize, largestPage)
	case plan.Discover.next == nil || plan.Track.next == nil || plan.Sweep.next == nil:
		return errors.New("poller: the schedules of discover, track and sweep are needed")
	}
	p.plan.Store(&plan)
	select {
	case p.replanned <- struct{}{}:
	default: // Run has yet to see the last one, and will see this one with it
	}
	return nil
}
