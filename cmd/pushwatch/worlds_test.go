package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

// oddRows are records that are good but for their spelling; what of them cannot
// be read is unknown in the view.
var oddRows = []codatsim.Fault{codatsim.NULText, codatsim.LoneSurrogate, codatsim.UnknownFields}

var poison = []codatsim.Fault{codatsim.NullItem, codatsim.StringItem, codatsim.MissingKey, codatsim.NumberKey, codatsim.LongKey,
	codatsim.WrongCompany, codatsim.NullStatus, codatsim.NumberStatus, codatsim.DuplicateStatus}

// lists returns rules that strike every list.
func lists(faults ...codatsim.Fault) (rules []codatsim.Rule) {
	for _, fault := range faults {
		rules = append(rules, codatsim.Rule{Fault: fault, Request: codatsim.List})
	}
	return rules
}

// TestEveryGoodRecordIsRightInTheViewWhateverTheServerDoes runs the program
// against servers that read the API in their own way.
func TestEveryGoodRecordIsRightInTheViewWhateverTheServerDoes(t *testing.T) {
	for name, c := range map[string]struct {
		faults      []codatsim.Rule
		quarantined bool
	}{
		"the order is ignored":                     {faults: lists(codatsim.OrderIgnored)},
		"the order is that of a shuffled pack":     {faults: lists(codatsim.OrderShuffled)},
		"the order is refused":                     {faults: lists(codatsim.OrderRefused)},
		"pages are cut to 40":                      {faults: []codatsim.Rule{{Fault: codatsim.SmallPages, N: 40}}},
		"dates come in all four forms":             {faults: []codatsim.Rule{{Fault: codatsim.MixedDates}}},
		"poisoned records stand between good ones": {faults: lists(poison...), quarantined: true},
		"texts hold what databases refuse":         {faults: lists(oddRows...)},
		"totals and links lie":                     {faults: lists(codatsim.LyingTotals, codatsim.ForeignNext, codatsim.RepeatRow)},
		"everything at once": {quarantined: true, faults: append(append(lists(poison...), lists(codatsim.OrderIgnored)...),
			codatsim.Rule{Fault: codatsim.MixedDates}, codatsim.Rule{Fault: codatsim.SmallPages, N: 40})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 2), Rate: 120, History: 150, Speed: 4, Faults: c.faults})
			cmd := program(t.Context(), t, w.environ("PUSHWATCH_POLL_PAGE_SIZE=100"), "run", "--http-listen", "127.0.0.1:0")
			cmd.Stdout, cmd.Stderr = &w.log, &w.log
			require.NoError(t, cmd.Start())
			require.Eventually(t, func() bool { return w.operations(t) >= 320 }, time.Minute, 200*time.Millisecond)
			w.sim.Freeze()
			var differs []string
			settled := assert.Eventually(t, func() bool {
				differs = w.differences(t)
				return len(differs) == 0
			}, 90*time.Second, 500*time.Millisecond)
			require.True(t, settled, "%d differ: %v", len(differs), differs[:min(len(differs), 5)])
			report := w.settled(t)
			assert.True(t, report.Sound(), report)
			assert.Equal(t, c.quarantined, w.query(t, `select count(*) from pushwatch.quarantine`) > 0)
			for _, company := range w.companies {
				assert.Zero(t, w.query(t, fmt.Sprintf(`select count(*) from pushwatch.company where company_id = '%s' and not baselined`, company)))
			}
			w.checkEvents(t)
			require.NoError(t, cmd.Process.Signal(os.Interrupt))
			require.NoError(t, cmd.Wait())
			w.checkSecrets(t)
		})
	}
}

// operations counts the rows of the view.
func (w *world) operations(t *testing.T) int64 {
	return w.query(t, `select count(*) from reporting.push_operations`)
}

// viewed is what the view tells of an operation.
type viewed struct {
	connection, status     string
	dataType, errorMessage *string
	statusCode             int64
	requested, completed   *time.Time
}

