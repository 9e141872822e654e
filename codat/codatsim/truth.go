package codatsim

import (
	"slices"
	"time"
)

// Truth is what an operation really is, whatever answers claimed.
type Truth struct {
	CompanyID    string    `json:"companyId"`
	ConnectionID string    `json:"connectionId"`
	Key          string    `json:"pushOperationKey"`
	DataType     string    `json:"dataType"` // empty: null in answers
	Status       string    `json:"status"`
	StatusCode   int       `json:"statusCode"`
	ErrorMessage *string   `json:"errorMessage"`
	RequestedOn  time.Time `json:"requestedOn"`          // in steps of 100 ns, as are all times
	CompletedOn  time.Time `json:"completedOn,omitzero"` // zero while there is none
	RemovedOn    time.Time `json:"removedOn,omitzero"`   // zero while the API shows it
	// Log holds every status that it took so far, the present one last.
	Log []Step `json:"log"`
}

// Truth returns every operation that the API shows at present or showed before
// it was removed, company by company in the order of the configuration, oldest
// first.
func (s *Sim) Truth() []Truth {
	_, line := s.now()
	truths := []Truth{}
	for _, c := range s.companies {
		truths = c.truth(line, truths)
	}
	return truths
}

func (c *company) truth(now time.Time, truths []Truth) []Truth {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(now)
	ops := slices.Clone(c.shown)
	for _, o := range c.gone {
		if !o.visible.After(o.removed) {
			ops = append(ops, o)
		}
	}
	slices.SortFunc(ops, older)
	truths = slices.Grow(truths, len(ops))
	for _, o := range ops {
		truths = append(truths, o.truth(c.ID, c.now))
	}
	return truths
}

func (o *operation) truth(companyID string, now time.Time) Truth {
	v := o.view(now)
	t := Truth{
		CompanyID: companyID, ConnectionID: o.connection, Key: o.key, DataType: o.dataType,
		Status: v.now.Status, StatusCode: statusCode(v.now.Status), ErrorMessage: v.errorMessage(),
		RequestedOn: o.requested, RemovedOn: o.removed,
		Log: slices.Clone(o.steps[:o.at(now)+1]),
	}
	if finished(v.now.Status) {
		t.CompletedOn = v.now.At
	}
	return t
}
