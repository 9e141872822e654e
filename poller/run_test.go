package poller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pushwatch/pushwatch/push"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const daily = "0 3 * * *"

// stage prepares a poller in a synctest bubble at 04:02:30, half a minute from any
// tick, with the company c that has missed nothing. Tracks tick every minute,
// discovers every five, sweeps at sweep.
func stage(t *testing.T, sweep string) *staged {
	time.Sleep(4*time.Hour + 2*time.Minute + 30*time.Second) // a bubble begins at midnight
	s := &staged{bench: newBench(t, 10), steps: map[step]int{}, changed: make(chan struct{})}
	s.codat.now = time.Now
	s.store.company = caughtUp("c")
	config := s.bench.poller.config
	config.Source, config.Assignments, config.Recorder, config.Now = s, s, s, time.Now
	config.OnEvents = func() { _ = s.step(context.Background(), step{call: "wake"}) }
	config.Logger = slog.New(slog.NewTextHandler(&s.log, nil))
	config.Metrics = NewMetrics()
	var err error
	config.Plan.Sweep, err = ParseSchedule(sweep)
	require.NoError(t, err)
	s.poller, err = New(config)
	require.NoError(t, err)
	return s
}

// caughtUp returns a company of which no tick was missed.
func caughtUp(id string) push.Company {
	now := time.Now()
	return push.Company{ID: id, FirstLookAt: now.Add(-72 * time.Hour), Answered: true, Baselined: true,
		DiscoveredAt: now.Add(-time.Second), SweepTickedAt: now.Add(-time.Second)}
}

func TestWhatWasMissedRunsOnceAtTheStart(t *testing.T) {
	const days = 72 * time.Hour
	for name, c := range map[string]struct {
		company func(*push.Company)
		lists   map[push.Purpose]int // before any tick
	}{
		"nothing was missed":                        {func(*push.Company) {}, map[push.Purpose]int{}},
		"the discover ticks of three days":          {func(c *push.Company) { c.DiscoveredAt = c.DiscoveredAt.Add(-days) }, map[push.Purpose]int{push.ForDiscover: 1}},
		"discover never ran to its end":             {func(c *push.Company) { c.DiscoveredAt = time.Time{} }, map[push.Purpose]int{push.ForDiscover: 1}},
		"the sweep ticks of three days":             {func(c *push.Company) { c.SweepTickedAt = c.SweepTickedAt.Add(-days) }, map[push.Purpose]int{push.ForSweep: 1}},
		"sweeps before the first look do not count": {func(c *push.Company) { c.FirstLookAt, c.SweepTickedAt = c.SweepTickedAt, time.Time{} }, map[push.Purpose]int{}},
		"the end of a sweep":                        {func(c *push.Company) { c.SweepOpen = true }, map[push.Purpose]int{push.ForSweep: 1}},
		"a first look that was cut short before an answer was kept": {func(c *push.Company) {
			*c = push.Company{ID: c.ID, FirstLookAt: c.FirstLookAt}
		}, map[push.Purpose]int{push.ForBaseline: 1}},
		"a first look that was cut short": {func(c *push.Company) {
			*c = push.Company{ID: c.ID, FirstLookAt: c.FirstLookAt, Answered: true}
		}, map[push.Purpose]int{push.ForBaseline: 1, push.ForDiscover: 1}},
		"everything: the company is new": {func(c *push.Company) { *c = push.Company{ID: c.ID} }, map[push.Purpose]int{push.ForBaseline: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stage(t, daily)
				c.company(&s.store.company)
				stop := s.run()
				time.Sleep(10 * time.Second)
				assert.Equal(t, 1, s.count(step{call: "due"}), "track")
				s.reassign() // looks for what was missed once more
				time.Sleep(10 * time.Second)
				stop()
				assert.Equal(t, c.lists, s.lists("c"))
			})
		})
	}
}

func TestACompanyThatIsAssignedLaterIsTakenUpBeforeTheNextTick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, daily)
		stop := s.run()
		time.Sleep(5 * time.Second)
		late := caughtUp("late")
		late.DiscoveredAt = late.DiscoveredAt.Add(-time.Hour)
		s.assign(late)
		time.Sleep(time.Second)
		stop()
		assert.Equal(t, map[push.Purpose]int{push.ForDiscover: 1}, s.lists("late"))
		assert.Empty(t, s.lists("c"), "the others have missed nothing")
	})
}

