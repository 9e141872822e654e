package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Event is what this subscriber reads of an event's body. There is more in it,
// and there will be more: unknown keys are ignored.
type Event struct {
	ID               string    `json:"id"`
	Type             string    `json:"type"`
	Name             string    `json:"event"`
	Version          int64     `json:"version"`
	CompanyID        string    `json:"companyId"`
	DataType         *string   `json:"dataType"`
	PushOperationKey string    `json:"pushOperationKey"`
	StatusCode       *int      `json:"statusCode"`
	ErrorMessage     *string   `json:"errorMessage"`
	ObservedAt       time.Time `json:"observedAt"`
}

const statusChanged = "pushwatch.operation.status_changed.v1"

const schema = `
create table if not exists consumer_inbox (
    event_id           text primary key,
    company_id         text not null,
    push_operation_key text not null,
    version            bigint not null,
    handled_at         timestamptz not null default now()
);
create index if not exists consumer_inbox_operation on consumer_inbox (company_id, push_operation_key, version);
create table if not exists failed_pushes (
    company_id         text not null,
    push_operation_key text not null,
    data_type          text,
    status_code        integer,
    error_message      text,
    failed_at          timestamptz not null,
    failures           integer not null default 1,
    resolved_at        timestamptz, -- set when the operation turned out otherwise
    primary key (company_id, push_operation_key)
)`

// Outcome says what an event did.
type Outcome string

// The outcomes of handling an event.
const (
	Done      Outcome = "done"
	Before    Outcome = "handled before" // the event is in the inbox already
	Overtaken Outcome = "overtaken"      // a later event of the operation is
)

// ErrBad says that an event can never be handled, however often it comes.
var ErrBad = errors.New("bad event")

// Inbox is the database side of the subscriber. It is safe for concurrent use.
type Inbox struct{ Pool *pgxpool.Pool }

// Prepare makes the tables where they are missing. Instances that start together
// take turns: "if not exists" alone does not survive a race.
func (i *Inbox) Prepare(ctx context.Context) error {
	err := pgx.BeginFunc(ctx, i.Pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock(hashtextextended('consumer_inbox', 0))`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, schema)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}

// Handle gives an event its effect, in one transaction with its place in the
// inbox. If we crash before the commit, neither is there and the message comes
// again; if we crash after it, the message comes again and is found in the inbox.
func (i *Inbox) Handle(ctx context.Context, e Event) (Outcome, error) {
	outcome := Done
	err := pgx.BeginFunc(ctx, i.Pool, func(tx pgx.Tx) (err error) {
		outcome, err = handle(ctx, tx, e)
		return err
	})
	var refused *pgconn.PgError
	if errors.As(err, &refused) && strings.HasPrefix(refused.Code, "22") { // the data is at fault, say a NUL in a text
		err = fmt.Errorf("%w: %w", ErrBad, err)
	}
	if err != nil {
		return "", fmt.Errorf("handle event %s: %w", e.ID, err)
	}
	return outcome, nil
}

func handle(ctx context.Context, tx pgx.Tx, e Event) (Outcome, error) {
	// Two instances may hold two events of one operation at once. The lock lasts
	// until the commit, so that each sees what the other has done.
	const lock = `select pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 0))`
	if _, err := tx.Exec(ctx, lock, e.CompanyID, e.PushOperationKey); err != nil {
		return "", err
	}
	const note = `
insert into consumer_inbox (event_id, company_id, push_operation_key, version) values ($1, $2, $3, $4)
on conflict (event_id) do nothing`
	tag, err := tx.Exec(ctx, note, e.ID, e.CompanyID, e.PushOperationKey, e.Version)
	if err != nil {
		return "", err
	}
	if tag.RowsAffected() == 0 {
		return Before, nil
	}
	const later = `
select exists (select from consumer_inbox where company_id = $1 and push_operation_key = $2 and version > $3)`
	var overtaken bool
	if err := tx.QueryRow(ctx, later, e.CompanyID, e.PushOperationKey, e.Version).Scan(&overtaken); err != nil {
		return "", err
	}
	if overtaken {
		return Overtaken, nil
	}
	return Done, effect(ctx, tx, e)
}

// effect is the part to replace by your own. What it does outside of tx is not
// undone by a crash, and may be done twice.
func effect(ctx context.Context, tx pgx.Tx, e Event) error {
	switch {
	case e.Type != statusChanged:
		return nil
	case e.Name == "failed":
		const fail = `
insert into failed_pushes as f (company_id, push_operation_key, data_type, status_code, error_message, failed_at)
values ($1, $2, $3, $4, $5, $6)
on conflict (company_id, push_operation_key) do update
set data_type = excluded.data_type, status_code = excluded.status_code, error_message = excluded.error_message,
    failed_at = excluded.failed_at, failures = f.failures + 1, resolved_at = null`
		_, err := tx.Exec(ctx, fail, e.CompanyID, e.PushOperationKey, e.DataType, e.StatusCode, e.ErrorMessage, e.ObservedAt)
		return err
	default:
		const resolve = `
update failed_pushes set resolved_at = $3
where company_id = $1 and push_operation_key = $2 and resolved_at is null`
		_, err := tx.Exec(ctx, resolve, e.CompanyID, e.PushOperationKey, e.ObservedAt)
		return err
	}
}
