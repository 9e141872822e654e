package push_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/push"
)

// row is a store of one operation, reduced to what the rule needs: it applies
// verdicts as the real one does and keeps the history.
type row struct {
	known   *push.Known
	history []edge
}

type edge struct {
	version  int
	from, to push.Status
	at       time.Time
}

func (r *row) look(s push.Sight) push.Verdict {
	verdict := push.Observe(r.known, s)
	if verdict.Transition() {
		e := edge{version: len(r.history) + 1, to: s.Status, at: s.LookedAt}
		if r.known != nil {
			e.from = r.known.Status
		}
		r.history = append(r.history, e)
	}
	switch verdict {
	case push.First, push.Changed, push.Same, push.Cleared:
		r.known = &push.Known{Status: s.Status, LookedAt: s.LookedAt}
	case push.Disputed:
		disputed := *r.known
		disputed.DisputedStatus, disputed.DisputedAt = s.Status, s.LookedAt
		r.known = &disputed
	case push.Undecided:
		if undecided := *r.known; s.LookedAt.After(undecided.DisputedAt) {
			undecided.UndecidedAt = s.LookedAt
			r.known = &undecided
		}
	}
	return verdict
}

func (r row) snapshot() push.Known {
	if r.known == nil {
		return push.Known{}
	}
	return *r.known
}

// looks draws a list of looks in any order, no two begun at the same instant.
func looks(t *rapid.T) []push.Sight {
	starts := rapid.SliceOfNDistinct(rapid.IntRange(0, 400), 1, 24, rapid.ID[int]).Draw(t, "starts")
	sights := make([]push.Sight, len(starts))
	for i, start := range starts {
		sights[i] = push.Sight{
			Status:   rapid.SampledFrom([]push.Status{"Pending", "Success", "Failed", "TimedOut", "Processing"}).Draw(t, "status"),
			LookedAt: time.Unix(int64(start), 0).UTC(),
			Source:   rapid.SampledFrom([]push.Source{push.FromList, push.FromGet}).Draw(t, "source"),
		}
	}
	return sights
}

func TestHistoryIsAnUnbrokenChainOfRealChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r row
		for _, s := range looks(t) {
			r.look(s)
		}
		for i, e := range r.history {
			if e.version != i+1 {
				t.Fatalf("version %d at place %d", e.version, i)
			}
			if i == 0 && e.from != "" {
				t.Fatalf("first version comes from %q", e.from)
			}
			if i > 0 && e.from != r.history[i-1].to {
				t.Fatalf("version %d comes from %q, but version %d went to %q", e.version, e.from, i, r.history[i-1].to)
			}
			if e.from == e.to {
				t.Fatalf("version %d changes nothing: %q", e.version, e.to)
			}
			if i > 0 && !e.at.After(r.history[i-1].at) {
				t.Fatalf("version %d was seen by a look begun at %s, not after version %d's at %s", e.version, e.at, i, r.history[i-1].at)
			}
		}
		if last := r.history[len(r.history)-1].to; last != r.known.Status {
			t.Fatalf("the row says %q, the history ends in %q", r.known.Status, last)
		}
	})
}

func TestReplayedLooksLeaveTheHistoryOfTheDeduplicatedOnes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		once := looks(t)
		// Insert copies of looks anywhere behind their originals.
		twice := slices.Clone(once)
		for range rapid.IntRange(1, 12).Draw(t, "copies") {
			i := rapid.IntRange(0, len(twice)-1).Draw(t, "original")
			j := rapid.IntRange(i+1, len(twice)).Draw(t, "place")
			twice = slices.Insert(twice, j, twice[i])
		}
		var a, b row
		for _, s := range once {
			a.look(s)
		}
		for _, s := range twice {
			b.look(s)
		}
		if !slices.Equal(a.history, b.history) || a.snapshot() != b.snapshot() {
			t.Fatalf("once %v gives %v %+v\ntwice %v gives %v %+v", once, a.history, a.snapshot(), twice, b.history, b.snapshot())
		}
	})
}

func TestStaleAndUndecidedLooksAreNoNews(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r row
		for _, s := range looks(t) {
			before, versions := r.snapshot(), len(r.history)
			verdict := r.look(s)
			older := versions > 0 && (s.LookedAt.Before(before.LookedAt) || s.LookedAt.Before(before.UndecidedAt))
			if older != (verdict == push.Stale) {
				t.Fatalf("look at %s on %+v: %s", s.LookedAt, before, verdict)
			}
			after := r.snapshot()
			if verdict == push.Undecided {
				after.UndecidedAt = before.UndecidedAt
			}
			if (verdict == push.Stale || verdict == push.Undecided) && (after != before || len(r.history) != versions) {
				t.Fatalf("%s changed the row from %+v to %+v", verdict, before, r.snapshot())
			}
			if r.snapshot().LookedAt.Before(before.LookedAt) {
				t.Fatalf("the row went back in time: %s to %s", before.LookedAt, r.snapshot().LookedAt)
			}
		}
	})
}

// A change away from a terminal status needs two looks that agree: one that
// raised the dispute and, later by its start, one that confirmed it.
func TestATerminalStatusNeverChangesAfterASingleReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r row
		var taken []push.Sight
		for _, s := range looks(t) {
			before := r.snapshot()
			verdict := r.look(s)
			if verdict == push.Changed && before.Status.Terminal() && !confirmed(taken, s) {
				t.Fatalf("%q became %q by the look %+v alone, after %+v", before.Status, s.Status, s, taken)
			}
			taken = append(taken, s)
		}
	})
}

func confirmed(earlier []push.Sight, last push.Sight) bool {
	return slices.ContainsFunc(earlier, func(s push.Sight) bool {
		apart := last.LookedAt.Sub(s.LookedAt)
		return s.Status == last.Status && apart > 0 && (last.Source == push.FromGet || apart >= 60*time.Second)
	})
}

// Where Codat never goes back, the order in which answers arrive does not
// matter: the row ends at the truth of the newest look, and no dispute arises.
func TestAnswersInAnyOrderEndAtTheTruthOfTheNewestLook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		finished := rapid.IntRange(0, 400).Draw(t, "finished")
		outcome := rapid.SampledFrom([]push.Status{push.Success, push.Failed, push.TimedOut}).Draw(t, "outcome")
		sights := looks(t)
		var r row
		var newest push.Sight
		for _, s := range sights {
			s.Status = push.Pending
			if s.LookedAt.Unix() >= int64(finished) {
				s.Status = outcome
			}
			if s.LookedAt.After(newest.LookedAt) || newest.Status == "" {
				newest = s
			}
			if verdict := r.look(s); verdict == push.Disputed {
				t.Fatalf("disputed by %+v: %+v", s, r.snapshot())
			}
		}
		if r.known.Status != newest.Status || len(r.history) > 2 {
			t.Fatalf("row %+v, history %v, newest look %+v", r.snapshot(), r.history, newest)
		}
	})
}
