package simulation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// twins are the database of the simulation and the real store, of whom the same is
// asked by two processes.
type twins struct {
	*rapid.T
	conn  *pgx.Conn
	model *database
	each  [2]*twin
	clock time.Time // of looks
	walks map[push.WalkKind]push.Walk
	next  uint64                   // sequence of the stream
	kept  map[string]event.Pending // what waits, with place and time as the real one tells them
	aged  bool                     // a history was adopted whose beginning had left the stream
}

// twin is one process, once with each.
type twin struct {
	name    string
	store   *store.Store
	leases  *store.Leases
	fleet   *store.Fleet
	outbox  *store.Outbox
	held    map[string]push.Fence // by the model
	renewed time.Time
	stale   push.Fence // the company's before the last renewal
}

const twinCompany = "c1"

// TestTheDatabaseDoesAsTheStore asks the model and the real store the same and wants
// the same answers and the same rows: what the simulation shows rests on it.
func TestTheDatabaseDoesAsTheStore(t *testing.T) {
	url := server.URL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	var stores [2][2]*store.Store // by baseline and process
	for i, publish := range []bool{false, true} {
		for j := range stores[i] {
			stores[i][j] = server.Open(t, store.Config{URL: url, PublishBaseline: publish, MaxConns: 2})
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newTwins(rt, conn, stores)
		rt.Repeat(map[string]func(*rapid.T){
			"":           func(*rapid.T) {},
			"renew":      func(rt *rapid.T) { w.renew(w.one(rt)) },
			"release":    func(rt *rapid.T) { w.release(w.one(rt)) },
			"open":       w.open,
			"look":       w.look,
			"look again": w.look,
			"due":        w.due,
			"companies":  w.companies,
			"publish":    w.publish,
			"lose":       w.lose,
			"reject":     w.reject,
			"inherit":    w.inherit,
			"adopt":      w.adopt,
			"count":      w.count,
		})
		w.compare()
		if !w.aged { // which leaves versions that do not begin at 1
			storetest.CheckInvariants(t, url)
		}
	})
}

func newTwins(rt *rapid.T, conn *pgx.Conn, stores [2][2]*store.Store) *twins {
	_, err := conn.Exec(rt.Context(), `truncate pushwatch.company, pushwatch.operation, pushwatch.transition, pushwatch.company_look,
pushwatch.walk, pushwatch.quarantine, pushwatch.outbox, pushwatch.publication, pushwatch.sent, pushwatch.lease, pushwatch.quota_day;
update pushwatch.quota_gate set next_slot = 'epoch', blocked_until = null, blocked_by = null`)
	require.NoError(rt, err)
	publish := rapid.IntRange(0, 1).Draw(rt, "publish baseline")
	w := &twins{T: rt, conn: conn, walks: map[push.WalkKind]push.Walk{}, kept: map[string]event.Pending{}, clock: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC),
		model: newDatabase(time.Now, stores[0][0].Instance(), publish == 1, 64, twinCompany)}
	for i := range w.each {
		s := stores[publish][i]
		one := &twin{name: fmt.Sprintf("process %d", i), store: s}
		one.leases = s.Leases(store.Holder(one.name), nil)
		one.leases.Want(append(store.RelayLeases(), store.CompanyLease(twinCompany)))
		one.fleet, one.outbox = s.Fleet(one.leases), s.Outbox(one.leases)
		require.NoError(rt, one.fleet.Configure(rt.Context(), []push.Company{{ID: twinCompany}}))
		w.each[i] = one
	}
	w.renew(w.each[0])
	return w
}

// one draws a process and renews what it may not trust much longer.
func (w *twins) one(rt *rapid.T) *twin {
	one := w.each[rapid.IntRange(0, 1).Draw(rt, "process")]
	if time.Since(one.renewed) > 5*time.Second {
		w.renew(one)
	}
	return one
}

func (w *twins) renew(one *twin) {
	names := append(store.RelayLeases(), store.CompanyLease(twinCompany))
	if f, ok := one.held[companyLease(twinCompany)]; ok {
		one.stale = f
	}
	require.NoError(w, one.leases.Renew(w.Context()))
	one.held, one.renewed = w.model.renew(one.name, names), time.Now()
	held := map[string]push.Fence{}
	for _, f := range one.leases.Held(names...) {
		held[f.Lease] = f
	}
	require.Equal(w, held, one.held)
}