// differences compares the view with the truth, field by field, and names up to
// all rows that differ. Rows that are no operation of the simulator's differ too.
func (w *world) differences(t *testing.T) (differs []string) {
	conn, err := pgx.Connect(t.Context(), w.databaseURL)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	rows, err := conn.Query(t.Context(), `
select company_id, push_operation_key, connection_id, status, data_type, error_message, status_code, requested_at, completed_at
from reporting.push_operations`)
	require.NoError(t, err)
	stored := map[audit.Operation]viewed{}
	var id audit.Operation
	var v viewed
	_, err = pgx.ForEachRow(rows, []any{&id.CompanyID, &id.Key, &v.connection, &v.status, &v.dataType, &v.errorMessage,
		&v.statusCode, &v.requested, &v.completed}, func() error { stored[id] = v; return nil })
	require.NoError(t, err)
	for _, op := range w.sim.Truth() {
		id := audit.Operation{CompanyID: op.CompanyID, Key: op.Key}
		if got, ok := stored[id]; !ok {
			differs = append(differs, op.Key+" is missing")
		} else if problem := got.differs(op); problem != "" {
			differs = append(differs, op.Key+": "+problem)
		}
		delete(stored, id)
	}
	for id := range stored {
		differs = append(differs, id.Key+" does not exist")
	}
	return differs
}

func (v viewed) differs(op codatsim.Truth) string {
	instant := func(at *time.Time) time.Time {
		if at == nil {
			return time.Time{}
		}
		return at.UTC()
	}
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, c := range []struct {
		field     string
		got, want any
	}{
		{"status", v.status, op.Status},
		{"connection_id", v.connection, op.ConnectionID},
		{"data_type", text(v.dataType), op.DataType},
		{"status_code", v.statusCode, int64(op.StatusCode)},
		{"requested_at", instant(v.requested), push.Time(op.RequestedOn)},
		{"completed_at", instant(v.completed), push.Time(op.CompletedOn)},
	} {
		if c.got != c.want {
			return fmt.Sprintf("%s is %v, should be %v", c.field, c.got, c.want)
		}
	}
	return ""
}

// checkEvents validates every message of the stream by the schema of its type.
func (w *world) checkEvents(t *testing.T) {
	schemas := map[event.Type]*jsonschema.Schema{}
	for _, typ := range event.Types() {
		raw, err := event.Schema(typ)
		require.NoError(t, err)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		require.NoError(t, err)
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		require.NoError(t, compiler.AddResource(event.SchemaURN(typ), document))
		schemas[typ], err = compiler.Compile(event.SchemaURN(typ))
		require.NoError(t, err)
	}
	read := 0
	w.eachMessage(t, func(m publisher.StoredMessage) {
		var e event.Event
		require.NoError(t, json.Unmarshal(m.Data, &e))
		require.Contains(t, schemas, e.Type)
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data))
		require.NoError(t, err)
		require.NoError(t, schemas[e.Type].Validate(document), string(m.Data))
		read++
	})
	assert.Positive(t, read)
}

func (w *world) eachMessage(t *testing.T, fn func(publisher.StoredMessage)) {
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: w.natsURL})
	require.NoError(t, err)
	defer nc.Close()
	require.NoError(t, publisher.ReadAll(t.Context(), nc, "CODAT_PUSH", func(m publisher.StoredMessage) error { fn(m); return nil }))
}

// checkSecrets looks for the API key, raw and as it travels, in the log, in every
// table and in every message.
func (w *world) checkSecrets(t *testing.T) {
	for _, secret := range []string{w.key, base64.StdEncoding.EncodeToString([]byte(w.key))} {
		assert.NotContains(t, w.log.String(), secret)
		w.eachMessage(t, func(m publisher.StoredMessage) {
			assert.NotContains(t, string(m.Data)+fmt.Sprint(m), secret)
		})
		conn, err := pgx.Connect(t.Context(), w.databaseURL)
		require.NoError(t, err)
		rows, err := conn.Query(t.Context(), `select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = 'pushwatch'`)
		require.NoError(t, err)
		tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		require.Greater(t, len(tables), 10)
		for _, table := range slices.Sorted(slices.Values(tables)) {
			assert.Zero(t, w.query(t, fmt.Sprintf(`select count(*) from %s as row where row::text like '%%%s%%'`, table, secret)), table)
		}
		require.NoError(t, conn.Close(t.Context()))
	}
}
