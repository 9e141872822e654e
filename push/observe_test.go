package push_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

// statuses holds two of every class: pending, certain outcome, uncertain
// outcome, unknown; and a second spelling of a documented one.
var statuses = []push.Status{"Pending", "pending", "Success", "SUCCESS", "Failed", "TimedOut", "Processing", "Cancelled"}

var terminal = map[push.Status]bool{"Success": true, "SUCCESS": true, "Failed": true, "TimedOut": true}

// wanted reads spec.md ("A transition", "Stale looks", "Disputes") a second
// time, as a list of statements. Exactly one must hold for every case; a
// statement names the verdict that it calls for.
func wanted(t *testing.T, known *push.Known, seen push.Sight) push.Verdict {
	t.Helper()
	if known == nil {
		return push.First
	}
	stale := known.LookedAt.Sub(seen.LookedAt) > 0 || known.UndecidedAt.Sub(seen.LookedAt) > 0
	disputed := known.DisputedStatus != ""
	age := seen.LookedAt.Sub(known.DisputedAt)
	second := disputed && (seen.Source == push.FromGet && age > 0 || seen.Source == push.FromList && age >= 60*time.Second)
	back := seen.Status == known.Status
	agrees := disputed && seen.Status == known.DisputedStatus

	statements := []struct {
		holds   bool
		verdict push.Verdict
	}{
		{stale, push.Stale},
		{!stale && !disputed && back, push.Same},
		{!stale && !disputed && !back && !terminal[known.Status], push.Changed},
		{!stale && !disputed && !back && terminal[known.Status], push.Disputed},
		{!stale && disputed && !second, push.Undecided},
		{!stale && disputed && second && back, push.Cleared},
		{!stale && disputed && second && agrees, push.Changed},
		{!stale && disputed && second && !back && !agrees, push.Disputed},
	}
	verdict, matched := push.Verdict(-1), 0
	for _, statement := range statements {
		if statement.holds {
			verdict = statement.verdict
			matched++
		}
	}
	require.Equal(t, 1, matched, "the specification must be a partition: %+v, %+v", known, seen)
	return verdict
}

func TestObserveAgreesWithTheSpecificationOverTheWholeProduct(t *testing.T) {
	written := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	// Where the look lies against the one that wrote the row, and where the
	// dispute does: at the edges and on both sides of each.
	sinceRow := []time.Duration{-time.Hour, -time.Microsecond, 0, time.Microsecond, 61 * time.Second, 24 * time.Hour}
	sinceDispute := []time.Duration{-time.Second, -time.Microsecond, 0, time.Microsecond, time.Second,
		59*time.Second + 999999*time.Microsecond, 60 * time.Second, 60*time.Second + time.Microsecond, time.Hour}
	sinceUndecided := []time.Duration{-time.Microsecond, 0, time.Microsecond}

	reached := map[push.Verdict]int{}
	check := func(known *push.Known, seen push.Sight) {
		want := wanted(t, known, seen)
		got := push.Observe(known, seen)
		require.Equal(t, want, got, "wanted %s, got %s: known %+v, seen %+v", want, got, known, seen)
		reached[got]++
	}
	for _, seenStatus := range statuses {
		for _, source := range []push.Source{push.FromList, push.FromGet} {
			check(nil, push.Sight{Status: seenStatus, LookedAt: written, Source: source})
			for _, stored := range statuses {
				for _, at := range sinceRow {
					seen := push.Sight{Status: seenStatus, LookedAt: written.Add(at), Source: source}
					check(&push.Known{Status: stored, LookedAt: written}, seen)
					if !terminal[stored] {
						continue // only a terminal status can be under dispute
					}
					for _, disputed := range statuses {
						if disputed == stored {
							continue
						}
						for _, age := range sinceDispute {
							known := push.Known{Status: stored, LookedAt: written,
								DisputedStatus: disputed, DisputedAt: seen.LookedAt.Add(-age)}
							check(&known, seen)
							for _, undecided := range sinceUndecided {
								known.UndecidedAt = seen.LookedAt.Add(-undecided)
								check(&known, seen)
							}
						}
					}
				}
			}
		}
	}
	for v := push.Stale; v <= push.Cleared; v++ {
		assert.Positive(t, reached[v], "the product reaches %s", v)
	}
}

