package poller

import (
	"context"
	"fmt"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// refusal is why looks at a company are not kept.
type refusal struct {
	err   error // the last one
	since time.Time
}

// keep records a look and notes whether that could be done.
func (p *Poller) keep(ctx context.Context, r push.Record) (push.Recorded, error) {
	recorded, err := p.config.Recorder.Record(ctx, r)
	if ctx.Err() != nil {
		return recorded, err // says nothing of the recorder
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ours := p.taken[r.Company.ID]; err == nil || !ours { // the refusal of a former holder's look is no trouble
		delete(p.unkept, r.Company.ID)
		return recorded, err
	}
	was, failing := p.unkept[r.Company.ID]
	if !failing {
		was.since = p.config.Now()
	}
	p.unkept[r.Company.ID] = refusal{err, was.since}
	return recorded, err
}

// Keeping reports whether the last look at each company assigned here could be
// kept; if not, why, and since when. A database whose disk is full answers, and
// takes some writes while it refuses others.
func (p *Poller) Keeping() (ok bool, reason string, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.unkept {
		if since.IsZero() || r.since.Before(since) {
			reason, since = "what was seen cannot be kept: "+r.err.Error(), r.since
		}
	}
	if n := len(p.unkept); n > 1 {
		reason = fmt.Sprintf("%d companies, the longest: %s", n, reason)
	}
	return len(p.unkept) == 0, reason, since
}
