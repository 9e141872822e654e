package codatsim

import (
	"maps"
	"sync"
	"time"
)

// Stats are what the simulator has been asked so far, and what it answered.
type Stats struct {
	Requests  int            `json:"requests"` // received, refused ones included
	ByKind    map[Kind]int   `json:"byKind"`
	ByCompany map[string]int `json:"byCompany"`
	ByDay     map[string]int `json:"byDay"`    // UTC, as 2026-01-31, of the last 31 days
	ByMinute  map[string]int `json:"byMinute"` // UTC, as 2026-01-31T23:59, of the last 24 hours
	ByStatus  map[int]int    `json:"byStatus"` // HTTP status; 0 for a connection that was reset
	// MaxConcurrent is the largest number of requests of one company that were
	// open at once.
	MaxConcurrent map[string]int `json:"maxConcurrent"`
	// Charged is what the day of the last request has cost: Spend included,
	// requests that the limits or a wrong key refused left out.
	Charged int `json:"charged"`
	// Throttled counts the requests that a limit refused: "day", "minute",
	// "concurrent".
	Throttled map[string]int `json:"throttled"`
	// Early counts requests that came before the end of a Retry-After that any
	// client had been given by then. One that was under way when the 429 was
	// decided counts as well.
	Early  int           `json:"early"`
	Struck map[Fault]int `json:"struck"` // faults by how often they struck
}

// ledger counts requests and knows the limits.
type ledger struct {
	perDay, perMinute, concurrent int

	mu          sync.Mutex // guards all below
	day         time.Time  // the UTC day that charged belongs to
	minute      time.Time
	inMinute    int
	open        map[string]int // requests per company that are being answered
	pausedUntil time.Time      // the latest end of a Retry-After
	stats       Stats
}

func newLedger(cfg Config) *ledger {
	return &ledger{
		perDay: cfg.DayLimit, perMinute: cfg.MinuteLimit, concurrent: cfg.ConcurrentLimit,
		open: map[string]int{},
		stats: Stats{
			ByKind: map[Kind]int{}, ByCompany: map[string]int{}, ByDay: map[string]int{}, ByMinute: map[string]int{},
			ByStatus: map[int]int{}, MaxConcurrent: map[string]int{}, Throttled: map[string]int{},
		},
	}
}

// admission is what the ledger says of a request.
type admission struct {
	ordinal          int // the company's how manyth request, from 1
	limit, remaining int
	reset            time.Time
	refused          string        // the limit that refuses it; empty when admitted
	wait             time.Duration // until asking makes sense, when refused
}

// enter counts a request that has come in. Every enter wants one leave.
func (l *ledger) enter(req Request, authorised bool) admission {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(req.At)
	l.count(req)
	a := admission{ordinal: l.stats.ByCompany[req.CompanyID], limit: l.perDay, reset: l.day.AddDate(0, 0, 1)}
	if authorised {
		a.refused, a.wait = l.judge(req, a.reset)
		if a.refused == "" {
			l.stats.Charged++
			l.inMinute++
		} else {
			l.stats.Throttled[a.refused]++
		}
	}
	a.remaining = max(l.perDay-l.stats.Charged, 0)
	return a
}

// turn begins a new day or minute where one has begun.
func (l *ledger) turn(now time.Time) {
	if day := now.Truncate(24 * time.Hour); !day.Equal(l.day) {
		l.day, l.stats.Charged = day, 0
		forget(l.stats.ByDay, day.AddDate(0, 0, -30).Format(dayForm))
	}
	if minute := now.Truncate(time.Minute); !minute.Equal(l.minute) {
		l.minute, l.inMinute = minute, 0
		forget(l.stats.ByMinute, minute.Add(-24*time.Hour+time.Minute).Format(minuteForm))
	}
}

// How the days and minutes of Stats are written: the earlier, the smaller.
const (
	dayForm    = "2006-01-02"
	minuteForm = "2006-01-02T15:04"
)

// forget drops what lies before a day or minute, so that a simulator may run for
// ever.
func forget(counts map[string]int, before string) {
	maps.DeleteFunc(counts, func(at string, _ int) bool { return at < before })
}

func (l *ledger) count(req Request) {
	if req.At.Before(l.pausedUntil) {
		l.stats.Early++
	}
	l.stats.Requests++
	l.stats.ByKind[req.Kind]++
	l.stats.ByCompany[req.CompanyID]++
	l.stats.ByDay[req.At.Format(dayForm)]++
	l.stats.ByMinute[req.At.Format(minuteForm)]++
	l.open[req.CompanyID]++
	l.stats.MaxConcurrent[req.CompanyID] = max(l.stats.MaxConcurrent[req.CompanyID], l.open[req.CompanyID])
}

func (l *ledger) judge(req Request, tomorrow time.Time) (refused string, wait time.Duration) {
	switch {
	case l.stats.Charged >= l.perDay:
		return "day", tomorrow.Sub(req.At)
	case l.inMinute >= l.perMinute:
		return "minute", l.minute.Add(time.Minute).Sub(req.At)
	case l.open[req.CompanyID] > l.concurrent:
		return "concurrent", time.Second
	}
	return "", 0
}

// pause notes that a client was asked to wait until end.
func (l *ledger) pause(end time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if end.After(l.pausedUntil) {
		l.pausedUntil = end
	}
}

// leave counts the answer to a request.
func (l *ledger) leave(req Request, status int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.ByStatus[status]++
	if l.open[req.CompanyID]--; l.open[req.CompanyID] == 0 {
		delete(l.open, req.CompanyID)
	}
}

// Spend takes n requests from today's quota, as other applications with the same
// key would.
func (s *Sim) Spend(n int) {
	wall, _ := s.now()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	s.ledger.turn(wall)
	s.ledger.stats.Charged += n
}

// Stats returns a snapshot of what has been asked and answered so far.
func (s *Sim) Stats() Stats {
	s.faults.mu.Lock()
	struck := maps.Clone(s.faults.struck)
	s.faults.mu.Unlock()
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	stats := s.ledger.stats
	stats.Struck = struck
	stats.ByKind = maps.Clone(stats.ByKind)
	stats.ByCompany = maps.Clone(stats.ByCompany)
	stats.ByDay = maps.Clone(stats.ByDay)
	stats.ByMinute = maps.Clone(stats.ByMinute)
	stats.ByStatus = maps.Clone(stats.ByStatus)
	stats.MaxConcurrent = maps.Clone(stats.MaxConcurrent)
	stats.Throttled = maps.Clone(stats.Throttled)
	return stats
}
