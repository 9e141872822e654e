package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pushwatch/pushwatch/push"
)

// queueOperations queues the writes of operation rows that the verdicts ask for.
// Rows of one statement are written in key order, which is the order of sights.
func queueOperations(batch *pgx.Batch, r push.Record, sights []*sight) error {
	var first, refreshed operationColumns
	var disputed, undecided, got []string
	var disputes []string
	for _, t := range sights {
		var err error
		switch t.verdict {
		case push.First:
			err = first.add(t)
		case push.Same, push.Changed, push.Cleared:
			err = refreshed.add(t)
		case push.Disputed:
			disputed, disputes = append(disputed, t.seen.Key), append(disputes, string(t.seen.Status))
		case push.Undecided:
			undecided = append(undecided, t.seen.Key)
		}
		if err != nil {
			return err
		}
		if r.Page.Source == push.FromGet && (t.verdict == push.First || t.verdict == push.Same ||
			t.verdict == push.Changed || t.verdict == push.Cleared) {
			got = append(got, t.seen.Key)
		}
	}
	looked := push.Time(r.Page.StartedAt)
	if len(first.keys) > 0 {
		first.queue(batch, insertOperations, r.Company.ID, looked, r.Page.FinishedAt)
	}
	if len(refreshed.keys) > 0 {
		refreshed.queue(batch, updateOperations, r.Company.ID, looked, r.Page.FinishedAt)
	}
	if len(disputed) > 0 {
		batch.Queue(`
update pushwatch.operation o set disputed_status = d.status, disputed_at = $2::timestamptz
from unnest($3::text[], $4::text[]) as d(key, status)
where o.company_id = $1::text and o.push_operation_key = d.key`, r.Company.ID, looked, disputed, disputes)
	}
	if len(undecided) > 0 {
		batch.Queue(`
update pushwatch.operation set undecided_at = $2::timestamptz
where company_id = $1::text and push_operation_key = any($3::text[]) and disputed_at < $2::timestamptz`, r.Company.ID, looked, undecided)
	}
	if len(got) > 0 {
		batch.Queue(`
update pushwatch.operation set got_at = greatest(got_at, $2::timestamptz)
where company_id = $1::text and push_operation_key = any($3::text[])`, r.Company.ID, looked, got)
	}
	return nil
}

const insertOperations = `
insert into pushwatch.operation (company_id, push_operation_key, connection_id, data_type, subject_data_type, status,
    is_terminal, status_code, error_message, validation, changes, requested_at, completed_at, timeout_minutes, flags,
    fingerprint, versions, is_baseline, first_seen_at, last_changed_at, looked_at)
select $1::text, key, connection_id, data_type, subject_data_type, status, is_terminal, status_code, error_message,
    validation::jsonb, changes::jsonb, requested_at, completed_at, timeout_minutes,
    string_to_array(flags, ' '),
    fingerprint, versions, is_baseline, $3::timestamptz, $3::timestamptz, $2::timestamptz
from ` + operationRows

// A changed status alone moves last_changed_at, and brings a pruned operation back
// with its texts; every one of these looks ends an
// open dispute. The data type of the subject is never touched.
const updateOperations = `
update pushwatch.operation o
set connection_id = n.connection_id, data_type = n.data_type, status = n.status, is_terminal = n.is_terminal,
    status_code = n.status_code,
    error_message = case when o.pruned_at is null or o.status <> n.status then n.error_message end,
    validation = case when o.pruned_at is null or o.status <> n.status then n.validation::jsonb end,
    changes = case when o.pruned_at is null or o.status <> n.status then n.changes::jsonb end, requested_at = n.requested_at, completed_at = n.completed_at,
    timeout_minutes = n.timeout_minutes,
    flags = string_to_array(n.flags, ' '),
    fingerprint = n.fingerprint, versions = n.versions, looked_at = $2::timestamptz,
    last_changed_at = case when o.status <> n.status then $3::timestamptz else o.last_changed_at end,
    pruned_at = case when o.status <> n.status then null else o.pruned_at end,
    disputed_status = null, disputed_at = null, undecided_at = null
from (select key, connection_id, data_type, status, is_terminal, status_code, error_message, validation, changes,
             requested_at, completed_at, timeout_minutes, flags, fingerprint, versions
      from ` + operationRows + `) as n
where o.company_id = $1::text and o.push_operation_key = n.key`

const operationRows = `unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[], $10::bigint[],
    $11::text[], $12::text[], $13::text[], $14::timestamptz[], $15::timestamptz[], $16::bigint[], $17::text[],
    $18::bytea[], $19::bigint[], $20::boolean[])
    as rows(key, connection_id, data_type, subject_data_type, status, is_terminal, status_code,
    error_message, validation, changes, requested_at, completed_at, timeout_minutes, flags,
    fingerprint, versions, is_baseline)`

// operationColumns gathers operation rows, column by column.
type operationColumns struct {
	keys, connections, subjectTypes, statuses, flags []string
	dataTypes, messages, validations, changes        []*string
	terminal, baseline                               []bool
	codes, timeouts                                  []*int64
	requested, completed                             []*time.Time
	fingerprints                                     [][]byte
	versions                                         []int64
}

func (c *operationColumns) add(t *sight) error {
	op := t.op
	validation, err1 := document(op.Validation, op.Validation == nil)
	changes, err2 := document(op.Changes, op.Changes == nil)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("operation %s: %w", op.Key, err)
	}
	var dataType *string
	if op.DataType != "" {
		dataType = &op.DataType
	}
	c.keys, c.connections = append(c.keys, op.Key), append(c.connections, op.ConnectionID)
	c.subjectTypes, c.statuses = append(c.subjectTypes, t.subjectDataType), append(c.statuses, string(op.Status))
	c.flags, c.dataTypes = append(c.flags, strings.Join(op.Flags, " ")), append(c.dataTypes, dataType) // names, without blanks
	c.messages = append(c.messages, op.ErrorMessage)
	c.validations, c.changes = append(c.validations, validation), append(c.changes, changes)
	c.terminal, c.baseline = append(c.terminal, op.Status.Terminal()), append(c.baseline, t.baseline)
	c.codes, c.timeouts = append(c.codes, wide(op.StatusCode)), append(c.timeouts, wide(op.TimeoutInMinutes))
	c.requested, c.completed = append(c.requested, nullable(op.RequestedOn)), append(c.completed, nullable(op.CompletedOn))
	c.fingerprints, c.versions = append(c.fingerprints, t.fingerprint()), append(c.versions, t.versions)
	return nil
}

func (c *operationColumns) queue(batch *pgx.Batch, statement, companyID string, looked, observed time.Time) {
	batch.Queue(statement, companyID, looked, observed, c.keys, c.connections, c.dataTypes, c.subjectTypes, c.statuses,
		c.terminal, c.codes, c.messages, c.validations, c.changes, c.requested, c.completed, c.timeouts, c.flags,
		c.fingerprints, c.versions, c.baseline)
}

// document returns v as JSON, or nil for null.
func document(v any, null bool) (*string, error) {
	if null {
		return nil, nil
	}
	encoded, err := json.Marshal(v)
	text := string(encoded)
	return &text, err
}

func wide(n *int) *int64 {
	if n == nil {
		return nil
	}
	w := int64(*n)
	return &w
}

// sqlState returns PostgreSQL's code of an error, or "unknown".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return "unknown"
}
