package store

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// buckets is the number of hash buckets of the outbox, fixed for ever.
const buckets = 64

// bucketOf returns the bucket of an operation.
func bucketOf(companyID, key string) int16 {
	digest := sha256.Sum256([]byte(companyID + "\x00" + key))
	return int16(digest[0] % buckets)
}

// sight is one operation of a look with what is stored of it, and what the rule
// makes of the two.
type sight struct {
	seen     push.Row
	op       push.Operation // read whole when it comes to be written
	stored   *push.Known    // nil: unknown
	verdict  push.Verdict
	baseline bool

	versions        int64 // after this look
	subjectDataType string
	lastSeenBefore  time.Time
}

// read reads the operation whole, if anything of it is to be written.
func (t *sight) read() {
	switch t.verdict {
	case push.Stale, push.Disputed, push.Undecided:
		return
	}
	if t.op = t.seen.Read(); t.verdict == push.First {
		t.subjectDataType = t.op.DataType
	}
}

// fingerprint is what the row keeps to be compared with: what it tells, in 16 bytes,
// and the bytes that told it, in 16.
func (t *sight) fingerprint() []byte { return append(t.op.Fingerprint(), t.seen.Digest[:]...) }

// eventful reports whether the sight gets a version, a transition and an event.
func (t *sight) eventful(publishBaseline bool) bool {
	return t.verdict == push.Changed || t.verdict == push.First && (!t.baseline || publishBaseline)
}

// keep decides and writes what differs: lock, judge, write, each in key order, so
// that two looks at one company cannot deadlock.
func (s *Store) keep(ctx context.Context, tx pgx.Tx, r push.Record, before known, recorded *push.Recorded) error {
	company, err := readCompany(ctx, tx, r)
	if err != nil {
		return err
	}
	stored, err := lock(ctx, tx, r.Company.ID, before.stored)
	if err != nil {
		return err
	}
	sights := make([]*sight, len(before.differs))
	for i, row := range before.differs {
		sights[i] = s.judge(r, company, row, stored[row.Key])
	}
	if err := lastSeen(ctx, tx, r, sights); err != nil {
		return err
	}
	if err := s.write(ctx, tx, r, sights); err != nil {
		return err
	}
	for _, t := range sights {
		switch t.verdict {
		case push.First:
			recorded.First++
		case push.Changed:
			recorded.Changed++
		case push.Disputed:
			recorded.Disputed = append(recorded.Disputed, t.seen.Key)
		}
		recorded.Flags = append(recorded.Flags, t.op.Flags...)
		if t.eventful(s.config.PublishBaseline) {
			recorded.Events++
			edge := push.Edge{To: t.seen.Status, Baseline: t.baseline, CompletedOn: t.op.CompletedOn}
			if t.stored != nil {
				edge.From = t.stored.Status
			}
			recorded.Edges = append(recorded.Edges, edge)
		}
	}
	return nil
}

// companyState is what judging a first sight needs of the company.
type companyState struct {
	firstLook  time.Time // on Codat's clock
	discovered time.Time
}

func readCompany(ctx context.Context, tx pgx.Tx, r push.Record) (companyState, error) {
	const q = `
select coalesce(first_look_server_at, first_look_at + $2::interval), discovered_at
from pushwatch.company where company_id = $1::text`
	var firstLook, discovered *time.Time
	err := tx.QueryRow(ctx, q, r.Company.ID, r.Page.ServerAhead).Scan(&firstLook, &discovered)
	return companyState{firstLook: timeOf(firstLook), discovered: timeOf(discovered)}, err
}

func keysOf(rows []push.Row) []string {
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = row.Key
	}
	return keys
}

// lockedRow is a stored operation under lock.
type lockedRow struct {
	known           push.Known
	versions        int64
	baseline        bool
	subjectDataType string
}

// lock locks the rows of known operations, in key order, so that two looks cannot
// deadlock. A key that nobody has yet cannot be locked: two looks that find it at
// once meet at the insert in write, where the later one fails on the primary key
// and is tried again as a whole, to find the row then.
func lock(ctx context.Context, tx pgx.Tx, companyID string, keys []string) (map[string]lockedRow, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	// "for no key update": the rule reads and then writes the row, and no other
	// look may do so in between. Order as above.
	const q = `
select push_operation_key, status, looked_at, coalesce(disputed_status, ''), disputed_at, undecided_at, versions, is_baseline, subject_data_type
from pushwatch.operation
where company_id = $1::text and push_operation_key = any($2::text[])
order by push_operation_key
for no key update`
	rows, err := tx.Query(ctx, q, companyID, keys)
	if err != nil {
		return nil, err
	}
	locked := make(map[string]lockedRow, len(keys))
	var key string
	var row lockedRow
	var disputedAt, undecidedAt *time.Time
	dest := []any{&key, &row.known.Status, &row.known.LookedAt, &row.known.DisputedStatus, &disputedAt, &undecidedAt,
		&row.versions, &row.baseline, &row.subjectDataType}
	_, err = pgx.ForEachRow(rows, dest, func() error {
		row.known.LookedAt, row.known.DisputedAt, row.known.UndecidedAt = row.known.LookedAt.UTC(), timeOf(disputedAt), timeOf(undecidedAt)
		locked[key] = row
		return nil
	})
	return locked, err
}

