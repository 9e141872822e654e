package codatsim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// The statuses that Codat documents, and two that it does not.
const (
	Pending  = "Pending"
	Success  = "Success"
	Failed   = "Failed"
	TimedOut = "TimedOut"

	Processing = "Processing" // named by a third-party client
	Cancelled  = "Cancelled"  // invented: some day there will be another
)

// Step is one status of an operation and when it took it.
type Step struct {
	At     time.Time `json:"at"`
	Status string    `json:"status"`
}

// Law says how operations fare on one accounting platform. Every company has one
// connection per law. The shares of outcomes are between 0 and 1.
type Law struct {
	Platform string
	Share    float64 // weight of this law among a company's operations

	// Median and Sigma shape the lognormal time from request to completion.
	Median time.Duration
	Sigma  float64

	Never      float64 // share that stays Pending for ever, unless a timeout ends it
	Timeout    float64 // share pushed with a timeout of 30, 60 or 240 minutes
	Failed     float64 // share of the finished ones that fail
	Cancelled  float64 // share of the finished ones that end in an undocumented status
	Processing float64 // share that passes through another undocumented status
}

// DefaultLaws returns three platforms: one that finishes in seconds and has most
// of the operations, one that takes a minute or two, and desktop software that
// finishes after hours or never, often with a timeout.
func DefaultLaws() []Law {
	return []Law{
		{Platform: "Xero", Share: 0.82, Median: 4 * time.Second, Sigma: 0.7, Failed: 0.08},
		{Platform: "Oracle NetSuite", Share: 0.14, Median: 75 * time.Second, Sigma: 0.8, Failed: 0.12},
		{Platform: "QuickBooks Desktop", Share: 0.04, Median: 3 * time.Hour, Sigma: 1.5, Failed: 0.1, Never: 0.35, Timeout: 0.4},
	}
}

func (l Law) validate() error {
	if !(l.Share > 0) || l.Median <= 0 || l.Sigma < 0 {
		return fmt.Errorf("law of %q: share and median must be positive and sigma not negative", l.Platform)
	}
	for _, share := range []float64{l.Never, l.Timeout, l.Failed, l.Cancelled, l.Processing} {
		if !(share >= 0 && share <= 1) {
			return fmt.Errorf("law of %q: a share of %v is not between 0 and 1", l.Platform, share)
		}
	}
	return nil
}

// plan draws the life of an operation: its steps and its timeout in minutes, 0
// for none. Durations, timeouts included, are divided by speed.
func (l Law) plan(d *rand.Rand, requested time.Time, speed float64) (steps []Step, timeout int) {
	after := func(taken time.Duration) time.Time {
		return instant(requested.Add(time.Duration(float64(taken) / speed)))
	}
	taken := time.Duration(float64(l.Median) * math.Exp(l.Sigma*d.NormFloat64()))
	never := d.Float64() < l.Never
	if d.Float64() < l.Timeout {
		timeout = [...]int{30, 60, 240}[d.IntN(3)]
	}
	steps = []Step{{requested, Pending}}
	if d.Float64() < l.Processing {
		steps = append(steps, Step{after(min(taken, time.Minute) / 3), Processing})
	}
	limit := time.Duration(timeout) * time.Minute
	switch {
	case timeout > 0 && (never || taken > limit):
		steps = append(steps, Step{after(limit), TimedOut})
	case !never:
		steps = append(steps, Step{after(taken), l.outcome(d)})
	}
	return steps, timeout
}

func (l Law) outcome(d *rand.Rand) string {
	switch luck := d.Float64(); {
	case luck < l.Failed:
		return Failed
	case luck < l.Failed+l.Cancelled:
		return Cancelled
	}
	return Success
}

// finished reports whether an operation with this status has a completion time.
func finished(status string) bool {
	switch status {
	case Success, Failed, TimedOut, Cancelled:
		return true
	}
	return false
}

// instant is a time as the simulator keeps it: UTC, in the steps of 100 ns that
// Codat's dates can tell.
func instant(t time.Time) time.Time { return t.UTC().Truncate(100 * time.Nanosecond) }