func (w *twins) release(one *twin) {
	require.NoError(w, one.leases.Release(w.Context()))
	w.model.release(one.name)
	one.held = nil
}

// company returns the company under the fence that a process has, or had.
func (w *twins) company(rt *rapid.T) push.Company {
	one := w.one(rt)
	fence := one.held[companyLease(twinCompany)]
	if rapid.IntRange(0, 9).Draw(rt, "stale") == 0 {
		fence = one.stale
	}
	return push.Company{ID: twinCompany, Fence: fence}
}

// same wants errors that mean the same, and reports whether there are none.
func (w *twins) same(theirs, ours error) bool {
	require.Equal(w, errors.Is(theirs, store.ErrFenced), errors.Is(ours, errFenced), "%v, %v", theirs, ours)
	if !errors.Is(theirs, store.ErrFenced) {
		require.NoError(w, theirs)
		require.NoError(w, ours)
	}
	return ours == nil
}

func (w *twins) open(rt *rapid.T) {
	kind := rapid.SampledFrom([]push.WalkKind{push.WalkBaseline, push.WalkDiscover, push.WalkSweep}).Draw(rt, "kind")
	c := w.company(rt)
	w.clock = w.clock.Add(time.Second)
	theirs, err1 := w.each[0].store.OpenWalk(w.Context(), c, kind, w.clock)
	ours, err2 := w.model.openWalk(c, kind, w.clock)
	if w.same(err1, err2) {
		require.Equal(w, theirs, ours)
		w.walks[kind] = ours
	}
}

// look records a look that may be late, repeat what is known, or belong to a walk.
func (w *twins) look(rt *rapid.T) {
	w.clock = w.clock.Add(time.Duration(rapid.IntRange(1, 40).Draw(rt, "later")) * time.Second)
	started := w.clock
	if rapid.Bool().Draw(rt, "late") {
		started = started.Add(-time.Duration(rapid.IntRange(0, 90).Draw(rt, "by")) * time.Second)
	}
	page := push.Page{Look: push.Look{Source: push.FromList, StartedAt: started, FinishedAt: started.Add(10 * time.Millisecond)},
		Number: rapid.IntRange(1, 3).Draw(rt, "page"), Size: 5, Ordered: rapid.IntRange(0, 4).Draw(rt, "ordered") > 0,
		Last: rapid.Bool().Draw(rt, "last"), ServerAhead: time.Duration(rapid.IntRange(-1, 1).Draw(rt, "ahead")) * time.Second}
	for _, key := range rapid.SliceOfDistinct(rapid.IntRange(1, 5), rapid.ID[int]).Draw(rt, "keys") {
		row := push.RowOf(w.operation(rt, key))
		row.Digest[0] ^= byte(rapid.IntRange(0, 1).Draw(rt, "spelling")) // the same in other bytes
		page.Rows = append(page.Rows, row)
	}
	r := push.Record{Company: w.company(rt), Page: page}
	if len(page.Rows) == 1 && rapid.Bool().Draw(rt, "get") {
		r.Page.Source, r.Page.Number, r.Page.Size, r.Page.Ordered, r.Page.Last = push.FromGet, 0, 0, false, false
	} else {
		if rapid.IntRange(0, 4).Draw(rt, "unreadable") == 0 {
			key := rapid.IntRange(1, 6).Draw(rt, "which")
			r.Page.Quarantined = []push.Quarantined{{CompanyID: twinCompany, Key: fmt.Sprintf("k%d", key), Class: "unreadable",
				Hash: slices.Repeat([]byte{byte(key)}, 32)}}
		}
		kind := rapid.SampledFrom([]push.WalkKind{"", push.WalkBaseline, push.WalkDiscover, push.WalkSweep}).Draw(rt, "kind")
		if walk, ok := w.walks[kind]; ok {
			r.Walk = &walk
			r.Finish = rapid.SampledFrom([]push.Finish{push.GoOn, push.IfKnown, push.Done}).Draw(rt, "finish")
		}
	}
	theirs, err1 := w.each[0].store.Record(w.Context(), r)
	ours, err2 := w.model.record(r, w.model.probe(r))
	if w.same(err1, err2) {
		require.Equal(w, theirs, ours, "%+v", r)
	}
}

