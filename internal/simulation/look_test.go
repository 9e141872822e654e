package simulation

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

func (d *database) openWalk(c push.Company, kind push.WalkKind, startedAt time.Time) (push.Walk, error) {
	opened := push.Walk{CompanyID: c.ID, Kind: kind, StartedAt: push.Time(startedAt), FirstPage: 1}
	if err := d.fence(c.Fence); err != nil {
		return push.Walk{}, err
	}
	company := d.companies[c.ID]
	switch kind {
	case push.WalkDiscover:
		if progress := cmp.Or(company.progressAt, company.firstLookServerAt, company.FirstLookAt); !progress.IsZero() {
			opened.Floor = progress.Add(-push.Overlap)
		}
		return opened, nil
	case push.WalkBaseline:
		company.FirstLookAt = cmp.Or(company.FirstLookAt, opened.StartedAt)
	}
	company.SweepTickedAt = opened.StartedAt
	if open := company.open(kind); open != nil {
		opened.StartedAt, opened.FirstPage, opened.PageSize = open.startedAt, max(open.nextPage-1, 1), open.pageSize
	} else {
		company.walks[kind] = append(company.walks[kind], &walk{startedAt: opened.StartedAt, nextPage: 1})
	}
	return opened, nil
}

// due lists what wants to be asked, youngest first.
func (d *database) due(companies []push.Company, now time.Time, period time.Duration) []push.Due {
	var due []push.Due
	began := map[id]time.Time{}
	for _, named := range companies {
		c := d.companies[named.ID]
		for key, o := range c.ops {
			disputed := o.known.DisputedStatus != ""
			if o.Status.Terminal() && !disputed {
				continue
			}
			born := cmp.Or(o.RequestedOn, o.firstSeenAt)
			seen := latest(o.known.LookedAt, o.gotAt)
			if !disputed && seen.After(now.Add(-min(time.Hour, max(period, now.Sub(born)/10)))) {
				continue
			}
			began[id{c.ID, key}] = born
			due = append(due, push.Due{CompanyID: c.ID, Key: key, RequestedOn: o.RequestedOn, Disputed: disputed,
				OnFirstPage: !o.RequestedOn.IsZero() && !c.firstPageOldest.IsZero() && !o.RequestedOn.Before(c.firstPageOldest)})
		}
	}
	slices.SortFunc(due, func(a, b push.Due) int {
		return cmp.Or(began[id{b.CompanyID, b.Key}].Compare(began[id{a.CompanyID, a.Key}]),
			strings.Compare(a.CompanyID, b.CompanyID), strings.Compare(a.Key, b.Key))
	})
	return due
}

