package codatsim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"time"
)

// DefaultKey is the API key of a simulator that is given none.
const DefaultKey = "codatsim"

// Errors of the scripting methods.
var (
	ErrFrozen  = errors.New("the timeline is frozen")
	ErrUnknown = errors.New("no such operation")
)

// Config describes a simulated world. The zero value of every field but
// Companies is usable.
type Config struct {
	Seed      uint64
	Companies []Company // see [MakeCompanies]; ids must be distinct
	Key       string    // the raw API key; empty: DefaultKey

	// Now is the simulator's clock, safe for concurrent use; nil: the system's.
	// The simulator never goes back in time, whatever Now says.
	Now func() time.Time

	// Rate is the mean number of new operations per company and minute: 0 for
	// none, else at least 0.01. The first companies get more than the last.
	Rate float64
	// History is the number of operations that each company has from before the
	// simulator started. They arrived at Rate, or at one a minute when Rate is 0.
	History int
	// Laws say how operations fare; nil: DefaultLaws. Speed divides the time that
	// they take; 0 means 1.
	Laws  []Law
	Speed float64

	MaxPageSize  int    // larger pages are cut to this; 0: 5000
	DefaultOrder string // order of a list that asks for none; empty: requestedOnUtc, oldest first

	DayLimit        int // requests per UTC day; 0: 1000 × (1 + companies)
	MinuteLimit     int // requests per UTC minute; 0: 1000
	ConcurrentLimit int // requests at once per company; 0: 10

	Faults []Rule // in force from the start

	// Hook is called before each admitted request is answered, on the request's
	// goroutine and without any lock, so that a test can change the world, say
	// between two pages of one walk. Nil: none.
	Hook func(Request)
}

// Sim is a simulated Codat API. It is an http.Handler, safe for concurrent use.
// It starts no goroutine and needs no closing.
type Sim struct {
	cfg       Config
	authority string // the Authorization header that is accepted
	start     time.Time
	companies []*company // in the order of the configuration
	byID      map[string]*company

	ledger *ledger
	faults *faultBook

	// changing is held shared by whatever changes the world and exclusively by
	// Freeze, so that nothing changes once Freeze has returned.
	changing sync.RWMutex

	clock  sync.Mutex // guards latest and frozen
	latest time.Time
	frozen time.Time // zero until the timeline is frozen
}

// New returns a simulator whose time begins now. It refuses a configuration that
// makes no sense, naming the field.
func New(cfg Config) (*Sim, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("codatsim: %w", err)
	}
	s := &Sim{
		cfg:       cfg,
		authority: "Basic " + base64.StdEncoding.EncodeToString([]byte(cfg.Key)),
		byID:      map[string]*company{},
		ledger:    newLedger(cfg),
		faults:    &faultBook{},
	}
	s.start, _ = s.now()
	weights := shares(len(cfg.Companies))
	for i, c := range cfg.Companies {
		s.companies = append(s.companies, newCompany(s, c, cfg.Rate*weights[i]))
		s.byID[c.ID] = s.companies[i]
	}
	if err := s.SetFaults(cfg.Faults...); err != nil {
		return nil, fmt.Errorf("codatsim: %w", err)
	}
	return s, nil
}

func (cfg *Config) complete() error {
	setDefault(&cfg.Key, DefaultKey)
	setDefault(&cfg.Speed, 1)
	setDefault(&cfg.MaxPageSize, 5000)
	setDefault(&cfg.DefaultOrder, "requestedOnUtc")
	setDefault(&cfg.DayLimit, 1000*(1+len(cfg.Companies)))
	setDefault(&cfg.MinuteLimit, 1000)
	setDefault(&cfg.ConcurrentLimit, 10)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Laws == nil {
		cfg.Laws = DefaultLaws()
	}
	if err := validateCompanies(cfg.Companies); err != nil {
		return err
	}
	for _, law := range cfg.Laws {
		if err := law.validate(); err != nil {
			return err
		}
	}
	_, knownOrder := parseOrder(cfg.DefaultOrder)
	switch {
	case len(cfg.Laws) == 0:
		return errors.New("at least one law is needed")
	case cfg.Rate != 0 && !(cfg.Rate >= 0.01):
		return fmt.Errorf("a rate of %v: 0 or at least 0.01 operations a minute", cfg.Rate)
	case !(cfg.Speed > 0):
		return fmt.Errorf("a speed of %v is not positive", cfg.Speed)
	case cfg.History < 0 || cfg.MaxPageSize < 0 || cfg.DayLimit < 0 || cfg.MinuteLimit < 0 || cfg.ConcurrentLimit < 0:
		return errors.New("history, page size and limits cannot be negative")
	case !knownOrder:
		return fmt.Errorf("default order %q: requestedOnUtc or -requestedOnUtc", cfg.DefaultOrder)
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// now returns the time of day and the time of the timeline, which differ only
// after Freeze. Neither ever goes back.
func (s *Sim) now() (wall, line time.Time) {
	s.clock.Lock()
	defer s.clock.Unlock()
	return s.tick()
}

// tick reads the clock. The caller holds the mutex.
func (s *Sim) tick() (wall, line time.Time) {
	if read := instant(s.cfg.Now()); read.After(s.latest) {
		s.latest = read
	}
	if !s.frozen.IsZero() {
		return s.latest, s.frozen
	}
	return s.latest, s.latest
}

// Freeze stops the timeline and returns the time at which it stands from now on:
// nothing appears, moves or vanishes afterwards, and the scripting methods return
// ErrFrozen. Requests are answered as before, faults included, and the quota's day
// goes on. Freezing twice changes nothing.
func (s *Sim) Freeze() time.Time {
	s.changing.Lock()
	defer s.changing.Unlock()
	s.clock.Lock()
	defer s.clock.Unlock()
	// No request was ever given a later time than this.
	_, s.frozen = s.tick()
	return s.frozen
}

// Connections returns the connections of a company, one per law, or nil for a
// company that the simulator does not know.
func (s *Sim) Connections(companyID string) []Connection {
	if c := s.byID[companyID]; c != nil {
		return append([]Connection(nil), c.connections...)
	}
	return nil
}

// change runs f on a company at the timeline's present, unless that is frozen.
func (s *Sim) change(companyID string, f func(c *company, now time.Time) error) error {
	s.changing.RLock()
	defer s.changing.RUnlock()
	s.clock.Lock()
	frozen := !s.frozen.IsZero()
	s.clock.Unlock()
	c := s.byID[companyID]
	switch {
	case frozen:
		return ErrFrozen
	case c == nil:
		return fmt.Errorf("company %s: %w", companyID, ErrUnknown)
	}
	_, line := s.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.advance(line)
	return f(c, c.now)
}
