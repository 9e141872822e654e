package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// AsideKind says what was set aside.
type AsideKind string

// Records could not be decoded or stored; events can never be published as they
// are.
const (
	AsideRecord AsideKind = "record"
	AsideEvent  AsideKind = "event"
)

// AsideID is the short, stable name of something that was set aside: "r12" for a
// record, "e345" for an event.
type AsideID string

// ParseAsideID takes apart what a user typed.
func ParseAsideID(id string) (kind AsideKind, number int64, err error) {
	if len(id) > 1 {
		number, err = strconv.ParseInt(id[1:], 10, 64)
		switch {
		case err != nil || number < 1:
		case id[0] == 'r':
			return AsideRecord, number, nil
		case id[0] == 'e':
			return AsideEvent, number, nil
		}
	}
	return "", 0, fmt.Errorf("%q is no id of the quarantine; ids look like r12 (a record) or e345 (an event)", id)
}

// Aside is a record or an event that was set aside.
type Aside struct {
	ID        AsideID    `json:"id"`
	Kind      AsideKind  `json:"kind"`
	CompanyID string     `json:"companyId"`
	Company   string     `json:"companyName"`
	Key       string     `json:"pushOperationKey"` // empty when it could not be read
	Class     string     `json:"class"`
	Detail    string     `json:"detail"`
	FirstAt   time.Time  `json:"firstAt"`   // first seen, or rejected
	LastAt    time.Time  `json:"lastAt"`    // last seen; of an event as FirstAt
	Times     int64      `json:"times"`     // how often it was seen; 1 for an event
	RetriedAt *time.Time `json:"retriedAt"` // of a record without a key: waits for a walk since then

	EventID  string `json:"eventId"` // of an event, as the next three
	Version  int64  `json:"version"`
	Subject  string `json:"subject"`
	Behind   int64  `json:"behind"`   // later events of the operation that wait behind it
	Size     int64  `json:"size"`     // bytes of the body
	Body     string `json:"body"`     // only of ShowAside: the record, sanitised and cut, or the event
	BodyHash string `json:"bodyHash"` // of a record: SHA-256 of its raw bytes, in hex
}

// AsideFilter says which of what was set aside is meant; empty fields take all.
type AsideFilter struct {
	CompanyID string
	Key       string
	Class     string
	IDs       []AsideID // nil: all; an unknown one matches nothing
}

// asideRows lists records and events in one shape. Bodies are left out, because
// there may be gigabytes of them.
const asideRows = `
select 'r' || q.id as id, 'record' as kind, q.company_id, coalesce(q.push_operation_key, '') as key, q.class, q.detail,
       q.first_seen_at as first_at, q.last_seen_at as last_at, q.times, q.retried_at,
       '' as event_id, 0::bigint as version, '' as subject, octet_length(q.body)::bigint as size, 0::bigint as behind,
       pg_catalog.encode(q.body_hash, 'hex') as body_hash
from pushwatch.quarantine q
where q.dropped_at is null
union all
select 'e' || o.id, 'event', o.company_id, o.push_operation_key, o.rejected_class, coalesce(o.rejected_detail, ''),
       o.rejected_at, o.rejected_at, 1, null, o.event_id, o.version, o.subject, octet_length(o.payload)::bigint,
       (select count(*) from pushwatch.outbox l where l.company_id = o.company_id
          and l.push_operation_key = o.push_operation_key and l.version > o.version),
       ''
from pushwatch.outbox o
where o.rejected_class is not null`