// judge applies the rule of package push to a locked row.
func (s *Store) judge(r push.Record, company companyState, seen push.Row, row lockedRow) *sight {
	t := &sight{seen: seen}
	if row.versions > 0 || row.known.Status != "" {
		t.stored = &row.known
	}
	t.verdict = push.Observe(t.stored, push.Sight{Status: seen.Status, LookedAt: push.Time(r.Page.StartedAt), Source: r.Page.Source})
	if t.verdict == push.Disputed && fault.Off(fault.Dispute) || t.verdict == push.Stale && fault.Off(fault.Stale) {
		t.verdict = push.Changed
	}
	t.versions, t.baseline, t.subjectDataType = row.versions, row.baseline, row.subjectDataType
	if t.verdict == push.First {
		t.baseline = isBaseline(r, company, seen)
		if !t.baseline {
			t.lastSeenBefore = company.discovered
		}
	}
	if t.eventful(s.config.PublishBaseline) {
		t.versions++
	}
	return t
}

// isBaseline reports whether an operation was requested before the company's
// first look. Without a usable request date its completion tells, or else that
// the walk of the baseline brought it.
func isBaseline(r push.Record, company companyState, seen push.Row) bool {
	switch {
	case company.firstLook.IsZero():
		return false
	case !seen.RequestedOn.IsZero():
		return seen.RequestedOn.Before(company.firstLook)
	}
	if completed := seen.Read().CompletedOn; !completed.IsZero() && completed.Before(company.firstLook) {
		return true
	}
	return r.Walk != nil && r.Walk.Kind == push.WalkBaseline
}

// lastSeen finds, for each change, the latest start of a look that still showed
// the previous state: the look that wrote the row, the operation's own gets, or a
// list that reached its requestedOn; never this look or one since a dispute arose.
func lastSeen(ctx context.Context, tx pgx.Tx, r push.Record, sights []*sight) error {
	byKey := map[string]*sight{}
	var keys []string
	var before []time.Time
	for _, t := range sights {
		if t.verdict != push.Changed {
			continue
		}
		bound := r.Page.StartedAt
		if r.Walk != nil && r.Walk.StartedAt.Before(bound) {
			bound = r.Walk.StartedAt
		}
		if !t.stored.DisputedAt.IsZero() && t.stored.DisputedAt.Before(bound) {
			bound = t.stored.DisputedAt
		}
		byKey[t.seen.Key] = t
		keys, before = append(keys, t.seen.Key), append(before, bound)
	}
	if len(keys) == 0 {
		return nil
	}
	const q = `
select o.push_operation_key, greatest(o.looked_at, o.got_at, case when o.is_terminal then
       (select max(l.looked_at) from pushwatch.company_look l
        where l.company_id = o.company_id and l.looked_at < b.before
          and (l.reached_at = '-infinity' or l.reached_at < o.requested_at)) end)
from unnest($2::text[], $3::timestamptz[]) as b(key, before)
join pushwatch.operation o on o.company_id = $1::text and o.push_operation_key = b.key`
	rows, err := tx.Query(ctx, q, r.Company.ID, keys, before)
	if err != nil {
		return err
	}
	var key string
	var at time.Time
	_, err = pgx.ForEachRow(rows, []any{&key, &at}, func() error {
		byKey[key].lastSeenBefore = at.UTC()
		return nil
	})
	return err
}

// written is how many operations of a page go to the database at once: few enough
// that much of a page is rendered while another part of it is written.
const written = 500

