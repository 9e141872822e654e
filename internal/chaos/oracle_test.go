package chaos

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// settle freezes the simulator, gives the system its time to become whole, as long as
// it gets on, and lets the oracle judge. What was noted before goes with the verdict.
func (w *world) settle(v verdict) verdict {
	w.Helper()
	frozen := w.sim.Freeze()
	truth := w.sim.Truth()
	// What many kills have left may be more than the quota's minutes let through at once;
	// and what lies behind the first page is asked for after a tenth of its age, at most an hour.
	patience := w.patience
	for least := math.MaxInt; ; {
		var waiting int
		var behind []codatsim.Truth
		w.within(patience, func() bool { waiting, behind = w.missing(truth); return waiting+len(behind) == 0 })
		missing := waiting + len(behind)
		if missing == 0 {
			break
		}
		if missing >= least {
			for _, t := range behind[:min(3, len(behind))] {
				v.figure("operation %s of company %s, requested %s before the end, is not seen to be %s", t.Key, t.CompanyID,
					frozen.Sub(t.RequestedOn).Round(time.Second), t.Status)
			}
			break
		}
		least, patience = missing, w.patience
		for _, t := range behind {
			patience = max(patience, w.patience+min(time.Hour, frozen.Sub(t.RequestedOn)/10))
		}
	}
	w.examine(&v, truth)
	return v
}

// database runs fn on a connection that goes past all proxies.
func (w *world) database(fn func(context.Context, *pgx.Conn) error) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, w.databaseURL)
	require.NoError(w, err)
	defer func() { _ = conn.Close(ctx) }()
	require.NoError(w, fn(ctx, conn))
}

// number returns one number from the database.
func (w *world) number(sql string, args ...any) (n int64) {
	w.Helper()
	w.database(func(ctx context.Context, conn *pgx.Conn) error { return conn.QueryRow(ctx, sql, args...).Scan(&n) })
	return n
}

// missing tells by what views and stream are behind the truth: how many changes wait
// to be published, and which operations read otherwise. A cheap look, not a judgement.
func (w *world) missing(truth []codatsim.Truth) (waiting int, behind []codatsim.Truth) {
	stored := statuses{}
	w.database(func(ctx context.Context, conn *pgx.Conn) error {
		if err := tellOperations(ctx, conn, stored); err != nil {
			return err
		}
		return conn.QueryRow(ctx, `select count(*) from reporting.push_transitions where published_at is null`).Scan(&waiting)
	})
	for _, t := range truth {
		if stored[audit.Operation{CompanyID: t.CompanyID, Key: t.Key}] != t.Status {
			behind = append(behind, t)
		}
	}
	return waiting, behind
}

// statuses is what the views show of every operation.
type statuses map[audit.Operation]string

func (s statuses) Stored(op audit.Operation, status string) { s[op] = status }

func tellOperations(ctx context.Context, conn *pgx.Conn, a interface{ Stored(audit.Operation, string) }) error {
	rows, err := conn.Query(ctx, `select company_id, push_operation_key, status from reporting.push_operations`)
	if err != nil {
		return err
	}
	var op audit.Operation
	var status string
	_, err = pgx.ForEachRow(rows, []any{&op.CompanyID, &op.Key, &status}, func() error {
		a.Stored(op, status)
		return nil
	})
	return err
}

// examine is the oracle: the simulator's truth against views and stream.
func (w *world) examine(v *verdict, truth []codatsim.Truth) {
	w.Helper()
	a := audit.New()
	took := map[audit.Operation][]codatsim.Step{}
	for _, t := range truth {
		op := audit.Operation{CompanyID: t.CompanyID, Key: t.Key}
		a.Truth(op, t.Status)
		took[op] = t.Log
	}
	w.database(func(ctx context.Context, conn *pgx.Conn) error {
		if err := tellOperations(ctx, conn, a); err != nil {
			return err
		}
		rows, err := conn.Query(ctx, `select event_id from reporting.push_transitions`)
		if err != nil {
			return err
		}
		var id string
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
			a.Transition(id)
			return nil
		})
		return err
	})
	told := map[string]bool{}
	w.messages(func(m publisher.StoredMessage) {
		var e event.Event
		require.NoError(w, json.Unmarshal(m.Data, &e))
		op := audit.Operation{CompanyID: e.CompanyID, Key: e.PushOperationKey}
		a.Message(op, e.Version, m.ID)
		if told[m.ID] {
			return // a duplicate, which is counted as one
		}
		told[m.ID] = true
		rest, happened := after(took[op], string(e.Status))
		took[op] = rest
		if !happened {
			v.Phantom++
		}
	})
	report := a.Report()
	v.Operations, v.Changes, v.Published = report.Operations, report.Changes, report.Published
	v.Lost, v.Duplicated, v.OutOfOrder = report.Lost, report.Duplicated, report.OutOfOrder
	v.Phantom += report.Unknown
	broken, err := storetest.Violations(w.Context(), w.databaseURL)
	require.NoError(w, err)
	v.Orphans = len(broken)
	v.Broken = append(v.Broken, broken...)
	stats := w.sim.Stats()
	v.Quota = max(0, stats.Charged-int((1-w.reserve)*float64(w.dayLimit)))
	for company, most := range stats.MaxConcurrent {
		v.demand(most <= 10, "%d requests of company %s at once", most, company)
	}
}

// after returns what is left of an operation's life behind the first step to a
// status; polling samples, so events may skip steps but not invent or reorder any.
func after(life []codatsim.Step, status string) ([]codatsim.Step, bool) {
	for i, step := range life {
		if step.Status == status {
			return life[i+1:], true
		}
	}
	return life, false
}

func (w *world) messages(fn func(publisher.StoredMessage)) {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), 20*time.Minute) // C11 has a million
	defer cancel()
	nc, err := publisher.Dial(ctx, publisher.DialConfig{URL: w.natsURL})
	require.NoError(w, err)
	defer nc.Close()
	require.NoError(w, publisher.ReadAll(ctx, nc, stream, func(m publisher.StoredMessage) error {
		fn(m)
		return nil
	}))
}
