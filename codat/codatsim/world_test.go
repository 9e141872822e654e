package codatsim

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestEqualSeedsAndClocksGiveEqualBytes(t *testing.T) {
	play := func(seed uint64) []string {
		sim, clock := world(t, Config{
			Seed: seed, Companies: MakeCompanies(seed, 3), Rate: 20, History: 150,
			Faults: []Rule{
				{Fault: ServerError, Chance: 0.1}, {Fault: NullItem, Chance: 0.3}, {Fault: StaleRow, Chance: 0.5},
				{Fault: TwoStatuses, Chance: 0.3}, {Fault: Shift, Chance: 0.2, N: 2}, Always(MixedDates),
			},
		})
		var answers []string
		for range 20 {
			for _, c := range sim.companies {
				w := knock(sim, "/companies/"+c.ID+"/push?page=2&pageSize=40&"+newest)
				answers = append(answers, fmt.Sprint(w.Code, w.Header(), w.Body))
			}
			clock.pass(7 * time.Second)
		}
		return append(answers, string(encode(sim.Truth())))
	}
	assert.Equal(t, play(1), play(1))
	assert.NotEqual(t, play(1), play(2))
}

func TestASimulatorStartedAgainGoesOnWithTheSameOperations(t *testing.T) {
	first, clock := world(t, Config{Seed: 4, Rate: 10, History: 100})
	clock.pass(20 * time.Minute)
	before := first.Truth()
	second, err := New(Config{Seed: 4, Companies: first.cfg.Companies, Rate: 10, History: 200, Now: clock.now})
	require.NoError(t, err)
	after := second.Truth()
	require.Len(t, after, 200)
	require.Greater(t, len(before), 250)
	assert.Equal(t, before[len(before)-200:], after, "the newest operations of the first life")
}

func TestCompaniesDependOnTheSeedAlone(t *testing.T) {
	few, many := MakeCompanies(7, 3), MakeCompanies(7, 100)
	assert.Equal(t, few, many[:3])
	assert.NotEqual(t, few, MakeCompanies(8, 3))
	distinct := map[string]bool{}
	for _, c := range many {
		assert.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, c.ID)
		assert.NotEmpty(t, c.Name)
		distinct[c.ID] = true
	}
	assert.Len(t, distinct, 100)
}

func TestOperationsArriveAtTheRateAndFareAsTheLawsSay(t *testing.T) {
	sim, clock := world(t, Config{Seed: 3, Companies: MakeCompanies(3, 4), Rate: 30, Speed: 2})
	assert.Empty(t, sim.Truth(), "no history was asked for")
	clock.pass(10 * time.Minute)
	truth := sim.Truth()
	assert.InDelta(t, 4*30*10, len(truth), 150)
	count, byCompany := map[string]int{}, map[string]int{}
	for _, op := range truth {
		count[op.Status]++
		byCompany[op.CompanyID]++
		assert.False(t, op.RequestedOn.After(clock.now()))
	}
	assert.Greater(t, byCompany[sim.companies[0].ID], byCompany[sim.companies[3].ID])
	assert.Greater(t, count[Success], len(truth)*3/4)
	assert.Greater(t, count[Failed], len(truth)/25)
	assert.Greater(t, count[Pending], 0)
	clock.pass(1000 * time.Hour)
	sim.Freeze() // which spares us working out 1000 hours of arrivals in each call
	never := 0
	for _, op := range sim.companies[0].shown[:100] {
		if last := op.steps[len(op.steps)-1]; last.Status == Pending {
			never++
		}
	}
	assert.Less(t, never, 10, "some stay Pending for ever, most do not")
}