// write puts the verdicts into the tables: operations, then for every change its
// transition and its event. While PostgreSQL writes one part of the page the next one
// is read whole and rendered, by the caller: what a record makes that panic with comes
// to whoever guards the company's run, when the transaction is at rest.
func (s *Store) write(ctx context.Context, tx pgx.Tx, r push.Record, sights []*sight) (err error) {
	sending, ctx := errgroup.WithContext(ctx)
	rendered := make(chan *pgx.Batch)
	defer func() {
		close(rendered)
		if failed := sending.Wait(); failed != nil {
			err = failed
		}
	}()
	sending.Go(func() error {
		for batch := range rendered {
			if err := tx.SendBatch(ctx, batch).Close(); err != nil {
				return err
			}
		}
		return nil
	})
	for part := range slices.Chunk(sights, written) {
		var batch pgx.Batch
		for _, t := range part {
			t.read()
		}
		if err := queueOperations(&batch, r, part); err != nil {
			return err
		}
		if err := s.queueEvents(&batch, r, part); err != nil {
			return err
		}
		if batch.Len() == 0 {
			continue
		}
		select {
		case rendered <- &batch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// queueEvents renders the events and queues transitions and outbox rows. A
// transition copies its operation's row as just written, so that it keeps every
// field of its event's body.
func (s *Store) queueEvents(batch *pgx.Batch, r push.Record, sights []*sight) error {
	var c eventColumns
	for _, t := range sights {
		if !t.eventful(s.config.PublishBaseline) {
			continue
		}
		e := s.render(r, t)
		message, err := event.Encode(s.config.SubjectPrefix, t.subjectDataType, e)
		if err != nil {
			return err
		}
		if err := c.add(s.instance, t, e, message); err != nil {
			return err
		}
	}
	if len(c.keys) == 0 {
		return nil
	}
	const transitions = `
insert into pushwatch.transition (company_id, push_operation_key, version, event_id, event, connection_id, data_type,
    subject_data_type, previous_status, status, status_code, error_message, validation, changes, requested_at,
    completed_at, timeout_minutes, observed_at, last_seen_previous_at, source, is_baseline)
select o.company_id, o.push_operation_key, e.version, e.event_id, e.event, o.connection_id, o.data_type,
    o.subject_data_type, e.previous_status, o.status, o.status_code, o.error_message, o.validation, o.changes,
    o.requested_at, o.completed_at, o.timeout_minutes, $2::timestamptz, e.last_seen, $3::text, e.baseline
from unnest($4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::boolean[])
    as e(key, version, event_id, event, previous_status, last_seen, baseline)
join pushwatch.operation o on o.company_id = $1::text and o.push_operation_key = e.key`
	batch.Queue(transitions, r.Company.ID, r.Page.FinishedAt, string(r.Page.Source),
		c.keys, c.versions, c.ids, c.names, c.previous, c.lastSeen, c.baseline)
	const outbox = `
insert into pushwatch.outbox (company_id, push_operation_key, version, bucket, event_id, previous_event_id,
    subject, filter, header, payload, created_at)
select $1::text, key, version, bucket, event_id, previous_event_id, subject, filter, header::jsonb, payload,
    pg_catalog.clock_timestamp()
from unnest($2::text[], $3::bigint[], $4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::bytea[])
    as e(key, version, bucket, event_id, previous_event_id, subject, filter, header, payload)`
	arguments := []any{r.Company.ID, c.keys, c.versions, c.buckets, c.ids, c.previousIDs, c.subjects, c.filters, c.headers, c.payloads}
	if fault.Off(fault.OneCommit) {
		go s.afterwards(outbox, arguments...)
		return nil
	}
	batch.Queue(outbox, arguments...)
	return nil
}

// render returns the event of a change.
func (s *Store) render(r push.Record, t *sight) event.Event {
	e := event.New(s.instance, t.op, t.versions)
	if t.stored != nil {
		previous := t.stored.Status
		e.PreviousStatus = &previous
	}
	e.ObservedAt = event.Timestamp(push.Time(r.Page.FinishedAt))
	e.LastSeenPreviousAt = event.At(t.lastSeenBefore)
	e.Source = r.Page.Source
	e.Baseline = t.verdict == push.First && t.baseline
	return s.redact(e)
}

// redact returns the event as the configuration lets it be told.
func (s *Store) redact(e event.Event) event.Event {
	if s.config.Redacted {
		e.ErrorMessage, e.Validation = nil, withoutMessages(e.Validation)
	}
	return e
}

// withoutMessages returns the validation with every message left out.
func withoutMessages(v *push.Validation) *push.Validation {
	if v == nil {
		return nil
	}
	strip := func(items []push.ValidationItem) []push.ValidationItem {
		if items == nil {
			return nil
		}
		bare := make([]push.ValidationItem, len(items))
		for i, item := range items {
			bare[i] = push.ValidationItem{ItemID: item.ItemID, ValidatorName: item.ValidatorName}
		}
		return bare
	}
	return &push.Validation{Errors: strip(v.Errors), Warnings: strip(v.Warnings)}
}

// eventColumns gathers transitions and outbox rows, column by column.
type eventColumns struct {
	keys, ids, names, subjects, filters, headers []string
	versions                                     []int64
	buckets                                      []int16
	previous, previousIDs                        []*string
	lastSeen                                     []*time.Time
	baseline                                     []bool
	payloads                                     [][]byte
}

func (c *eventColumns) add(instance string, t *sight, e event.Event, m event.Message) error {
	header, err := json.Marshal(m.Header)
	if err != nil {
		return fmt.Errorf("encode headers of event %s: %w", m.ID, err)
	}
	var previousID *string
	if t.versions > 1 {
		id := event.ID(instance, e.CompanyID, t.seen.Key, t.versions-1)
		previousID = &id
	}
	c.keys, c.ids, c.names = append(c.keys, t.seen.Key), append(c.ids, m.ID), append(c.names, e.Event)
	c.subjects, c.filters, c.headers = append(c.subjects, m.Subject), append(c.filters, m.Filter), append(c.headers, string(header))
	c.versions, c.buckets = append(c.versions, t.versions), append(c.buckets, bucketOf(e.CompanyID, t.seen.Key))
	c.previous, c.previousIDs = append(c.previous, (*string)(e.PreviousStatus)), append(c.previousIDs, previousID)
	c.lastSeen, c.baseline = append(c.lastSeen, nullable(t.lastSeenBefore)), append(c.baseline, e.Baseline)
	c.payloads = append(c.payloads, m.Data)
	return nil
}
