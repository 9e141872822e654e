package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

// Selection says which transitions a replay takes: those that meet every part of
// it. An empty part is met by all.
type Selection struct {
	Companies []string  // ids
	DataTypes []string  // of the event's body; "_" is met where there is none
	Statuses  []string  // in any letter case
	Since     time.Time // observed then or later
	Until     time.Time // observed before
}

// CountReplay counts the transitions of a selection.
func (s *Store) CountReplay(ctx context.Context, of Selection) (int64, error) {
	const q = `select count(*) from pushwatch.transition t where ` + selected
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	var n int64
	if err := s.pool.QueryRow(ctx, q, of.arguments()...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count the history: %w", err)
	}
	return n, nil
}

// Statuses lists the statuses that the history holds, in order.
func (s *Store) Statuses(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	const q = `select distinct status from pushwatch.transition order by status`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("list the statuses of the history: %w", err)
	}
	statuses, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the statuses of the history: %w", err)
	}
	return statuses, nil
}

// selected is met by the transitions t of the selection $1 to $5.
const selected = `
(cardinality($1::text[]) = 0 or t.company_id = any($1::text[]))
and (cardinality($2::text[]) = 0 or coalesce(nullif(t.data_type, ''), '_') = any($2::text[]))
and (cardinality($3::text[]) = 0 or lower(t.status) in (select lower(s) from unnest($3::text[]) as s))
and ($4::timestamptz is null or t.observed_at >= $4::timestamptz)
and ($5::timestamptz is null or t.observed_at < $5::timestamptz)`

func (of Selection) arguments() []any {
	all := func(list []string) []string { return append([]string{}, list...) } // never null
	return []any{all(of.Companies), all(of.DataTypes), all(of.Statuses), nullable(of.Since), nullable(of.Until)}
}

// Replay reads a selection of the history in the order in which it is published
// again. It belongs to one goroutine, holds nothing of the database between two
// calls of Next, and keeps at most a page of keys in memory.
type Replay struct {
	store    *Store
	of       Selection
	prefix   string
	id       string
	keys     []replayKey // found and not yet read
	last     replayKey   // the last one found
	complete bool        // no more are to be found
	page     int         // how many keys are found at once
}

// replayKey is a place in the order of a replay.
type replayKey struct {
	at      time.Time
	company string
	key     string
	version int64
}

const (
	// replayKeys is how many keys are found at once. Each search reads the whole
	// selection, so they are many; each key is small.
	replayKeys    = 20_000
	replayTimeout = 5 * time.Minute // for one search of the whole history
)

// NewReplay returns a reader of the selection, whose events are rendered below
// the subject prefix as those of the replay with id.
func (s *Store) NewReplay(of Selection, prefix, id string) *Replay {
	return &Replay{store: s, of: of, prefix: prefix, id: id, page: replayKeys}
}

// Next returns the next events, at most max and none only at the end: in the
// order in which they were observed, those of one operation in the order of their
// versions. A failed call may be made again.
func (r *Replay) Next(ctx context.Context, max int) ([]event.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, replayTimeout)
	defer cancel()
	if len(r.keys) == 0 && !r.complete {
		if err := r.search(ctx); err != nil {
			return nil, fmt.Errorf("search the history: %w", err)
		}
	}
	keys := r.keys[:min(max, len(r.keys))]
	if len(keys) == 0 {
		return nil, nil
	}
	messages, err := r.read(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	r.keys = r.keys[len(keys):]
	return messages, nil
}