func TestLawsCanEndInEveryWay(t *testing.T) {
	certain := Law{Platform: "P", Share: 1, Median: time.Second, Sigma: 0}
	change := func(f func(*Law)) Law { law := certain; f(&law); return law }
	for name, c := range map[string]struct {
		law  Law
		want []string
	}{
		"success":                  {certain, []string{Pending, Success}},
		"failure":                  {change(func(l *Law) { l.Failed = 1 }), []string{Pending, Failed}},
		"an undocumented end":      {change(func(l *Law) { l.Cancelled = 1 }), []string{Pending, Cancelled}},
		"an undocumented way":      {change(func(l *Law) { l.Processing = 1 }), []string{Pending, Processing, Success}},
		"never":                    {change(func(l *Law) { l.Never = 1 }), []string{Pending}},
		"never, with a timeout":    {change(func(l *Law) { l.Never, l.Timeout = 1, 1 }), []string{Pending, TimedOut}},
		"later than the timeout":   {change(func(l *Law) { l.Median, l.Timeout = 5*time.Hour, 1 }), []string{Pending, TimedOut}},
		"earlier than the timeout": {change(func(l *Law) { l.Timeout = 1 }), []string{Pending, Success}},
	} {
		t.Run(name, func(t *testing.T) {
			sim, clock := world(t, Config{Laws: []Law{c.law}})
			key, err := sim.Arrive(sim.companies[0].ID, 1)
			require.NoError(t, err)
			clock.pass(24 * time.Hour)
			truth := sim.Truth()
			require.Len(t, truth, 1)
			assert.Equal(t, key[0], truth[0].Key)
			var got []string
			for _, step := range truth[0].Log {
				got = append(got, step.Status)
			}
			assert.Equal(t, c.want, got)
		})
	}
}

func TestTheLogIsWhatWasServedAtEachTime(t *testing.T) {
	sim, clock := world(t, Config{Seed: 9, Rate: 60, History: 30, Speed: 2,
		Laws: append(DefaultLaws(), Law{Platform: "Odd", Share: 0.5, Median: 9 * time.Second, Cancelled: 0.5, Processing: 0.5})})
	type sight struct {
		at     time.Time
		key    string
		status string
	}
	var sights []sight
	for range 90 {
		for _, r := range readPage(t, knock(sim, pushPath(sim)+"?pageSize=5000").Body.Bytes()).rows(t) {
			sights = append(sights, sight{clock.now(), r.Key, r.Status})
		}
		clock.pass(time.Second)
	}
	logs := map[string][]Step{}
	for _, op := range sim.Truth() {
		logs[op.Key] = op.Log
		assert.Equal(t, op.Log[len(op.Log)-1].Status, op.Status)
		assert.Equal(t, op.RequestedOn, op.Log[0].At)
	}
	moved := 0
	for _, s := range sights {
		log := logs[s.key]
		last := len(log) - 1
		for last > 0 && log[last].At.After(s.at) {
			last--
		}
		require.Equal(t, log[last].Status, s.status, "%s at %s: %v", s.key, s.at, log)
		if last > 0 {
			moved++
		}
	}
	assert.Greater(t, moved, 500, "statuses moved while they were watched")
}

func TestFreezeStopsEverything(t *testing.T) {
	sim, clock := world(t, Config{Seed: 5, Rate: 60, History: 20})
	company := sim.companies[0].ID
	clock.pass(30 * time.Second)
	key := sim.Truth()[0].Key
	at := sim.Freeze()
	truth := sim.Truth()
	assert.Equal(t, clock.now(), at)
	clock.pass(time.Hour)

	assert.Equal(t, at, sim.Freeze(), "freezing again changes nothing")
	assert.Equal(t, truth, sim.Truth())
	_, err := sim.Add(Operation{CompanyID: company})
	require.ErrorIs(t, err, ErrFrozen)
	_, err = sim.Arrive(company, 1)
	require.ErrorIs(t, err, ErrFrozen)
	require.ErrorIs(t, sim.Set(company, key, Failed), ErrFrozen)
	require.ErrorIs(t, sim.Remove(company, key), ErrFrozen)

	require.NoError(t, sim.SetFaults(Rule{Fault: Shift, N: 3}))
	w := knock(sim, pushPath(sim)+"?pageSize=5000")
	assert.Len(t, readPage(t, w.Body.Bytes()).Results, len(truth))
	assert.Equal(t, truth, sim.Truth(), "a frozen timeline has no arrivals")
	assert.Equal(t, "Tue, 17 Mar 2026 13:00:30 GMT", w.Header().Get("Date"), "the time of day goes on")
}