func (w *twins) operation(rt *rapid.T, key int) push.Operation {
	op := push.Operation{CompanyID: twinCompany, Key: fmt.Sprintf("k%d", key), ConnectionID: "connection", DataType: "invoices",
		Status: rapid.SampledFrom([]push.Status{push.Pending, push.Success, push.Failed, "Processing"}).Draw(rt, "status")}
	if key > 1 {
		op.RequestedOn = time.Date(2026, 11, 25, 11, 57+key, 0, 0, time.UTC)
	}
	if op.Status.Terminal() {
		op.CompletedOn = time.Date(2026, 11, 25, 12, key, 0, 0, time.UTC)
	}
	if op.Status == push.Failed {
		op.ErrorMessage = rapid.SampledFrom([]*string{nil, new(string)}).Draw(rt, "message")
	}
	return op
}

func (w *twins) due(rt *rapid.T) {
	now := w.clock.Add(time.Duration(rapid.IntRange(0, 300).Draw(rt, "after")) * time.Second)
	period := time.Duration(rapid.IntRange(1, 60).Draw(rt, "period")) * time.Second
	companies := []push.Company{{ID: twinCompany}}
	theirs, err := w.each[0].store.Due(w.Context(), companies, now, period)
	require.NoError(w, err)
	require.ElementsMatch(w, theirs, w.model.due(companies, now, period)) // those of an age in any order
}

func (w *twins) companies(rt *rapid.T) {
	one := w.one(rt)
	theirs, err := one.fleet.Companies(w.Context())
	require.NoError(w, err)
	var held []push.Fence
	if f, ok := one.held[companyLease(twinCompany)]; ok {
		held = append(held, f)
	}
	require.Equal(w, len(theirs), len(held))
	if len(held) > 0 {
		require.Equal(w, theirs, w.model.assigned(held))
	}
}

// owned are the buckets that a process holds by the model.
func (one *twin) owned() owned {
	o := owned{}
	for bucket := range int16(64) {
		if f, ok := one.held[bucketLease(bucket)]; ok {
			o[bucket] = f
		}
	}
	return o
}

// pending reads the outbox as a process, and wants what waits to be the same.
func (w *twins) pending(one *twin) []event.Pending {
	ours, _ := w.behind(one, 0, 0, 100)
	if len(ours) > 1 { // the second page of two, as far as there is one
		theirs, more, err := one.outbox.Pending(w.Context(), 0, 1)
		require.NoError(w, err)
		require.True(w, more)
		rest, more := w.behind(one, theirs[0].Place, ours[0].Place, len(ours)-1)
		require.True(w, more)
		require.Len(w, rest, len(ours)-1)
	}
	return ours
}

// behind reads the outbox behind a place, as each of the two counts them.
func (w *twins) behind(one *twin, there, here int64, most int) ([]event.Pending, bool) {
	theirs, more, err := one.outbox.Pending(w.Context(), there, most)
	require.NoError(w, err)
	ours, ourMore := w.model.pending(one.owned(), here, most)
	require.Equal(w, more, ourMore)
	var a, b []event.Pending
	for _, p := range theirs {
		a = append(a, timeless(p))
		w.kept[p.ID] = p
	}
	for _, p := range ours {
		b = append(b, timeless(p))
	}
	require.Equal(w, a, b)
	return ours, more
}

// timeless is an event without what the two databases' clocks tell of it.
func timeless(p event.Pending) event.Pending {
	p.CreatedAt, p.ReadAt, p.PreviousID, p.Place = time.Time{}, time.Time{}, "", 0 // the last two are nobody's business
	if !p.PreviousAt.IsZero() {
		p.PreviousAt = time.Unix(0, 0)
	}
	return p
}

const twinEpoch = "CODAT_PUSH@2026"