// EachAside calls fn with everything that is set aside and meant by filter, the
// newest first, without bodies, until fn returns an error. Limit bounds how many;
// 0 is all.
func (s *Store) EachAside(ctx context.Context, filter AsideFilter, limit int, fn func(Aside) error) error {
	const q = `
select a.id, a.kind, a.company_id, coalesce(c.name, ''), a.key, a.class, a.detail, a.first_at, a.last_at, a.times,
       a.retried_at, a.event_id, a.version, a.subject, a.size, a.behind, a.body_hash
from (` + asideRows + `) as a
left join pushwatch.company c on c.company_id = a.company_id
where ($1::text = '' or a.company_id = $1::text) and ($2::text = '' or a.class = $2::text)
  and ($3::text[] is null or a.id = any($3::text[])) and ($4::text = '' or a.key = $4::text)
order by a.last_at desc, a.id desc
limit nullif($5::integer, 0)`
	rows, err := s.pool.Query(ctx, q, filter.CompanyID, filter.Class, texts(filter.IDs), filter.Key, limit)
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	var a Aside
	_, err = pgx.ForEachRow(rows, []any{&a.ID, &a.Kind, &a.CompanyID, &a.Company, &a.Key, &a.Class, &a.Detail, &a.FirstAt, &a.LastAt,
		&a.Times, &a.RetriedAt, &a.EventID, &a.Version, &a.Subject, &a.Size, &a.Behind, &a.BodyHash}, func() error {
		inUTC(&a.FirstAt, &a.LastAt, a.RetriedAt)
		return fn(a)
	})
	if err != nil {
		return fmt.Errorf("list the quarantine: %w", err)
	}
	return nil
}

// ErrNotAside says that nothing of that id is set aside (any more).
var ErrNotAside = errors.New("not in the quarantine")

// ShowAside returns one of what is set aside, with its body.
func (s *Store) ShowAside(ctx context.Context, id AsideID) (Aside, error) {
	kind, number, err := ParseAsideID(string(id))
	if err != nil {
		return Aside{}, err
	}
	found, err := s.asides(ctx, AsideFilter{IDs: []AsideID{id}})
	if err != nil {
		return Aside{}, err
	}
	if len(found) == 0 {
		return Aside{}, fmt.Errorf("%s: %w", id, ErrNotAside)
	}
	q := `select body from pushwatch.quarantine where id = $1::bigint`
	if kind == AsideEvent {
		q = `select pg_catalog.convert_from(payload, 'UTF8') from pushwatch.outbox where id = $1::bigint`
	}
	if err := s.pool.QueryRow(ctx, q, number).Scan(&found[0].Body); err != nil {
		return Aside{}, fmt.Errorf("read %s of the quarantine: %w", id, err)
	}
	return found[0], nil
}

func (s *Store) asides(ctx context.Context, filter AsideFilter) ([]Aside, error) {
	var all []Aside
	err := s.EachAside(ctx, filter, 0, func(a Aside) error { all = append(all, a); return nil })
	return all, err
}

// RetryEvent puts a rejected event back into the outbox, in its operation's
// order. It needs no relay's lease: a rejected event is nobody's work.
//
// If the answer to the commit is lost, retrying again is as good as once.
func (s *Store) RetryEvent(ctx context.Context, id AsideID) error {
	const q = `
update pushwatch.outbox set rejected_class = null, rejected_detail = null, rejected_at = null
where id = $1::bigint and rejected_class is not null`
	return s.oneAside(ctx, "retry", id, AsideEvent, q)
}

// AwaitRecord notes that a record without a key, which nobody can ask for, is
// wanted again: the next walk that shows it ends the wait, and a finished sweep
// that does not ends its row (see [Store.Retain]).
func (s *Store) AwaitRecord(ctx context.Context, id AsideID) error {
	const q = `
update pushwatch.quarantine set retried_at = pg_catalog.clock_timestamp() where id = $1::bigint and dropped_at is null`
	return s.oneAside(ctx, "retry", id, AsideRecord, q)
}

// ResolveRecord ends the quarantine of a record that could be read after all.
func (s *Store) ResolveRecord(ctx context.Context, id AsideID) error {
	return s.oneAside(ctx, "resolve", id, AsideRecord, `delete from pushwatch.quarantine where id = $1::bigint`)
}