// reached returns the start of the latest list, begun before a moment, that showed
// what was requested then.
func (c *company) reached(requested, before time.Time) (at time.Time) {
	for _, l := range c.looks {
		if l.lookedAt.Before(before) && (l.reachedAt.IsZero() || !requested.IsZero() && l.reachedAt.Before(requested)) {
			at = latest(at, l.lookedAt)
		}
	}
	return at
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// known is what a read without locks tells of a look.
type known struct {
	all     bool
	differs []push.Row // in key order
}

func (d *database) probe(r push.Record) known {
	c := d.companies[r.Company.ID]
	began := r.Page.StartedAt
	if r.Walk != nil {
		began = r.Walk.StartedAt
	}
	fresh := began // what was first seen later is not known
	if open := c.open(push.WalkDiscover); open != nil && !fault.Off(fault.UnfinishedWalk) {
		fresh = open.startedAt
	}
	result := known{all: true}
	whole := r.Walk != nil && r.Walk.Kind != push.WalkDiscover // learns other bytes that tell the same
	for _, row := range r.Page.Rows {
		o := c.ops[row.Key]
		result.all = result.all && o != nil && (o.firstSeenAt.Before(fresh) || fault.Off(fault.UnfinishedWalk))
		if o == nil || o.known.DisputedStatus != "" || !o.Status.Terminal() || r.Page.Source == push.FromGet ||
			o.digest != row.Digest && (whole || !bytes.Equal(o.Fingerprint(), row.Read().Fingerprint())) {
			result.differs = append(result.differs, row)
		}
	}
	for _, q := range r.Page.Quarantined {
		o := c.ops[q.Key]
		result.all = result.all && (o != nil && o.firstSeenAt.Before(began) || slices.ContainsFunc(c.quarantine, func(a aside) bool {
			return (a.hash == string(q.Hash) || a.key == q.Key) && a.firstSeen.Before(began)
		}))
	}
	slices.SortFunc(result.differs, func(a, b push.Row) int { return strings.Compare(a.Key, b.Key) })
	return result
}

// record commits a look of which before was read without locks, a while ago.
func (d *database) record(r push.Record, before known) (push.Recorded, error) {
	if err := d.fence(r.Company.Fence); err != nil {
		return push.Recorded{}, err
	}
	c := d.companies[r.Company.ID]
	for _, q := range r.Page.Quarantined {
		if !slices.ContainsFunc(c.quarantine, func(a aside) bool { return a.hash == string(q.Hash) }) {
			c.quarantine = append(c.quarantine, aside{q.Key, string(q.Hash), r.Page.FinishedAt})
		}
	}
	recorded := push.Recorded{Known: before.all}
	recorded.Finished = r.Walk != nil && (r.Finish == push.Done || r.Finish == push.IfKnown && before.all)
	for _, row := range before.differs {
		d.keep(c, r, row, &recorded)
	}
	for _, row := range r.Page.Rows {
		if o := c.ops[row.Key]; d.witness != nil && o.Status == row.Status {
			d.witness.looked(d, id{c.ID, row.Key}, o.known, push.Time(r.Page.StartedAt))
		}
	}
	c.progress(r, recorded.Finished)
	return recorded, nil
}

// keep decides by the rule, against the row as it is now, and writes what it says.
func (d *database) keep(c *company, r push.Record, row push.Row, recorded *push.Recorded) {
	looked := push.Time(r.Page.StartedAt)
	op := row.Read()
	o := c.ops[op.Key]
	var was *push.Known
	if o != nil {
		stored := o.known
		was = &stored
	}
	verdict := push.Observe(was, push.Sight{Status: op.Status, LookedAt: looked, Source: r.Page.Source})
	if verdict == push.Disputed && fault.Off(fault.Dispute) || verdict == push.Stale && fault.Off(fault.Stale) {
		if verdict = push.Changed; was.Status == op.Status {
			verdict = push.Same
		}
	}
	var seenBefore time.Time
	switch verdict {
	case push.Stale:
		return
	case push.Undecided:
		if looked.After(o.known.DisputedAt) {
			o.known.UndecidedAt = looked
		}
		return
	case push.Disputed:
		o.known.DisputedStatus, o.known.DisputedAt = op.Status, looked
		recorded.Disputed = append(recorded.Disputed, op.Key)
		return
	case push.First:
		o = &operation{subjectDataType: op.DataType, firstSeenAt: r.Page.FinishedAt, lastChangedAt: r.Page.FinishedAt, baseline: c.isBaseline(r, op)}
		c.ops[op.Key] = o
		if !o.baseline {
			seenBefore = c.DiscoveredAt
		}
		recorded.First++
	case push.Changed:
		seenBefore = latest(was.LookedAt, o.gotAt)
		if was.Status.Terminal() {
			seenBefore = latest(seenBefore, c.reached(o.RequestedOn, undoubted(r, *was)))
		}
		o.lastChangedAt = r.Page.FinishedAt
		recorded.Changed++
	}
	o.Operation, o.digest, o.known = op, row.Digest, push.Known{Status: op.Status, LookedAt: looked}
	if r.Page.Source == push.FromGet {
		o.gotAt = latest(o.gotAt, looked)
	}
	if d.witness != nil {
		d.witness.wroteRow(d, id{c.ID, op.Key}, op.Status, looked)
	}
	if verdict != push.Changed && (verdict != push.First || o.baseline && !d.publish) {
		return
	}
	recorded.Events++
	edge := push.Edge{To: op.Status, Baseline: o.baseline, CompletedOn: op.CompletedOn}
	e := event.New(d.instance, op, o.versions+1)
	if was != nil {
		edge.From, e.PreviousStatus = was.Status, &was.Status
	}
	recorded.Edges = append(recorded.Edges, edge)
	e.ObservedAt, e.LastSeenPreviousAt = event.Timestamp(push.Time(r.Page.FinishedAt)), event.At(seenBefore)
	e.Source, e.Baseline = r.Page.Source, verdict == push.First && o.baseline
	d.announce(o, e, looked)
}

// undoubted returns the moment before which a list that did not tell of a change
// showed the state before it.
func undoubted(r push.Record, was push.Known) time.Time {
	at := r.Page.StartedAt
	if r.Walk != nil && r.Walk.StartedAt.Before(at) {
		at = r.Walk.StartedAt
	}
	if !was.DisputedAt.IsZero() && was.DisputedAt.Before(at) {
		at = was.DisputedAt
	}
	return at
}

// announce commits a change: version, transition and outbox row.
func (d *database) announce(o *operation, e event.Event, looked time.Time) *row {
	o.versions, o.history = e.Version, append(o.history, e)
	m, err := event.Encode(event.DefaultPrefix, o.subjectDataType, e)
	if err != nil {
		panic(err)
	}
	d.ids++
	r := &row{id: d.ids, created: e, Pending: event.Pending{Message: m, CompanyID: e.CompanyID, Key: e.PushOperationKey,
		Version: e.Version, Bucket: d.bucketOf(id{e.CompanyID, e.PushOperationKey}), CreatedAt: d.now()}}
	if e.Version > 1 {
		r.PreviousID = event.ID(d.instance, e.CompanyID, e.PushOperationKey, e.Version-1)
	}
	d.outbox = append(d.outbox, r)
	if d.witness != nil {
		d.witness.committed(d, e, looked)
	}
	return r
}

func (c *company) isBaseline(r push.Record, op push.Operation) bool {
	first := c.firstLookServerAt
	if first.IsZero() && !c.FirstLookAt.IsZero() {
		first = c.FirstLookAt.Add(r.Page.ServerAhead)
	}
	switch {
	case first.IsZero():
		return false
	case !op.RequestedOn.IsZero():
		return op.RequestedOn.Before(first)
	case !op.CompletedOn.IsZero() && op.CompletedOn.Before(first):
		return true
	}
	return r.Walk != nil && r.Walk.Kind == push.WalkBaseline
}

// progress notes what a page means for its walk and its company.
func (c *company) progress(r push.Record, finished bool) {
	page := r.Page
	if page.Source != push.FromList {
		return
	}
	c.reach(r, finished)
	if page.Number == 1 {
		c.firstPageOldest = page.Oldest()
	}
	if c.firstLookServerAt.IsZero() && !c.FirstLookAt.IsZero() {
		c.firstLookServerAt, c.Answered = c.FirstLookAt.Add(page.ServerAhead), true
	}
	c.AbsentUntil = time.Time{}
	if r.Walk == nil {
		return
	}
	kind, started := r.Walk.Kind, r.Walk.StartedAt
	if kind != push.WalkDiscover || !finished || page.Number > 1 {
		c.note(kind, started, page, finished)
	}
	if !finished || kind == push.WalkSweep {
		return
	}
	if open := c.open(kind); open != nil {
		open.finished = true
	}
	newest := page.Newest()
	if page.Number > 1 {
		newest = slices.MaxFunc(c.walks[kind], func(a, b *walk) int { return a.startedAt.Compare(b.startedAt) }).newestAt
	}
	newest = cmp.Or(newest, started)
	if most := started.Add(page.ServerAhead); newest.After(most) {
		newest = most
	}
	c.progressAt, c.DiscoveredAt = latest(c.progressAt, newest), latest(c.DiscoveredAt, started)
	c.Baselined = c.Baselined || kind == push.WalkBaseline
}

// note keeps how far a walk has come.
func (c *company) note(kind push.WalkKind, started time.Time, page push.Page, finished bool) {
	w := c.open(kind)
	if w == nil {
		if slices.ContainsFunc(c.walks[kind], func(w *walk) bool { return w.startedAt.Equal(started) }) {
			return // its end was recorded already
		}
		w = &walk{startedAt: started, newestAt: page.Newest()}
		c.walks[kind] = append(c.walks[kind], w)
	}
	if page.Number == 1 {
		w.newestAt = page.Newest()
	}
	if page.Number*page.Size >= (w.nextPage-1)*w.pageSize { // one that was read again does not move it back
		w.nextPage, w.pageSize = page.Number+1, page.Size
	}
	w.finished = finished
}

func (c *company) reach(r push.Record, finished bool) {
	page := r.Page
	now := reach{lookedAt: page.StartedAt}
	if r.Walk != nil {
		now.lookedAt = r.Walk.StartedAt
	}
	whole := page.Last && (page.Ordered || r.Walk != nil && finished) && (r.Walk != nil || page.Number == 1)
	if !whole {
		if now.reachedAt = page.Oldest(); !page.Ordered || now.reachedAt.IsZero() || r.Walk == nil && page.Number != 1 {
			return
		}
	}
	c.looks = slices.DeleteFunc(c.looks, func(l reach) bool {
		return l.lookedAt.Before(now.lookedAt) && !l.reachedAt.Before(now.reachedAt)
	})
	for i := range c.looks {
		if l := &c.looks[i]; l.lookedAt.Equal(now.lookedAt) {
			if now.reachedAt.Before(l.reachedAt) {
				l.reachedAt = now.reachedAt
			}
			return
		}
	}
	c.looks = append(c.looks, now)
}