// publish records some of what waits as published, also as a process that has lost
// its leases meanwhile.
func (w *twins) publish(rt *rapid.T) {
	waiting := w.pending(w.one(rt))
	var sent []event.Sent
	for i := range waiting {
		if rapid.IntRange(0, 3).Draw(rt, "acknowledged") > 0 {
			w.next++
			sent = append(sent, event.Sent{Pending: &waiting[i], Epoch: twinEpoch, Sequence: w.next, At: time.Now()})
		}
	}
	one := w.one(rt)
	ours := w.model.markSent(one.owned(), sent)
	for _, s := range sent {
		kept := w.kept[s.Pending.ID]
		s.Pending.CreatedAt, s.Pending.Place = kept.CreatedAt, kept.Place
	}
	theirs, err := one.outbox.Sent(w.Context(), sent)
	require.NoError(w, err)
	require.Equal(w, theirs, ours)
}

// lose makes published events of one operation pending again.
func (w *twins) lose(rt *rapid.T) {
	one := w.one(rt)
	w.published(one)
	name := id{twinCompany, fmt.Sprintf("k%d", rapid.IntRange(1, 5).Draw(rt, "operation"))}
	lost := []event.Lost{{Operation: event.Operation{CompanyID: name.company, Key: name.key, Bucket: w.model.bucketOf(name)},
		Above: int64(rapid.IntRange(0, 3).Draw(rt, "above"))}}
	n, err := one.outbox.Requeue(w.Context(), lost, 0)
	ours, err2 := w.model.requeue(one.owned(), lost, 0)
	w.same(err, err2)
	require.Equal(w, n, ours)
	w.pending(one)
}

func (w *twins) published(one *twin) {
	bare := func(all []event.Kept) (bare []event.Kept) {
		for _, k := range all {
			k.PublishedAt = time.Time{}
			bare = append(bare, k)
		}
		return bare
	}
	newest, err := one.outbox.Newest(w.Context(), 0, 4)
	require.NoError(w, err)
	require.Equal(w, bare(newest), bare(w.model.newest(one.owned(), 0, 4)))
	after, err := one.outbox.After(w.Context(), event.Kept{}, 0, 3)
	require.NoError(w, err)
	require.Equal(w, bare(after), bare(w.model.behind(event.Kept{}, one.owned(), 0, 3)))
}

func (w *twins) reject(rt *rapid.T) {
	waiting := w.pending(w.one(rt))
	if len(waiting) == 0 || rapid.IntRange(0, 3).Draw(rt, "reject") > 0 {
		return
	}
	one, p := w.one(rt), rapid.SampledFrom(waiting).Draw(rt, "event")
	theirs, theirErr := one.outbox.Reject(w.Context(), p, "class", "detail")
	ours, ourErr := w.model.reject(one.owned(), p, "class")
	w.same(theirErr, ourErr)
	require.Equal(w, ours, theirs)
}

func (w *twins) inherit(rt *rapid.T) {
	one := w.one(rt)
	theirs, err := one.outbox.Heirs(w.Context(), 10)
	require.NoError(w, err)
	ours := w.model.heirs(one.owned(), 10)
	require.ElementsMatch(w, theirs, ours)
	if len(ours) > 0 && rapid.Bool().Draw(rt, "settle") {
		one = w.one(rt)
		require.NoError(w, one.outbox.Settle(w.Context(), ours[:1]))
		w.model.settle(one.owned(), ours[:1])
	}
}

