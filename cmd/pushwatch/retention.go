package main

import (
	"context"
	"math/rand/v2"
	"time"
)

// retainPeriod is how often what has reached its age is removed. The first round
// comes soon after the start, at a random moment, so that replicas that start
// together do not read the same rows together.
const (
	retainPeriod = time.Hour
	retainFirst  = time.Minute
)

// retain removes what has reached its age, round by round, until ctx ends.
func (d *daemon) retain(ctx context.Context) error {
	timer := time.NewTimer(rand.N(retainFirst))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		d.retainOnce(ctx)
		timer.Reset(retainPeriod)
	}
}

func (d *daemon) retainOnce(ctx context.Context) {
	done, err := d.store.Retain(ctx, d.settings.retention)
	if done.Payloads+done.Records+done.Operations > 0 {
		d.settings.log.Info("retention has removed what reached its age", "bodies", done.Payloads,
			"quarantined_records", done.Records, "operations", done.Operations)
	}
	if err != nil && ctx.Err() == nil {
		d.settings.log.Warn("retention, trying again in an hour", "error", err)
	}
}
