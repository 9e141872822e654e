package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// measureInsert is the limit of the record path: one row an operation with all that
// Codat tells of it, 500 rows a statement and commit, into a table with the key's
// index and two more. Nothing is looked up, decided or announced.
func measureInsert(ctx context.Context, r *rig) (_ samples, err error) {
	name, err := r.clone(ctx, emptyDatabase)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.drop(context.WithoutCancel(ctx), name)) }()
	conn, err := r.connect(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	const table = `
create table seen (
    key uuid primary key, company_id text not null, connection_id text not null, data_type text, status text not null,
    status_code bigint, error_message text, validation jsonb, changes jsonb, requested_at timestamptz not null,
    completed_at timestamptz, timeout_minutes bigint, seen_at timestamptz not null
);
create index on seen (company_id, requested_at);
create index on seen (company_id, status)`
	if _, err := conn.Exec(ctx, table); err != nil {
		return nil, err
	}
	batches := insertBatches(history{salt: name, size: r.events, newest: r.now()})
	took, err := r.timed("insert", func() error {
		for i := range batches {
			if err := batches[i].insert(ctx, conn); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var n int
	if err := conn.QueryRow(ctx, `select count(*) from seen`).Scan(&n); err != nil {
		return nil, err
	}
	if n != r.events {
		return nil, fmt.Errorf("%d rows were inserted, should be %d", n, r.events)
	}
	return samples{"insert": rateOf(n, took)}, nil
}

// insertBatch is the columns of a statement.
type insertBatch struct {
	keys, companies, connections, types, statuses []string
	codes                                         []int64
	timeouts                                      []*int64
	changes                                       []string
	messages, validations                         []*string
	requested, completed                          []time.Time
}

func (b *insertBatch) insert(ctx context.Context, conn *pgx.Conn) error {
	const q = `
insert into seen (key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes, seen_at)
select key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes, clock_timestamp()
from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::jsonb[], $9::jsonb[],
    $10::timestamptz[], $11::timestamptz[], $12::bigint[])
    as s(key, company_id, connection_id, data_type, status, status_code, error_message, validation, changes,
    requested_at, completed_at, timeout_minutes)`
	_, err := conn.Exec(ctx, q, b.keys, b.companies, b.connections, b.types, b.statuses, b.codes, b.messages, b.validations, b.changes,
		b.requested, b.completed, b.timeouts)
	return err
}

func insertBatches(h history) []insertBatch {
	var batches []insertBatch
	for i := range h.size {
		if i%insertRows == 0 {
			batches = append(batches, insertBatch{})
		}
		op := h.operation(i, false)
		changes, err := json.Marshal(op.Changes)
		if err != nil {
			panic(err) // strings
		}
		b := &batches[len(batches)-1]
		b.keys, b.companies, b.connections = append(b.keys, op.Key), append(b.companies, op.CompanyID), append(b.connections, op.ConnectionID)
		b.types, b.statuses = append(b.types, op.DataType), append(b.statuses, string(op.Status))
		b.codes, b.timeouts = append(b.codes, int64(*op.StatusCode)), append(b.timeouts, nil)
		b.messages, b.validations, b.changes = append(b.messages, nil), append(b.validations, nil), append(b.changes, string(changes))
		b.requested, b.completed = append(b.requested, op.RequestedOn), append(b.completed, op.CompletedOn)
	}
	return batches
}