// search finds the keys that follow the last one.
//
// A look that took long is observed after one that began later, so a version may
// have been observed before the one that precedes it. It is replayed right after
// it: what orders a version is the latest observation of it and all before it.
func (r *Replay) search(ctx context.Context) error {
	const q = `
select t.ordered_at, t.company_id, t.push_operation_key, t.version
from (select company_id, push_operation_key, version, data_type, status, observed_at,
             max(observed_at) over (partition by company_id, push_operation_key order by version) as ordered_at
      from pushwatch.transition
      where cardinality($1::text[]) = 0 or company_id = any($1::text[])) as t
where ` + selected + `
and (t.ordered_at, t.company_id, t.push_operation_key, t.version) > ($6::timestamptz, $7::text collate "C", $8::text collate "C", $9::bigint)
order by t.ordered_at, t.company_id, t.push_operation_key, t.version
limit $10::integer`
	arguments := append(r.of.arguments(), r.last.at, r.last.company, r.last.key, r.last.version, r.page)
	rows, err := r.store.pool.Query(ctx, q, arguments...)
	if err != nil {
		return err
	}
	keys, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (k replayKey, err error) {
		err = row.Scan(&k.at, &k.company, &k.key, &k.version)
		return k, err
	})
	if err != nil {
		return err
	}
	r.complete = len(keys) < r.page
	if len(keys) > 0 {
		r.keys, r.last = keys, keys[len(keys)-1]
	}
	return nil
}

// read renders the events of keys, in their order.
func (r *Replay) read(ctx context.Context, keys []replayKey) ([]event.Message, error) {
	var companies, operations []string
	var versions []int64
	for _, k := range keys {
		companies, operations, versions = append(companies, k.company), append(operations, k.key), append(versions, k.version)
	}
	const q = `
select t.company_id, t.push_operation_key, t.version, t.event_id, t.event, t.connection_id, t.data_type,
       t.subject_data_type, t.previous_status, t.status, t.status_code, t.error_message, t.validation, t.changes,
       t.requested_at, t.completed_at, t.timeout_minutes, t.observed_at, t.last_seen_previous_at, t.source, t.is_baseline
from unnest($1::text[], $2::text[], $3::bigint[]) with ordinality as k(company_id, push_operation_key, version, place)
join pushwatch.transition t on t.company_id = k.company_id and t.push_operation_key = k.push_operation_key
     and t.version = k.version
order by k.place`
	rows, err := r.store.pool.Query(ctx, q, companies, operations, versions)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Message, error) {
		e, subjectDataType, err := scanEvent(row)
		if err != nil {
			return event.Message{}, err
		}
		return event.Encode(r.prefix, subjectDataType, event.Replayed(r.store.redact(e), r.id))
	})
}

// scanEvent reads a transition as the event that it made, whole: what the
// configuration hides is not hidden yet.
func scanEvent(row pgx.CollectableRow) (e event.Event, subjectDataType string, err error) {
	var op push.Operation
	var version int64
	var id, name string
	var dataType *string
	var previous *push.Status
	var validation, changes []byte
	var requested, completed, lastSeen *time.Time
	var observed time.Time
	var source push.Source
	var baseline bool
	err = row.Scan(&op.CompanyID, &op.Key, &version, &id, &name, &op.ConnectionID, &dataType,
		&subjectDataType, &previous, &op.Status, &op.StatusCode, &op.ErrorMessage, &validation, &changes,
		&requested, &completed, &op.TimeoutInMinutes, &observed, &lastSeen, &source, &baseline)
	if err != nil {
		return e, "", err
	}
	if dataType != nil {
		op.DataType = *dataType
	}
	if err := unlessNull(validation, &op.Validation); err != nil {
		return e, "", fmt.Errorf("validation of event %s: %w", id, err)
	}
	if err := unlessNull(changes, &op.Changes); err != nil {
		return e, "", fmt.Errorf("changes of event %s: %w", id, err)
	}
	op.RequestedOn, op.CompletedOn = timeOf(requested), timeOf(completed)
	e = event.New("", op, version)
	e.ID, e.Event = id, name
	switch name {
	case "stalled":
		e.Type = event.Stalled
	case "gone":
		e.Type = event.Gone
	}
	e.PreviousStatus, e.ObservedAt, e.LastSeenPreviousAt = previous, event.Timestamp(push.Time(observed)), event.At(timeOf(lastSeen))
	e.Source, e.Baseline = source, baseline
	return e, subjectDataType, nil
}

func unlessNull(document []byte, to any) error {
	if document == nil {
		return nil
	}
	return json.Unmarshal(document, to)
}
