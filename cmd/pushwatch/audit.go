package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
)

// auditAgainst compares the truth (status by operation) with the database and the
// stream.
func (d *daemon) auditAgainst(ctx context.Context, truth map[audit.Operation]string) (audit.Report, error) {
	a := audit.New()
	for op, status := range truth {
		a.Truth(op, status)
	}
	err := d.store.EachOperation(ctx, func(o store.Stored) error {
		a.Stored(audit.Operation{CompanyID: o.CompanyID, Key: o.Key}, string(o.Status))
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = d.store.EachTransition(ctx, func(t store.Transition) error {
		a.Transition(t.EventID)
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = publisher.ReadAll(ctx, d.nats, d.settings.stream.Name, func(m publisher.StoredMessage) error {
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			return fmt.Errorf("message %d of the stream: %w", m.Sequence, err)
		}
		a.Message(audit.Operation{CompanyID: e.CompanyID, Key: e.PushOperationKey}, e.Version, m.ID)
		return nil
	})
	return a.Report(), err
}