func TestAStartWithoutTheDatabaseIsMadeUpWhenItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, daily)
		s.store.company.DiscoveredAt = time.Time{}
		s.during(func(_ context.Context, at step) error {
			if at.call == "companies" {
				return errStaged
			}
			return nil
		})
		stop := s.run()
		time.Sleep(10 * time.Second)
		require.Empty(t, s.lists("c"))
		s.during(nil)
		time.Sleep(2 * lookAgain)
		stop()
		assert.Equal(t, map[push.Purpose]int{push.ForDiscover: 1}, s.lists("c"))
	})
}

func TestTicksComeAsScheduled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, "0 5 * * *")
		stop := s.run()
		time.Sleep(time.Hour)
		stop()
		assert.Equal(t, map[push.Purpose]int{push.ForDiscover: 12, push.ForSweep: 1}, s.lists("c"))
		assert.Equal(t, 1+60, s.count(step{call: "due"}), "track, once at the start")
	})
}

var errStaged = errors.New("staged failure")

func TestTenBadTicksInARowEndNothing(t *testing.T) {
	bad := map[string]func() error{
		"fails":  func() error { return errStaged },
		"panics": func() error { panic("staged panic") },
	}
	for call, c := range map[string]struct {
		bad  step
		jobs []job // that it hurts
	}{
		"naming the companies": {step{call: "companies"}, []job{discover, track, whole}},
		"naming what is due":   {step{call: "due"}, []job{track}},
		"beginning a walk":     {step{call: "open", company: "c"}, []job{discover, whole}},
		"discover's list":      {step{"list", "c", push.ForDiscover}, []job{discover}},
		"track's list":         {step{"list", "listed", push.ForTrack}, []job{track}},
		"track's get":          {step{"get", "c", push.ForTrack}, []job{track}},
		"sweep's list":         {step{"list", "c", push.ForSweep}, []job{whole}},
		"recording":            {step{call: "record", company: "c"}, []job{discover, track, whole}},
	} {
		for how, goWrong := range bad {
			t.Run(call+" "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := stage(t, "* * * * *")
					s.poller.plan.Load().Discover = s.poller.plan.Load().Track // every minute
					s.codat.arrive(1)
					s.store.others = []push.Company{caughtUp("good"), caughtUp("listed")}
					s.codat.getOther["k"] = push.Operation{CompanyID: "c", Key: "k", Status: push.Pending}
					s.store.due = []push.Due{{CompanyID: "c", Key: "k"}, {CompanyID: "good", Key: "k"}}
					for range listInstead {
						s.store.due = append(s.store.due, push.Due{CompanyID: "listed", Key: "k0000", OnFirstPage: true})
					}
					s.during(func(_ context.Context, at step) error {
						if at == c.bad {
							return goWrong()
						}
						return nil
					})
					stop := s.run()
					time.Sleep(10 * time.Minute)
					failed, ok := map[job]int{}, map[job]int{}
					for _, name := range c.jobs {
						failed[name] = s.runs(name, "failed") + s.runs(name, "panic")
						ok[name] = s.runs(name, "ok")
						assert.GreaterOrEqual(t, failed[name], 10, name)
					}
					if c.bad.company != "" {
						assert.Equal(t, map[push.Purpose]int{push.ForDiscover: 10, push.ForSweep: 10}, s.lists("good"), "another company is not hurt")
						assert.Equal(t, 11, s.count(step{"get", "good", push.ForTrack}), "nor here, where one run comes with the start")
					}

					s.during(nil)
					time.Sleep(time.Minute)
					for _, name := range c.jobs {
						assert.Greater(t, s.runs(name, "ok"), ok[name], "the next %s works", name)
						assert.Equal(t, failed[name], s.runs(name, "failed")+s.runs(name, "panic"), name)
					}
					stop()
					assert.Contains(t, s.log.String(), "staged")
				})
			})
		}
	}
}

