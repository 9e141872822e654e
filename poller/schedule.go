package poller

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Schedule tells when a job ticks. The zero Schedule never does; see ParseSchedule.
type Schedule struct {
	spec string
	next cron.Schedule
}

// epoch is where a schedule is tried out: any moment serves, and a fixed one
// gives every start of the program the same answer.
var epoch = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// ParseSchedule reads a cron spec: five fields, @hourly and the like, or @every
// with whole seconds, which ticks at the multiples of its period since 1970; in UTC
// unless CRON_TZ=Zone stands before it. It refuses what
// the library would get wrong: specs that can never fire, that make its parser
// panic, and @every periods that it would round.
func ParseSchedule(spec string) (schedule Schedule, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("cron spec %q: a time zone stands before five fields, as in %q", spec, "CRON_TZ=Europe/London 0 3 * * *")
		}
	}()
	spec = strings.TrimSpace(spec)
	if period, ok := strings.CutPrefix(spec, "@every "); ok {
		d, err := time.ParseDuration(strings.TrimSpace(period))
		if err != nil || d < time.Second || d%time.Second != 0 {
			return Schedule{}, fmt.Errorf("cron spec %q: @every takes a whole number of seconds, 1s or more, as in %q", spec, "@every 90s")
		}
		return Schedule{spec: spec, next: every(d)}, nil
	}
	parsed, err := cron.ParseStandard(spec)
	if err != nil {
		return Schedule{}, fmt.Errorf("cron spec %q: %w (allowed: five fields, @hourly, @daily, @every 90s, CRON_TZ=Zone before them)", spec, err)
	}
	if parsed.Next(epoch).IsZero() {
		return Schedule{}, fmt.Errorf("cron spec %q: never fires", spec)
	}
	return Schedule{spec: spec, next: parsed}, nil
}

// every ticks at the multiples of a period since 1970, in UTC. The library counts
// from the start of the process instead: then no two replicas would tick together,
// each restart would move the ticks, and a company that changes hands between two
// ticks would be asked twice.
type every time.Duration

// Next returns the first tick after t.
func (e every) Next(t time.Time) time.Time {
	period := time.Duration(e)
	tick := time.Unix(0, 0).Add(t.Sub(time.Unix(0, 0)).Truncate(period))
	return tick.Add(period)
}

// String returns the spec.
func (s Schedule) String() string { return s.spec }

// Next returns the first tick after t, in UTC.
func (s Schedule) Next(t time.Time) time.Time { return s.next.Next(t.UTC()).UTC() }

// Period returns the distance between the two ticks that follow now.
func (s Schedule) Period(now time.Time) time.Duration {
	first := s.Next(now)
	return s.Next(first).Sub(first)
}

// Missed reports whether a tick lay between last and now.
func (s Schedule) Missed(last, now time.Time) bool { return !s.Next(last).After(now) }