func TestScriptedOperationsDoWhatTheScriptSays(t *testing.T) {
	sim, clock := world(t, Config{})
	company := sim.companies[0].ID
	key, err := sim.Add(Operation{
		CompanyID: company, Key: "K1", DataType: "bills", TimeoutInMinutes: 30, ErrorMessage: "the supplier is asleep",
		RequestedOn: noon.Add(-time.Hour), VisibleAt: noon.Add(time.Minute),
		Steps: []Step{{noon.Add(2 * time.Minute), Failed}},
	})
	require.NoError(t, err)
	assert.Equal(t, "K1", key)

	assert.Equal(t, 404, knock(sim, pushPath(sim)+"/K1").Code, "not visible yet")
	assert.Empty(t, sim.Truth())
	clock.pass(time.Minute)
	w := knock(sim, pushPath(sim)+"/K1")
	assert.Contains(t, w.Body.String(), `"status":"Pending"`)
	assert.Contains(t, w.Body.String(), `"timeoutInMinutes":30,"timeoutInSeconds":1800`)
	clock.pass(time.Minute)
	w = knock(sim, pushPath(sim)+"/K1")
	assert.Contains(t, w.Body.String(), `"errorMessage":"the supplier is asleep"`)
	assert.Contains(t, w.Body.String(), `"completedOnUtc":"2026-03-17T12:02:00Z"`)

	clock.pass(time.Second)
	require.NoError(t, sim.Set(company, "K1", Pending, Success))
	truth := sim.Truth()[0]
	assert.Equal(t, Success, truth.Status)
	assert.Equal(t, []Step{
		{noon.Add(-time.Hour), Pending}, {noon.Add(2 * time.Minute), Failed},
		{noon.Add(121 * time.Second), Pending}, {noon.Add(121 * time.Second), Success},
	}, truth.Log)

	require.NoError(t, sim.Remove(company, "K1"))
	assert.Equal(t, 404, knock(sim, pushPath(sim)+"/K1").Code)
	assert.Empty(t, readPage(t, knock(sim, pushPath(sim)).Body.Bytes()).Results)
	assert.Equal(t, clock.now(), sim.Truth()[0].RemovedOn, "the truth forgets nothing")
}

func TestSetCallsOffWhatWasPlanned(t *testing.T) {
	sim, clock := world(t, Config{Laws: []Law{{Platform: "P", Share: 1, Median: time.Minute}}})
	company := sim.companies[0].ID
	got, err := sim.Arrive(company, 1)
	require.NoError(t, err)
	require.NoError(t, sim.Set(company, got[0], Processing))
	clock.pass(time.Hour)
	assert.Equal(t, []Step{{noon, Pending}, {noon, Processing}}, sim.Truth()[0].Log)
}

func TestScriptsThatMakeNoSenseAreRefused(t *testing.T) {
	sim, _ := world(t, Config{})
	company := sim.companies[0].ID
	_, err := sim.Add(Operation{CompanyID: "nobody"})
	require.ErrorIs(t, err, ErrUnknown)
	require.ErrorIs(t, sim.Set(company, "nothing", Failed), ErrUnknown)
	require.ErrorIs(t, sim.Remove(company, "nothing"), ErrUnknown)
	_, err = sim.Add(Operation{CompanyID: company, Key: "K"})
	require.NoError(t, err)
	_, err = sim.Add(Operation{CompanyID: company, Key: "K"})
	require.ErrorContains(t, err, "operation K is there already")
	_, err = sim.Add(Operation{CompanyID: company, Steps: []Step{{noon.Add(-time.Hour), Failed}}})
	require.ErrorContains(t, err, "not in order")
}

func TestConfigurationsThatMakeNoSenseAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want string
	}{
		"a company twice":        {Config{Companies: slices.Repeat(MakeCompanies(1, 1), 2)}, "is there twice"},
		"a company without id":   {Config{Companies: []Company{{Name: "N"}}}, `company "N" has no id`},
		"a crawling rate":        {Config{Rate: 0.001}, "a rate of 0.001"},
		"a negative speed":       {Config{Speed: -1}, "a speed of -1"},
		"a negative history":     {Config{History: -1}, "cannot be negative"},
		"no laws":                {Config{Laws: []Law{}}, "at least one law"},
		"a law without share":    {Config{Laws: []Law{{Platform: "P", Median: 1}}}, `law of "P"`},
		"a law of 110 %":         {Config{Laws: []Law{{Platform: "P", Median: 1, Share: 1, Never: 1.1}}}, "1.1 is not between 0 and 1"},
		"an order of no field":   {Config{DefaultOrder: "colour"}, `default order "colour"`},
		"a fault of no name":     {Config{Faults: []Rule{{Fault: "gremlin"}}}, `fault "gremlin" does not exist`},
		"a chance of two to one": {Config{Faults: []Rule{{Fault: Reset, Chance: 2}}}, "chance must be between 0 and 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.cfg)
			require.ErrorContains(t, err, c.want)
		})
	}
}