// adopt finds events in the stream that no database here has made, of an operation that
// is stored: from its beginning, or where what is stored ends.
func (w *twins) adopt(rt *rapid.T) {
	key := fmt.Sprintf("k%d", rapid.IntRange(1, 5).Draw(rt, "operation"))
	stored := w.model.companies[twinCompany].ops[key]
	if stored == nil {
		return
	}
	number := int(key[1] - '0')
	firstVersion := int64(rapid.IntRange(1, 3).Draw(rt, "first"))
	var there []event.Foreign
	for i := range int64(rapid.IntRange(1, 2).Draw(rt, "events")) {
		e := event.New("deadbeef", w.operation(rt, number), firstVersion+i)
		e.ObservedAt, e.Source = event.Timestamp(w.clock), push.FromList
		var previous push.Status
		switch at := slices.IndexFunc(stored.history, func(e event.Event) bool { return e.Version == firstVersion-1 }); {
		case i > 0:
			previous = there[i-1].Event.Status
		case at >= 0 && rapid.IntRange(0, 3).Draw(rt, "fits") > 0:
			previous = stored.history[at].Status
		}
		if e.Status == previous {
			return
		}
		if previous != "" {
			e.PreviousStatus = &previous
		}
		w.next++
		there = append(there, event.Foreign{Event: e, Sequence: w.next, StoredAt: w.clock})
	}
	one, name := w.one(rt), id{twinCompany, key}
	op := event.Operation{CompanyID: twinCompany, Key: key, Bucket: w.model.bucketOf(name)}
	theirs, err1 := one.outbox.Adopt(w.Context(), op, twinEpoch, there)
	ours, err2 := w.model.adopt(one.owned(), op, twinEpoch, there)
	if w.same(err1, err2) {
		require.Equal(w, theirs, ours)
		w.aged = w.aged || ours && firstVersion > 1 && stored.history[0].Version == firstVersion
	}
	w.pending(one)
}

func (w *twins) count(rt *rapid.T) {
	day := time.Date(2026, 11, rapid.IntRange(24, 25).Draw(rt, "day"), 0, 0, 0, 0, time.UTC)
	add := rapid.IntRange(0, 3).Draw(rt, "requests")
	var theirs push.Quota
	rule := func(_ time.Time, q *push.Quota) {
		q.Used += add
		q.BlockedUntil = w.clock
		theirs = *q
	}
	require.NoError(w, w.one(rt).store.UpdateQuota(w.Context(), day, rule))
	after := theirs
	_, ours := w.model.updateQuota(day, rule)
	require.Equal(w, after.Used, ours.Used)
	require.Equal(w, after.Day, ours.Day)
}

// compare wants every row to be the same.
func (w *twins) compare() {
	const operations = `
select push_operation_key || ' ' || status || ' ' || versions || ' ' || is_baseline || ' ' || subject_data_type || ' ' ||
       coalesce(disputed_status, '') || ' ' || looked_at || ' ' || coalesce(disputed_at::text, '') || ' ' || coalesce(undecided_at::text, '') || ' ' ||
       first_seen_at || ' ' || last_changed_at
from pushwatch.operation`
	const transitions = `
select push_operation_key || ' ' || version || ' ' || event_id || ' ' || coalesce(previous_status, '') || ' ' || status || ' ' || source || ' ' ||
       is_baseline || ' ' || observed_at || ' ' || coalesce(last_seen_previous_at::text, '')
from pushwatch.transition`
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return strings.TrimSuffix(strings.TrimRight(t.Format("2006-01-02 15:04:05.000000"), "0"), ".") + "+00"
	}
	var ops, changes []string
	for key, o := range w.model.companies[twinCompany].ops {
		ops = append(ops, fmt.Sprintf("%s %s %d %t %s %s %s %s %s %s %s", key, o.Status, o.versions, o.baseline, o.subjectDataType,
			o.known.DisputedStatus, at(o.known.LookedAt), at(o.known.DisputedAt), at(o.known.UndecidedAt),
			at(o.firstSeenAt), at(o.lastChangedAt)))
		for _, e := range o.history {
			var previous push.Status
			var seen time.Time
			if e.PreviousStatus != nil {
				previous = *e.PreviousStatus
			}
			if e.LastSeenPreviousAt != nil {
				seen = e.LastSeenPreviousAt.Time()
			}
			changes = append(changes, fmt.Sprintf("%s %d %s %s %s %s %t %s %s", key, e.Version, e.ID, previous, e.Status, e.Source, e.Baseline,
				at(e.ObservedAt.Time()), at(seen)))
		}
	}
	for q, ours := range map[string][]string{operations: ops, transitions: changes} {
		rows, err := w.conn.Query(w.Context(), q)
		require.NoError(w, err)
		theirs, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(w, err)
		require.ElementsMatch(w, theirs, ours)
	}
	for _, one := range w.each {
		w.pending(one)
		w.published(one)
	}
}
