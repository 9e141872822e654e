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
// with whole seconds; in UTC unless CRON_TZ=Zone stands before it. It refuses what
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