// TestRunsAtAClosedGateAreSkippedWithoutAWord: the ledger tells once why nothing is
// asked. Any other trouble is told, also beside it.
func TestRunsAtAClosedGateAreSkippedWithoutAWord(t *testing.T) {
	closed := &push.AskError{Ask: push.Ask{Request: push.ListOperations, CompanyID: "c"}, Kind: push.KindQuota, Message: "the day's share is spent"}
	for name, c := range map[string]struct {
		list error
		want string
	}{
		"nothing may be asked":             {list: closed, want: "skipped"},
		"the key is refused":               {list: &push.AskError{Kind: push.KindUnauthorised, Status: 401}, want: "failed"},
		"another company meets an error":   {list: errors.Join(errStaged, closed), want: "failed"},
		"several requests were not sent":   {list: errors.Join(closed, closed), want: "skipped"},
		"the database fails beside it":     {list: errors.Join(closed, errStaged), want: "failed"},
		"a request that was not, in words": {list: fmt.Errorf("list page 1: %w", closed), want: "skipped"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stage(t, daily)
				s.during(func(_ context.Context, at step) error {
					if at.call == "list" {
						return c.list
					}
					return nil
				})
				stop := s.run()
				time.Sleep(time.Hour)
				stop()
				assert.Equal(t, 12, s.runs(discover, c.want))
				assert.Equal(t, c.want == "failed", strings.Contains(s.log.String(), "level=WARN"), s.log.String())
			})
		})
	}
}

func TestASlowCompanyIsSkippedNotQueuedAndHoldsUpNoOther(t *testing.T) {
	for name, slow := range map[job]step{
		discover: {"list", "slow", push.ForDiscover},
		track:    {"get", "slow", push.ForTrack},
		whole:    {"list", "slow", push.ForSweep},
	} {
		t.Run(string(name), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := stage(t, "* * * * *")
				s.poller.plan.Load().Discover = s.poller.plan.Load().Track // every minute
				s.store.others = []push.Company{caughtUp("slow")}
				s.codat.getOther["k"] = push.Operation{Key: "k", Status: push.Pending}
				s.store.due = []push.Due{{CompanyID: "slow", Key: "k"}, {CompanyID: "c", Key: "k"}}
				done := make(chan struct{})
				s.during(func(_ context.Context, at step) error {
					if at == slow {
						<-done
					}
					return nil
				})
				other := slow
				other.company = "c"
				stop := s.run()
				time.Sleep(time.Minute)
				before := s.count(other)
				time.Sleep(5 * time.Minute)
				assert.Equal(t, 1, s.count(slow), "asked once, and skipped at five ticks")
				assert.Equal(t, before+5, s.count(other), "the other is asked at every tick")
				close(done)
				synctest.Wait()
				assert.Equal(t, 1, s.count(slow), "nothing was queued")
				time.Sleep(time.Minute)
				assert.Equal(t, 2, s.count(slow), "the next tick asks again")
				stop()
			})
		})
	}
}

func TestASlowListDoesNotHoldUpTheHistoryOfANewCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stage(t, daily)
		slow := caughtUp("slow")
		slow.DiscoveredAt = time.Time{}
		s.store.company, s.store.others = push.Company{ID: "c"}, []push.Company{slow}
		s.during(func(ctx context.Context, at step) error {
			if at.call == "list" && at.company == "slow" {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		stop := s.run()
		time.Sleep(time.Second)
		s.store.mu.Lock()
		finished := slices.Clone(s.store.finished)
		s.store.mu.Unlock()
		assert.Equal(t, []push.WalkKind{push.WalkBaseline}, finished)
		stop()
	})
}

func TestRunReturnsWhenWhatItStartedHasEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ending = 3 * time.Second
		s := stage(t, "* * * * *")
		s.poller.plan.Load().Discover = s.poller.plan.Load().Track
		s.poller.slots[discover] = make(chan struct{}, 1) // so that one company waits for its turn
		s.store.others = []push.Company{caughtUp("d")}
		s.store.due = []push.Due{{CompanyID: "c", Key: "k"}, {CompanyID: "d", Key: "k"}}
		s.during(func(ctx context.Context, at step) error {
			if at.call == "list" || at.call == "get" {
				<-ctx.Done()
				time.Sleep(ending)
				return ctx.Err()
			}
			return nil
		})
		stop := s.run()
		time.Sleep(2 * time.Minute)
		began := time.Now()
		stop()
		require.Equal(t, ending, time.Since(began), "after its requests, and at once then")
		assert.Equal(t, 1, s.lists("c")[push.ForDiscover]+s.lists("d")[push.ForDiscover], "what waited for its turn is not begun")
		assert.NotContains(t, s.log.String(), "failed", "being told to stop is no failure")
		// That no goroutine is left is the bubble's own check.
	})
}
