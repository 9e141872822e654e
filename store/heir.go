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

// heir is an operation's row as locked for an adoption.
type heir struct {
	seen            push.Operation
	versions        int64
	subjectDataType string
	lookedAt        time.Time
	observedAt      time.Time // when the answer that first showed the status was complete
	source          push.Source
}

func lockHeir(ctx context.Context, tx pgx.Tx, op event.Operation) (heir, error) {
	// "for no key update": looks at the operation wait until its versions are moved.
	const q = `
select versions, subject_data_type, looked_at, last_changed_at, coalesce(got_at = looked_at, false),
       connection_id, coalesce(data_type, ''), status, status_code, error_message, validation, changes, requested_at,
       completed_at, timeout_minutes
from pushwatch.operation
where company_id = $1::text and push_operation_key = $2::text
for no key update`
	h := heir{seen: push.Operation{CompanyID: op.CompanyID, Key: op.Key}, source: push.FromList}
	var got bool
	var validation, changes []byte
	var requested, completed *time.Time
	err := tx.QueryRow(ctx, q, op.CompanyID, op.Key).Scan(&h.versions, &h.subjectDataType, &h.lookedAt, &h.observedAt, &got,
		&h.seen.ConnectionID, &h.seen.DataType, &h.seen.Status, &h.seen.StatusCode, &h.seen.ErrorMessage,
		&validation, &changes, &requested, &completed, &h.seen.TimeoutInMinutes)
	if err != nil {
		return heir{}, err
	}
	if got {
		h.source = push.FromGet
	}
	h.lookedAt, h.observedAt = h.lookedAt.UTC(), h.observedAt.UTC()
	h.seen.RequestedOn, h.seen.CompletedOn = timeOf(requested), timeOf(completed)
	for _, document := range []struct {
		from []byte
		to   any
	}{{validation, &h.seen.Validation}, {changes, &h.seen.Changes}} {
		if document.from == nil {
			continue
		}
		if err := json.Unmarshal(document.from, document.to); err != nil {
			return heir{}, fmt.Errorf("stored document: %w", err)
		}
	}
	return h, nil
}

// queueComparison compares an operation that has no version of its own with the
// last event of it in the stream, by the rule for stored rows: the same status is
// told already, another one is its next version, and where the stream's is
// terminal it stands and is disputed. It returns the operation's last version.
func (s *Store) queueComparison(batch *pgx.Batch, h heir, before event.Event) (int64, error) {
	known := push.Known{Status: before.Status}
	switch push.Observe(&known, push.Sight{Status: h.seen.Status, LookedAt: h.lookedAt, Source: h.source}) {
	case push.Changed:
		r := push.Record{Company: push.Company{ID: h.seen.CompanyID}}
		r.Page.Source, r.Page.FinishedAt = h.source, h.observedAt
		t := &sight{seen: push.Row{Key: h.seen.Key, Status: h.seen.Status}, op: h.seen, stored: &known, verdict: push.Changed, baseline: true,
			versions: before.Version + 1, subjectDataType: h.subjectDataType}
		return t.versions, s.queueEvents(batch, r, []*sight{t})
	case push.Disputed:
		batch.Queue(`
update pushwatch.operation set status = $3::text, is_terminal = true, status_code = $4::bigint, error_message = $5::text,
    validation = $6::jsonb, changes = $7::jsonb, completed_at = $8::timestamptz,
    disputed_status = status, disputed_at = looked_at
where company_id = $1::text and push_operation_key = $2::text`, h.seen.CompanyID, h.seen.Key, string(before.Status),
			wide(before.StatusCode), before.ErrorMessage, jsonOf(before.Validation), jsonOf(before.Changes), stamp(before.CompletedOn))
	}
	return before.Version, nil
}
