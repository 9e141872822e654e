package poller

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/pushwatch/pushwatch/push"
)

// Source asks Codat. It is safe for concurrent use, counts every request, and
// fails with *push.AskError.
type Source interface {
	// Walk yields the pages of a company's list until the last one or an error.
	Walk(ctx context.Context, w push.ListWalk) iter.Seq2[push.Page, error]
	// Get returns a page of exactly one operation or one quarantined record.
	Get(ctx context.Context, companyID, key string, purpose push.Purpose) (push.Page, error)
}

// Assignments tells which companies this process may work on now. It is safe for
// concurrent use.
type Assignments interface {
	// Companies returns the companies under our lease now, each with its fence; none is
	// no error.
	Companies(ctx context.Context) ([]push.Company, error)
	// Changed returns a channel that is closed when Companies may return others.
	Changed() <-chan struct{}
	// MarkAbsent durably keeps a company from being listed before until.
	MarkAbsent(ctx context.Context, c push.Company, until time.Time) error
}

// Recorder keeps what was seen. It is safe for concurrent use; what it accepted
// is durable when it returns, and may be offered again when it failed.
type Recorder interface {
	// OpenWalk begins or resumes a walk, durably, before its first request.
	OpenWalk(ctx context.Context, c push.Company, kind push.WalkKind, startedAt time.Time) (push.Walk, error)
	// Record keeps one look in one commit.
	Record(ctx context.Context, r push.Record) (push.Recorded, error)
	// Due lists unfinished and disputed operations that want to be asked, youngest first.
	Due(ctx context.Context, companies []push.Company, now time.Time, period time.Duration) ([]push.Due, error)
}

// Config says what a poller works with. Every field without a default is needed.
type Config struct {
	Source      Source
	Assignments Assignments
	Recorder    Recorder

	Plan     Plan // to begin with; see Replan
	Parallel int  // companies that discover, and track, work on at once; default 32

	Now      func() time.Time // pushwatch's clock
	OnEvents func()           // called after a commit with events; default nothing
	Logger   *slog.Logger
	Metrics  *Metrics // default: counted for nobody
}

const (
	largestPage    = 5000
	absence        = time.Hour // before a company that Codat does not know is listed again
	lookAgain      = time.Second
	freshnessSlack = time.Minute
	wholeAtOnce    = 4 // companies whose whole history is walked; each holds pages of up to 5,000
)

// job is what a company is at work for; each job of a company runs once at a time.
type job string

const (
	discover job = "discover"
	track    job = "track"
	whole    job = "sweep" // sweeps and baselines: whole histories
)

// Poller runs the jobs. It is safe for concurrent use.
type Poller struct {
	config    Config
	plan      atomic.Pointer[Plan]
	replanned chan struct{}         // holds one token after a Replan that Run has not seen
	slots     map[job]chan struct{} // companies at work, by job: long walks take no place from short ones
	unshown   unshown

	mu     sync.Mutex
	busy   map[busyKey]bool
	taken  map[string]time.Time // assigned companies: since when, here
	looked map[string]time.Time // start of the last finished look of a company
	unkept map[string]refusal   // companies of which a look could not be kept, the last time
	skewed time.Time            // when it was last told that Codat's clock and ours differ
}

type busyKey struct {
	job       job
	companyID string
}

// Result counts what one run of a job did.
type Result struct {
	Companies int // worked on
	Skipped   int // still at work from an earlier tick
	Events    int // events committed
	Errors    int // companies whose work ended with an error
}

