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

// parked is added to versions while they move, so that no two of an operation
// are the same meanwhile.
const parked = 1 << 40

// Adopt puts those events of an operation that wait behind others of it that are in
// the stream, and that this database does not know: an earlier database published
// them, or commits that this one, an older copy, has lost. Those become transitions,
// with their ids and sequences in the stream epoch; its own follow with the next
// versions, each from the status before it; the ones that only repeat the status
// before them are dropped, because the stream tells it already. One that has no
// version at all takes version and status from the last of the messages, and is then
// compared with what was seen of it like any stored row.
//
// The messages are one history: all that there is, where nothing of the operation was
// published from here; else those that begin where what was published ends. It returns
// false, and changes nothing, when they are not, or when something of the operation
// was set aside.
//
// It is the one place that changes a transition: none of those that it changes
// was ever told to anybody. If we crash before the commit, the relay meets the
// same message again.
func (o *Outbox) Adopt(ctx context.Context, op event.Operation, epoch string, there []event.Foreign) (bool, error) {
	var adopted bool
	err := o.fenced(ctx, op.Bucket, func(ctx context.Context, tx pgx.Tx) (err error) {
		adopted, err = o.store.adopt(ctx, tx, op, epoch, there)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("adopt operation %s of company %s: %w", op.Key, op.CompanyID, err)
	}
	return adopted, nil
}

func (s *Store) adopt(ctx context.Context, tx pgx.Tx, op event.Operation, epoch string, there []event.Foreign) (bool, error) {
	has, err := lockHeir(ctx, tx, op)
	if err != nil {
		return false, err
	}
	own, aside, err := ownEvents(ctx, tx, op)
	if err != nil || aside || !waiting(own, has.versions) || !history(there) || !follows(there[0].Event, own) {
		return false, err
	}
	const park = `
update pushwatch.%s set version = version + $3::bigint
where company_id = $1::text and push_operation_key = $2::text and version > $4::bigint`
	told := has.versions - int64(len(own))
	for _, table := range []string{"transition", "outbox"} {
		if _, err := tx.Exec(ctx, fmt.Sprintf(park, table), op.CompanyID, op.Key, int64(parked), told); err != nil {
			return false, err
		}
	}
	var batch pgx.Batch
	queueForeign(&batch, op, has.subjectDataType, epoch, there)
	before := there[len(there)-1].Event
	last, err := s.queueMoves(&batch, op, has.subjectDataType, before, own)
	if err == nil && len(own) == 0 {
		last, err = s.queueComparison(&batch, has, before)
	}
	if err != nil {
		return false, err
	}
	batch.Queue(`
update pushwatch.operation set versions = $3::bigint
where company_id = $1::text and push_operation_key = $2::text`, op.CompanyID, op.Key, last)
	return true, tx.SendBatch(ctx, &batch).Close()
}

// ownEvents returns the operation's events that wait, in order, and whether one of
// them was set aside.
func ownEvents(ctx context.Context, tx pgx.Tx, op event.Operation) (own []event.Event, aside bool, err error) {
	const q = `
select payload, rejected_class is not null from pushwatch.outbox
where company_id = $1::text and push_operation_key = $2::text
order by version`
	rows, err := tx.Query(ctx, q, op.CompanyID, op.Key)
	if err != nil {
		return nil, false, err
	}
	own, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e event.Event, err error) {
		var body []byte
		var rejected bool
		if err := row.Scan(&body, &rejected); err != nil {
			return e, err
		}
		aside = aside || rejected
		return e, json.Unmarshal(body, &e)
	})
	return own, aside, err
}

// waiting reports whether own are all the events of an operation that were not
// published, of the given number of versions. Nothing waits where there is none.
func waiting(own []event.Event, versions int64) bool {
	for i, e := range own {
		if e.Version != versions-int64(len(own)-1-i) {
			return false
		}
	}
	return len(own) > 0 || versions == 0
}

// follows reports whether a message goes on where the events before the own ones end.
// Where there are none it may begin anywhere.
func follows(there event.Event, own []event.Event) bool {
	if len(own) == 0 || own[0].Version == 1 {
		return true
	}
	before, its := own[0].PreviousStatus, there.PreviousStatus
	return there.Version == own[0].Version && before != nil && its != nil && *before == *its
}

