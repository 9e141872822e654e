package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pushwatch/pushwatch/push"
)

// fillLarge makes the large world: the company that everything is measured with, as it
// is in the small table too, and the operations of many others, as their first looks
// would have recorded them.
func fillLarge(ctx context.Context, c *crowd) ([]finding, error) {
	w, err := c.world(ctx, emptyDatabase, c.lazy)
	if err != nil {
		return nil, err
	}
	c.large = w
	began := c.now()
	if err := c.copyOthers(ctx); err != nil {
		return nil, err
	}
	took := c.now().Sub(began)
	if err := c.analyze(ctx, w); err != nil {
		return nil, err
	}
	var size int64
	if err := c.admin.QueryRow(ctx, `select pg_database_size($1::text)`, w.database()).Scan(&size); err != nil {
		return nil, err
	}
	return []finding{
		{Name: "filled", Title: "filling the table", Value: took.Minutes(), Unit: "min", Note: "by COPY, for the test alone"},
		{Name: "size", Title: "size of that database", Value: float64(size) / (1 << 30), Unit: "GiB"},
	}, nil
}

// others are the operations of all other companies.
type others struct {
	each, companies int
	newest          time.Time
	at              int
	row             []any
	err             error
}

// otherCompany returns the id of another company.
func otherCompany(i int) string { return history{salt: "company"}.key(i) }

var otherColumns = strings.Fields(`company_id push_operation_key connection_id data_type subject_data_type status is_terminal
	status_code changes requested_at completed_at fingerprint versions is_baseline first_seen_at last_changed_at looked_at compared`)

// Next implements [pgx.CopyFromSource].
func (o *others) Next() bool {
	if o.at == o.each*o.companies || o.err != nil {
		return false
	}
	i, at := o.at%o.each, o.at/o.each
	o.at++
	op := history{salt: otherCompany(at), newest: o.newest}.operation(i, false)
	op.CompanyID = otherCompany(at)
	var changes []byte
	if changes, o.err = json.Marshal(op.Changes); o.err != nil {
		return false
	}
	seen, digest := op.RequestedOn, push.RowOf(op).Digest
	o.row = []any{op.CompanyID, op.Key, op.ConnectionID, op.DataType, op.DataType, string(op.Status), true, *op.StatusCode, changes,
		op.RequestedOn, op.CompletedOn, append(op.Fingerprint(), digest[:]...), 0, true, seen, seen, seen, true}
	return true
}

// Values implements [pgx.CopyFromSource].
func (o *others) Values() ([]any, error) { return o.row, o.err }

// Err implements [pgx.CopyFromSource].
func (o *others) Err() error { return o.err }

func (c *crowd) copyOthers(ctx context.Context) (err error) {
	conn, err := c.connect(ctx, c.large.database())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	o := &others{each: c.operations / c.companies, companies: c.companies, newest: c.large.store.Now()}
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"pushwatch", "operation"}, otherColumns, o)
	if want := int64(o.each * o.companies); err == nil && n != want {
		err = fmt.Errorf("%d rows were copied, should be %d", n, want)
	}
	return err
}

// otherCompanies returns the first n of the other companies.
func otherCompanies(n int) []push.Company {
	all := make([]push.Company, n)
	for i := range all {
		all[i] = push.Company{ID: otherCompany(i)}
	}
	return all
}