func TestObserveDoesNotWriteToItsArgument(t *testing.T) {
	known := push.Known{Status: push.Success, LookedAt: time.Unix(100, 0), DisputedStatus: push.Pending, DisputedAt: time.Unix(200, 0)}
	before := known
	push.Observe(&known, push.Sight{Status: push.Pending, LookedAt: time.Unix(300, 0), Source: push.FromGet})
	assert.Equal(t, before, known)
}

// The cases that a newcomer asks about, spelt out.
func TestObserveStories(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0).UTC() }
	settled := push.Known{Status: push.Success, LookedAt: at(0)}
	disputed := push.Known{Status: push.Success, LookedAt: at(0), DisputedStatus: push.Pending, DisputedAt: at(10)}
	undecided := disputed
	undecided.UndecidedAt = at(69)
	for _, c := range []struct {
		name  string
		known *push.Known
		seen  push.Sight
		want  push.Verdict
	}{
		{"a first sight may be terminal", nil, push.Sight{Status: push.TimedOut, LookedAt: at(0)}, push.First},
		{"an unknown status is an ordinary change from Pending", &push.Known{Status: push.Pending, LookedAt: at(0)},
			push.Sight{Status: "Processing", LookedAt: at(1)}, push.Changed},
		{"an unknown status is left without a dispute", &push.Known{Status: "Processing", LookedAt: at(0)},
			push.Sight{Status: push.Pending, LookedAt: at(1)}, push.Changed},
		{"another spelling of Pending is a change", &push.Known{Status: push.Pending, LookedAt: at(0)},
			push.Sight{Status: "PENDING", LookedAt: at(1)}, push.Changed},
		{"another spelling of Success is a dispute", &settled, push.Sight{Status: "success", LookedAt: at(1)}, push.Disputed},
		{"Success to Pending is a dispute, also from a get", &settled,
			push.Sight{Status: push.Pending, LookedAt: at(1), Source: push.FromGet}, push.Disputed},
		{"a get of the same run settles it", &disputed,
			push.Sight{Status: push.Pending, LookedAt: at(11), Source: push.FromGet}, push.Changed},
		{"a get that shows the stored status clears it", &disputed,
			push.Sight{Status: push.Success, LookedAt: at(11), Source: push.FromGet}, push.Cleared},
		{"the very look that raised the dispute is no second reading", &disputed,
			push.Sight{Status: push.Pending, LookedAt: at(10), Source: push.FromGet}, push.Undecided},
		{"a list begun a second too early decides nothing", &disputed,
			push.Sight{Status: push.Pending, LookedAt: at(69), Source: push.FromList}, push.Undecided},
		{"a get begun before a list that decided nothing is too old to decide", &undecided,
			push.Sight{Status: push.Pending, LookedAt: at(68), Source: push.FromGet}, push.Stale},
		{"a get begun after it decides", &undecided,
			push.Sight{Status: push.Pending, LookedAt: at(70), Source: push.FromGet}, push.Changed},
		{"a list begun 60 seconds later decides", &disputed,
			push.Sight{Status: push.Pending, LookedAt: at(70), Source: push.FromList}, push.Changed},
		{"a third status starts the dispute anew", &disputed,
			push.Sight{Status: push.Failed, LookedAt: at(11), Source: push.FromGet}, push.Disputed},
		{"a look older than the row is stale even under dispute", &disputed,
			push.Sight{Status: push.Pending, LookedAt: at(-1), Source: push.FromGet}, push.Stale},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want.String(), push.Observe(c.known, c.seen).String())
		})
	}
}

func TestVerdict(t *testing.T) {
	names := map[push.Verdict]string{push.Stale: "stale", push.Same: "same", push.First: "first", push.Changed: "changed",
		push.Disputed: "disputed", push.Undecided: "undecided", push.Cleared: "cleared", -1: "invalid", push.Cleared + 1: "invalid"}
	for v, name := range names {
		assert.Equal(t, name, v.String())
		assert.Equal(t, v == push.First || v == push.Changed, v.Transition(), fmt.Sprintf("%s is a change of status", name))
	}
}