// New returns a poller.
func New(config Config) (*Poller, error) {
	if config.Parallel == 0 {
		config.Parallel = 32
	}
	if config.OnEvents == nil {
		config.OnEvents = func() {}
	}
	if config.Metrics == nil {
		config.Metrics = NewMetrics()
	}
	switch {
	case config.Source == nil || config.Assignments == nil || config.Recorder == nil:
		return nil, errors.New("poller: Source, Assignments and Recorder are needed")
	case config.Now == nil || config.Logger == nil:
		return nil, errors.New("poller: Now and Logger are needed")
	}
	p := &Poller{config: config, replanned: make(chan struct{}, 1), slots: map[job]chan struct{}{
		discover: make(chan struct{}, config.Parallel), track: make(chan struct{}, config.Parallel),
		whole: make(chan struct{}, wholeAtOnce),
	}, busy: map[busyKey]bool{},
		taken: map[string]time.Time{}, looked: map[string]time.Time{}, unkept: map[string]refusal{}}
	if err := p.Replan(config.Plan); err != nil {
		return nil, err
	}
	<-p.replanned // Run begins with it
	return p, nil
}

// Run ticks until ctx ends, and returns when everything it started has ended. A
// tick that a company missed, because nobody held it or pushwatch was down, is
// made up once when the company comes here. A run that fails or panics is counted
// and logged; the next tick comes all the same.
func (p *Poller) Run(ctx context.Context) error {
	var runs sync.WaitGroup
	defer runs.Wait()
	start := func(name job, run func(context.Context) (Result, error)) {
		runs.Go(func() { p.once(ctx, name, run) })
	}
	ticks := p.ticks(start)
	defer func() { <-ticks.Stop().Done() }()

	for {
		changed := p.config.Assignments.Changed() // before the look, so that no change is missed
		var again <-chan time.Time
		fresh, err := p.takeUp(ctx)
		if err != nil {
			again = time.After(lookAgain) // the jobs meet the same error and tell it
		} else {
			start(discover, p.discoverMissed)
			start(track, func(ctx context.Context) (Result, error) { return p.trackWhere(ctx, fresh) })
			start(whole, p.sweepMissed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-again:
		case <-p.replanned: // what is at work goes on
			<-ticks.Stop().Done()
			ticks = p.ticks(start)
		}
	}
}

// ticks starts the clock of the present plan.
func (p *Poller) ticks(start func(job, func(context.Context) (Result, error))) *cron.Cron {
	plan := p.plan.Load()
	ticks := cron.New(cron.WithLocation(time.UTC), cron.WithLogger(cron.DiscardLogger))
	ticks.Schedule(plan.Discover.next, cron.FuncJob(func() { start(discover, p.Discover) }))
	ticks.Schedule(plan.Track.next, cron.FuncJob(func() { start(track, p.Track) }))
	ticks.Schedule(plan.Sweep.next, cron.FuncJob(func() { start(whole, p.Sweep) }))
	ticks.Start()
	return ticks
}

// once runs a job, and outlives its failure.
func (p *Poller) once(ctx context.Context, name job, run func(context.Context) (Result, error)) {
	log := p.config.Logger.With("job", string(name))
	result := "ok"
	defer func() {
		if r := recover(); r != nil {
			result = "panic"
			log.Error("run panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		}
		p.config.Metrics.runs.WithLabelValues(string(name), result).Inc()
	}()
	done, err := run(ctx)
	switch {
	case ctx.Err() != nil:
		result = "stopped"
	case held(err):
		result = "skipped" // the ledger has told once why nothing is asked, and until when
		log.Debug("run skipped", "reason", err, "companies", done.Companies, "errors", done.Errors)
	case err != nil:
		result = "failed"
		log.Warn("run failed", "error", err, "companies", done.Companies, "errors", done.Errors)
	default:
		log.Debug("run finished", "companies", done.Companies, "skipped", done.Skipped, "events", done.Events)
	}
}

// takeUp notes which companies are assigned, and since when, and tells which are
// new here.
func (p *Poller) takeUp(ctx context.Context) (fresh func(companyID string) bool, err error) {
	defer func() {
		if r := recover(); r != nil {
			p.config.Logger.Error("naming the companies panicked", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			err = fmt.Errorf("naming the companies: panic: %v", r)
		}
	}()
	companies, err := p.config.Assignments.Companies(ctx)
	if err != nil {
		return nil, err
	}
	now := p.config.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.taken
	p.taken = make(map[string]time.Time, len(companies))
	for _, c := range companies {
		since, known := before[c.ID]
		if !known {
			since = now
		}
		p.taken[c.ID] = since
		if c.DiscoveredAt.After(p.looked[c.ID]) {
			p.looked[c.ID] = c.DiscoveredAt
		}
	}
	maps.DeleteFunc(p.unkept, func(id string, _ refusal) bool { _, ours := p.taken[id]; return !ours })
	p.config.Metrics.companies.Set(float64(len(companies)))
	return func(companyID string) bool { _, known := before[companyID]; return !known }, nil
}

// each works on companies side by side, skipping those that are busy with the
// job. An error that concerns the whole client keeps those from starting that
// have not yet. It returns when all have ended, with the first error that is one of them, else of the gate.
func (p *Poller) each(ctx context.Context, name job, companies []push.Company, work func(context.Context, push.Company) (int, error)) (Result, error) {
	var result Result
	var mu sync.Mutex
	var first error
	var blocked atomic.Bool
	var group sync.WaitGroup
	for _, c := range companies {
		if blocked.Load() || ctx.Err() != nil {
			break
		}
		if !p.claim(name, c.ID) {
			result.Skipped++
			continue
		}
		select {
		case p.slots[name] <- struct{}{}:
		case <-ctx.Done():
			p.release(name, c.ID)
			continue
		}
		result.Companies++
		group.Go(func() {
			defer func() { p.release(name, c.ID); <-p.slots[name] }()
			events, err := guarded(ctx, c, work)
			mu.Lock()
			defer mu.Unlock()
			result.Events += events
			if err == nil {
				return
			}
			result.Errors++
			if first == nil || held(first) {
				first = err // rather one that nobody has told yet
			}
			if ask := (*push.AskError)(nil); errors.As(err, &ask) && ask.Kind.Blocking() {
				blocked.Store(true)
			}
		})
	}
	group.Wait()
	return result, first
}

// held reports whether err is of requests that were not sent because the ledger
// let none through, and of nothing else.
func held(err error) bool {
	if several, ok := err.(interface{ Unwrap() []error }); ok {
		return !slices.ContainsFunc(several.Unwrap(), func(err error) bool { return !held(err) })
	}
	var ask *push.AskError
	return errors.As(err, &ask) && ask.Kind == push.KindQuota
}

// guarded turns a panic over one company's data into its error, so that the other
// companies of the run are not hurt. Every goroutine that works on a company needs
// it: a panic that leaves one ends the process.
func guarded(ctx context.Context, c push.Company, work func(context.Context, push.Company) (int, error)) (events int, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &panicError{companyID: c.ID, cause: r, stack: debug.Stack()}
		}
	}()
	return work(ctx, c)
}

// panicError is a panic over a company's data.
type panicError struct {
	companyID string
	cause     any
	stack     []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("company %s: panic: %v\n%s", e.companyID, e.cause, e.stack)
}

func (p *Poller) claim(name job, companyID string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := busyKey{name, companyID}
	if p.busy[key] {
		return false
	}
	p.busy[key] = true
	return true
}

func (p *Poller) release(name job, companyID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.busy, busyKey{name, companyID})
}

// Freshness reports whether every company assigned here has a finished look that
// is younger than three discover periods and a minute; if not, why, and since when.
func (p *Poller) Freshness(now time.Time) (ok bool, reason string, since time.Time) {
	allowed := 3*p.plan.Load().Discover.Period(now) + freshnessSlack
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := 0
	for id, taken := range p.taken {
		last := p.looked[id]
		if taken.After(last) {
			last = taken
		}
		if due := last.Add(allowed); now.After(due) {
			stale++
			if since.IsZero() || due.Before(since) {
				since = due
				reason = fmt.Sprintf("company %s has no finished look since %s", id, last.Format(time.RFC3339))
			}
		}
	}
	if stale > 1 {
		reason = fmt.Sprintf("%d companies, the longest: %s", stale, reason)
	}
	return stale == 0, reason, since
}