// history reports whether messages are the gapless events of one operation. The
// first may have left the stream by their age.
func history(messages []event.Foreign) bool {
	for i, m := range messages {
		if m.Event.Version < 1 || i > 0 && m.Event.Version != messages[i-1].Event.Version+1 {
			return false
		}
	}
	return len(messages) > 0
}

// queueMoves queues the move of the own events behind before, and returns the
// operation's last version.
func (s *Store) queueMoves(batch *pgx.Batch, op event.Operation, dataType string, before event.Event, own []event.Event) (int64, error) {
	const drop = `
delete from pushwatch.%s
where company_id = $1::text and push_operation_key = $2::text and version = $3::bigint`
	for _, e := range own {
		from := e.Version + parked
		if e.Status == before.Status {
			batch.Queue(fmt.Sprintf(drop, "outbox"), op.CompanyID, op.Key, from)
			batch.Queue(fmt.Sprintf(drop, "transition"), op.CompanyID, op.Key, from)
			continue
		}
		previous := before.Status
		e.Version, e.PreviousStatus, e.Baseline = before.Version+1, &previous, false
		e.ID = event.ID(s.instance, op.CompanyID, op.Key, e.Version)
		m, err := event.Encode(s.config.SubjectPrefix, dataType, e)
		if err != nil {
			return 0, err
		}
		header, err := json.Marshal(m.Header)
		if err != nil {
			return 0, fmt.Errorf("encode headers of event %s: %w", m.ID, err)
		}
		batch.Queue(`
update pushwatch.transition set version = $4::bigint, event_id = $5::text, previous_status = $6::text, is_baseline = false
where company_id = $1::text and push_operation_key = $2::text and version = $3::bigint`,
			op.CompanyID, op.Key, from, e.Version, e.ID, string(previous))
		batch.Queue(`
update pushwatch.outbox set version = $4::bigint, event_id = $5::text, previous_event_id = $6::text, header = $7::jsonb,
    payload = $8::bytea
where company_id = $1::text and push_operation_key = $2::text and version = $3::bigint`,
			op.CompanyID, op.Key, from, e.Version, e.ID, before.ID, string(header), m.Data)
		before = e
	}
	return before.Version, nil
}

// queueForeign queues the events of the earlier database, as published.
func queueForeign(batch *pgx.Batch, op event.Operation, dataType, epoch string, there []event.Foreign) {
	batch.Queue(`insert into pushwatch.stream (epoch) values ($1::text) on conflict (epoch) do nothing`, epoch)
	const transition = `
insert into pushwatch.transition (company_id, push_operation_key, version, event_id, event, connection_id, data_type,
    subject_data_type, previous_status, status, status_code, error_message, validation, changes, requested_at,
    completed_at, timeout_minutes, observed_at, last_seen_previous_at, source, is_baseline)
values ($1::text, $2::text, $3::bigint, $4::text, $5::text, coalesce($6::text, ''), $7::text, $8::text, $9::text, $10::text,
    $11::bigint, $12::text, $13::jsonb, $14::jsonb, $15::timestamptz, $16::timestamptz, $17::bigint, $18::timestamptz,
    $19::timestamptz, $20::text, $21::boolean)`
	const publication = `
insert into pushwatch.publication (company_id, push_operation_key, version, stream_id, stream_sequence, published_at)
select $1::text, $2::text, $3::bigint, stream_id, $4::bigint, $5::timestamptz from pushwatch.stream where epoch = $6::text`
	for _, m := range there {
		e := m.Event
		batch.Queue(transition, op.CompanyID, op.Key, e.Version, e.ID, e.Event, e.ConnectionID, e.DataType, dataType,
			(*string)(e.PreviousStatus), string(e.Status), wide(e.StatusCode), e.ErrorMessage, jsonOf(e.Validation),
			jsonOf(e.Changes), stamp(e.RequestedOn), stamp(e.CompletedOn), wide(e.TimeoutInMinutes), e.ObservedAt.Time(),
			stamp(e.LastSeenPreviousAt), string(e.Source), e.Baseline)
		batch.Queue(publication, op.CompanyID, op.Key, e.Version, int64(m.Sequence), m.StoredAt, epoch)
	}
}

// jsonOf returns v as JSON, nil for none. What was decoded from JSON encodes.
func jsonOf[T *push.Validation | []push.Change](v T) *string {
	if v == nil {
		return nil
	}
	text, _ := json.Marshal(v)
	s := string(text)
	return &s
}

func stamp(t *event.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.Time()
	return &at
}