// DropAside gives up on what was set aside.
//
// Of a record the row stays without its body, so that the same bytes, seen again
// at every walk, stay dropped. An event leaves the outbox and is noted as a gap:
// its transition stays, its version is never published, and the later versions of
// its operation go on behind what the stream has of it. Nothing else moves, so
// the order holds.
func (s *Store) DropAside(ctx context.Context, id AsideID) error {
	kind, _, err := ParseAsideID(string(id))
	if err != nil {
		return err
	}
	if kind == AsideRecord {
		return s.oneAside(ctx, "drop", id, kind, `
update pushwatch.quarantine set dropped_at = pg_catalog.clock_timestamp(), body = '', retried_at = null
where id = $1::bigint and dropped_at is null`)
	}
	return s.oneAside(ctx, "drop", id, kind, `
with gone as (
    delete from pushwatch.outbox where id = $1::bigint and rejected_class is not null
    returning company_id, push_operation_key, version, event_id, rejected_class, coalesce(rejected_detail, '') as detail
)
insert into pushwatch.dropped_event (company_id, push_operation_key, version, event_id, class, detail, dropped_at)
select company_id, push_operation_key, version, event_id, rejected_class, detail, pg_catalog.clock_timestamp() from gone`)
}

// oneAside runs a statement about one row; none is ErrNotAside.
func (s *Store) oneAside(ctx context.Context, verb string, id AsideID, want AsideKind, q string) error {
	kind, number, err := ParseAsideID(string(id))
	if err == nil && kind != want {
		err = ErrNotAside
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", verb, id, err)
	}
	return s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		done, err := tx.Exec(ctx, q, number)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrNotAside
		}
		if err != nil {
			return fmt.Errorf("%s %s: %w", verb, id, err)
		}
		return nil
	})
}

// Borrow returns a company with the fence under which whoever holds its lease
// works now, for a look that a person asks for: looks are ordered by when they
// began, so one more beside the holder's harms nothing, and one that comes after
// a takeover is refused like every other. It reports false when no pushwatch has
// ever worked on the company.
func (s *Store) Borrow(ctx context.Context, companyID string) (push.Company, bool, error) {
	const q = `
select c.company_id, coalesce(c.name, ''), l.name, l.token
from pushwatch.company c
join pushwatch.lease l on l.name = $2::text
where c.company_id = $1::text`
	var c push.Company
	err := s.pool.QueryRow(ctx, q, companyID, CompanyLease(companyID)).Scan(&c.ID, &c.Name, &c.Fence.Lease, &c.Fence.Token)
	if errors.Is(err, pgx.ErrNoRows) {
		return c, false, nil
	}
	if err != nil {
		return c, false, fmt.Errorf("read company %s: %w", companyID, err)
	}
	return c, true, nil
}

// AsideCount is how much of one kind and class is set aside, or was dropped.
type AsideCount struct {
	Kind    AsideKind `json:"kind"`
	Class   string    `json:"class"`
	Aside   int64     `json:"aside"`
	Dropped int64     `json:"dropped"`
}

// CountAside counts what is set aside and what was dropped, by kind and class.
func (s *Store) CountAside(ctx context.Context) ([]AsideCount, error) {
	const q = `
select kind, class, sum(aside)::bigint, sum(dropped)::bigint
from (select 'record' as kind, class, count(*) filter (where dropped_at is null) as aside,
             count(*) filter (where dropped_at is not null) as dropped
      from pushwatch.quarantine group by class
      union all
      select 'event', rejected_class, count(*), 0 from pushwatch.outbox where rejected_class is not null group by rejected_class
      union all
      select 'event', class, 0, count(*) from pushwatch.dropped_event group by class) as counted
group by kind, class
order by kind, class`
	rows, err := s.pool.Query(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("count the quarantine: %w", err)
	}
	counts, err := pgx.CollectRows(rows, pgx.RowToStructByPos[AsideCount])
	if err != nil {
		return nil, fmt.Errorf("count the quarantine: %w", err)
	}
	return counts, nil
}

// texts returns ids as PostgreSQL takes them without a described statement.
func texts(ids []AsideID) []string {
	if ids == nil {
		return nil
	}
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = string(id)
	}
	return list
}
