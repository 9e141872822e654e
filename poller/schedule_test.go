package poller

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSchedulesThatWouldGoWrongAreRefused(t *testing.T) {
	for spec, says := range map[string]string{
		"0 0 30 2 *":                "never fires",
		"TZ=0":                      "time zone stands before five fields",
		"CRON_TZ=UTC":               "time zone stands before five fields",
		"@every 500ms":              "whole number of seconds",
		"@every 1500ms":             "whole number of seconds",
		"@every 0s":                 "whole number of seconds",
		"@every -5s":                "whole number of seconds",
		"@every soon":               "whole number of seconds",
		"":                          "empty spec",
		"* * * *":                   "5 fields",
		"61 * * * *":                "above maximum",
		"CRON_TZ=Nowhere * * * * *": "provided bad location",
	} {
		_, err := ParseSchedule(spec)
		require.Error(t, err, spec)
		assert.Contains(t, err.Error(), says, spec)
		assert.Contains(t, err.Error(), "cron spec")
	}
}

func TestSchedulesTickInUTCUnlessTheySayOtherwise(t *testing.T) {
	noon := time.Date(2026, 7, 1, 12, 0, 0, 0, time.FixedZone("elsewhere", 5*3600)) // 07:00 UTC
	daily, err := ParseSchedule("0 3 * * *")
	require.NoError(t, err)
	assert.Equal(t, time.Date(2026, 7, 2, 3, 0, 0, 0, time.UTC), daily.Next(noon))
	assert.Equal(t, 24*time.Hour, daily.Period(noon))
	zoned, err := ParseSchedule("CRON_TZ=America/New_York 0 3 * * *")
	require.NoError(t, err)
	assert.Equal(t, time.Date(2026, 7, 2, 7, 0, 0, 0, time.UTC), zoned.Next(noon))
	leap, err := ParseSchedule("0 0 29 2 *")
	require.NoError(t, err)
	assert.Equal(t, time.Date(2028, 2, 29, 0, 0, 0, 0, time.UTC), leap.Next(noon))
}

func TestATickIsMissedWhenItLayBetween(t *testing.T) {
	every, err := ParseSchedule("*/5 * * * *")
	require.NoError(t, err)
	at := func(minute, second int) time.Time { return time.Date(2026, 1, 1, 0, minute, second, 0, time.UTC) }
	assert.False(t, every.Missed(at(1, 0), at(4, 59)))
	assert.True(t, every.Missed(at(1, 0), at(5, 0)))
	assert.False(t, every.Missed(at(5, 0), at(5, 1)), "a look at the tick itself was that tick's")
}

func FuzzParseSchedule(f *testing.F) {
	for _, seed := range []string{"* * * * *", "TZ=0", "CRON_TZ=UTC", "@every 1s", "@every", "@daily", "0 0 30 2 *", "TZ= * * * * *"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, spec string) {
		s, err := ParseSchedule(spec)
		if err != nil {
			return
		}
		if next := s.Next(epoch); !next.After(epoch) {
			t.Fatalf("%q: next tick after %s is %s", spec, epoch, next)
		}
	})
}

func TestEveryTicksAtTheSameMomentsInEveryProcess(t *testing.T) {
	schedule, err := ParseSchedule("@every 90s")
	require.NoError(t, err)
	midnight := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, from := range map[string]time.Time{
		"at a tick":                midnight,
		"a moment after it":        midnight.Add(time.Nanosecond),
		"a moment before the next": midnight.Add(90*time.Second - time.Nanosecond),
		"in another zone":          midnight.Add(30 * time.Second).In(time.FixedZone("", 3600)),
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, midnight.Add(90*time.Second), schedule.Next(from))
		})
	}
}
