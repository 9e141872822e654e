package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

// past is a history that was published as it happened, with the servers that hold
// it and the command's environment.
type past struct {
	*testing.T
	environ []string
	store   *store.Store
	nats    *nats.Conn
	js      jetstream.JetStream
	live    []publisher.StoredMessage // in the order of the live stream
}

const (
	toft  = "8a210b68-6988-11ed-a1eb-0242ac120002"
	other = "0b5ad1ff-6988-11ed-a1eb-0242ac120002"
)

// newPast publishes n operations of two companies, each Pending first and then
// Success or Failed, through the store and the relay.
func newPast(t *testing.T, n int, replayStream bool) *past {
	broker, address := startBroker(t), server.URL(t)
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: broker.URL()})
	require.NoError(t, err)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	p := &past{T: t, nats: nc, js: js, environ: []string{"DATABASE_URL=" + address, "NATS_URL=" + broker.URL()}}
	t.Cleanup(nc.Close)
	p.store = server.Open(t, store.Config{URL: address, PublishBaseline: true})
	for i, company := range []string{toft, other} {
		p.happen(company, i, n/2)
	}
	if replayStream {
		p.addStream(jetstream.StreamConfig{Name: "CODAT_REPLAY", Subjects: []string{"codat.replay.>"}})
	}
	return p
}

func (p *past) addStream(c jetstream.StreamConfig) {
	_, err := p.js.CreateStream(p.Context(), c)
	require.NoError(p, err)
}

// happen lets n operations of a company come and finish.
func (p *past) happen(id string, nth, n int) {
	company, _, leases := storetest.Company(p, p.store, id)
	stream, _, err := publisher.EnsureStream(p.Context(), p.nats, publisher.StreamConfig{Name: "CODAT_PUSH", SubjectPrefix: "codat.push", Manage: publisher.ManageCreate})
	require.NoError(p, err)
	relay, err := publisher.New(publisher.Config{Stream: stream, Outbox: p.store.Outbox(leases)})
	require.NoError(p, err)
	began := time.Date(2026, 1, 1+nth, 12, 0, 0, 123456000, time.UTC)
	for i := range n {
		op := push.Operation{CompanyID: id, Key: fmt.Sprintf("op %d.%d", nth, i), ConnectionID: "connection", DataType: []string{"invoices", "bills", ""}[i%3],
			Status: push.Pending, RequestedOn: began}
		p.look(company, op, began.Add(time.Duration(i)*time.Second))
		code, text := 400, "no \"account\" <b>"
		op.StatusCode, op.CompletedOn = &code, began.Add(time.Hour)
		op.Changes = []push.Change{{Type: &text}}
		if op.Status = push.Success; i%2 == 0 {
			op.Status, op.ErrorMessage = push.Failed, &text
			op.Validation = &push.Validation{Errors: []push.ValidationItem{{Message: &text}}}
		}
		p.look(company, op, began.Add(time.Hour+time.Duration(i)*time.Second))
	}
	require.Eventually(p, func() bool {
		if leases.Renew(p.Context()) != nil { // writing so much may take longer than a lease is trusted
			return false
		}
		_, err := relay.RunOnce(p.Context())
		require.NoError(p, err)
		waiting, _, err := p.store.Backlog(p.Context())
		require.NoError(p, err)
		return waiting == 0
	}, 20*time.Second, time.Millisecond)
	leases.Release(p.Context())
	p.live = p.messages("CODAT_PUSH")
}

func (p *past) look(company push.Company, op push.Operation, at time.Time) {
	page := push.Page{Look: push.Look{Source: push.FromList, StartedAt: at, FinishedAt: at.Add(time.Millisecond)}, Number: 1, Size: 100,
		Rows: push.RowsOf(op)}
	_, err := p.store.Record(p.Context(), push.Record{Company: company, Page: page})
	require.NoError(p, err)
}

func (p *past) messages(stream string) (all []publisher.StoredMessage) {
	require.NoError(p, publisher.ReadAll(p.Context(), p.nats, stream, func(m publisher.StoredMessage) error {
		all = append(all, m)
		return nil
	}))
	return all
}

// replay runs the command and returns its summary.
func (p *past) replay(args ...string) (replaySummary, result) {
	p.Helper()
	r := run(p.T, p.environ, append([]string{"replay", "-o", "json"}, args...)...)
	var s replaySummary
	if r.code == 0 {
		require.NoError(p, json.Unmarshal([]byte(r.stdout), &s), r.stdout)
	}
	return s, r
}

// bodies returns the bodies, in order.
func (p *past) bodies(messages []publisher.StoredMessage) (all []event.Event) {
	for _, m := range messages {
		var e event.Event
		require.NoError(p, json.Unmarshal(m.Data, &e))
		all = append(all, e)
	}
	return all
}

// TestAReplayPublishesWhatTheRelayDid compares the two streams byte by byte.
func TestAReplayPublishesWhatTheRelayDid(t *testing.T) {
	t.Parallel()
	p := newPast(t, 40, true)
	s, r := p.replay()
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, replaySummary{ReplayID: s.ReplayID, To: "codat.replay", Stream: "CODAT_REPLAY", Until: s.Until, Events: 80,
		ReplayResult: publisher.ReplayResult{Published: 80}, Complete: true}, s)
	assert.Contains(t, r.stderr, "80 events\n", "the count comes first")
	require.True(t, event.ValidReplayID(s.ReplayID))

	live := map[string]publisher.StoredMessage{}
	for _, m := range p.live {
		live[m.ID] = m
	}
	schema := compiledSchema(t)
	replayed := p.messages("CODAT_REPLAY")
	require.Len(t, replayed, len(live))
	for _, m := range replayed {
		original := live[strings.TrimSuffix(m.ID, "-r"+s.ReplayID)]
		require.NotEmpty(t, original.ID, m.ID)
		assert.Equal(t, strings.Replace(original.Subject, "codat.push.", "codat.replay.", 1), m.Subject)
		marked := bytes.Replace(original.Data, []byte(`{"id":"`+original.ID+`"`), []byte(`{"id":"`+m.ID+`"`), 1)
		marked = bytes.Replace(marked, []byte(`"replay":false`), []byte(`"replay":true,"replayId":"`+s.ReplayID+`"`), 1)
		assert.Equal(t, string(marked), string(m.Data))
		document, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data))
		require.NoError(t, err)
		require.NoError(t, schema.Validate(document))

		assert.Equal(t, s.ReplayID, m.Header.Get("ce-replayid"))
		for _, name := range []string{"ce-specversion", "ce-source", "ce-type", "ce-subject", "ce-time", "ce-dataschema", "ce-datacontenttype", "content-type"} {
			assert.Equal(t, original.Header.Get(name), m.Header.Get(name), name)
		}
	}
	assert.True(t, slices.IsSortedFunc(p.bodies(replayed), func(a, b event.Event) int {
		return a.ObservedAt.Time().Compare(b.ObservedAt.Time())
	}), "in the order of observation, over all companies")
	assert.Equal(t, p.live, p.messages("CODAT_PUSH"), "the live stream is left alone")
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	raw, err := event.Schema(event.StatusChanged)
	require.NoError(t, err)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource("schema", document))
	schema, err := compiler.Compile("schema")
	require.NoError(t, err)
	return schema
}

func TestAReplayTakesWhatItsFiltersSelect(t *testing.T) {
	t.Parallel()
	p := newPast(t, 24, true)
	all := p.bodies(p.live)
	count := func(meets func(event.Event) bool) (n int64) {
		for _, e := range all {
			if meets(e) {
				n++
			}
		}
		return n
	}
	typed := func(e event.Event, dataType string) bool { return e.DataType != nil && *e.DataType == dataType }
	day2 := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	edge := all[5].ObservedAt
	for name, c := range map[string]struct {
		args  []string
		meets func(event.Event) bool
	}{
		"one company":               {[]string{"--company", toft}, func(e event.Event) bool { return e.CompanyID == toft }},
		"both companies":            {[]string{"--company", toft + "," + other}, func(event.Event) bool { return true }},
		"a status in any case":      {[]string{"--status", "FAILED"}, func(e event.Event) bool { return e.Status == push.Failed }},
		"two statuses":              {[]string{"--status", "failed", "--status", "success"}, func(e event.Event) bool { return e.Status != push.Pending }},
		"a data type":               {[]string{"--data-type", "bills"}, func(e event.Event) bool { return typed(e, "bills") }},
		"no data type":              {[]string{"--data-type", "_"}, func(e event.Event) bool { return e.DataType == nil }},
		"since a date":              {[]string{"--since", "2026-01-02"}, func(e event.Event) bool { return !e.ObservedAt.Time().Before(day2) }},
		"until a date":              {[]string{"--until", "2026-01-02"}, func(e event.Event) bool { return e.ObservedAt.Time().Before(day2) }},
		"since an event's own time": {[]string{"--since", edge.String()}, func(e event.Event) bool { return !e.ObservedAt.Time().Before(edge.Time()) }},
		"until an event's own time": {[]string{"--until", edge.String()}, func(e event.Event) bool { return e.ObservedAt.Time().Before(edge.Time()) }},
		"for the last hour":         {[]string{"--since", "1h"}, func(e event.Event) bool { return time.Since(e.ObservedAt.Time()) < time.Hour }},
		"everything that must agree": {[]string{"--company", other, "--status", "Failed", "--data-type", "invoices"}, func(e event.Event) bool {
			return e.CompanyID == other && e.Status == push.Failed && typed(e, "invoices")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, r := p.replay(c.args...)
			require.Zero(t, r.code, r.stderr)
			want := count(c.meets)
			assert.Equal(t, want, s.Events)
			assert.Equal(t, want, s.Published)
			var got int64
			for _, e := range p.bodies(p.messages("CODAT_REPLAY")) {
				if e.ReplayID == s.ReplayID {
					got++
					assert.True(t, c.meets(e), "%+v", e)
				}
			}
			assert.Equal(t, want, got)
		})
	}
}

func TestADryRunCountsAndPublishesNothing(t *testing.T) {
	t.Parallel()
	p := newPast(t, 10, false)
	s, r := p.replay("--dry-run")
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, int64(20), s.Events)
	assert.Contains(t, r.stderr, "nats stream add", "it says what the replay would need")
	p.addStream(jetstream.StreamConfig{Name: "CODAT_REPLAY", Subjects: []string{"codat.replay.>"}})
	s, r = p.replay("--dry-run", "--status", "Failed")
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, replaySummary{To: "codat.replay", Stream: "CODAT_REPLAY", Until: s.Until, Events: 6, DryRun: true}, s, "nothing was begun, so nothing is complete")
	assert.NotContains(t, r.stdout, "replayId")
	assert.Empty(t, p.messages("CODAT_REPLAY"))
}

func TestARedactedReplayHidesTexts(t *testing.T) {
	t.Parallel()
	p := newPast(t, 10, true)
	p.environ = append(p.environ, "PUSHWATCH_EVENTS_DETAIL=redacted")
	_, r := p.replay("--status", "failed")
	require.Zero(t, r.code, r.stderr)
	replayed := p.messages("CODAT_REPLAY")
	require.NotEmpty(t, replayed)
	for i, e := range p.bodies(replayed) {
		assert.Nil(t, e.ErrorMessage)
		assert.Nil(t, e.Validation.Errors[0].Message)
		assert.NotContains(t, string(replayed[i].Data)[:strings.Index(string(replayed[i].Data), `"changes"`)], "account")
	}
}

// TestAKilledReplayIsResumedAndPublishesEachEventOnce kills replays in the middle,
// also gracefully, in a stream whose own deduplication is 100 ms.
func TestAKilledReplayIsResumedAndPublishesEachEventOnce(t *testing.T) {
	t.Parallel()
	p := newPast(t, 300, false)
	p.addStream(jetstream.StreamConfig{Name: "CODAT_REPLAY", Subjects: []string{"codat.replay.>"}, Duplicates: 100 * time.Millisecond})
	args := []string{"replay", "--rate", "400"}
	var lines string
	for i, signal := range []os.Signal{os.Kill, os.Interrupt, os.Kill} {
		cmd := program(t.Context(), t, p.environ, args...)
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		require.NoError(t, cmd.Start())
		p.atLeast(uint64(100*(i+1)), cmd)
		require.NoError(t, cmd.Process.Signal(signal))
		_ = cmd.Wait()
		lines = stderr.String()
		if signal == os.Interrupt {
			assert.Equal(t, 1, cmd.ProcessState.ExitCode(), lines)
			assert.Regexp(t, `interrupted; go on with: pushwatch replay .*--resume `+lastID(t, lines), lines)
		}
		_, again, found := strings.Cut(lines, "go on with: pushwatch ")
		require.True(t, found, lines)
		again, _, _ = strings.Cut(again, "\n")
		args = strings.Fields(again) // no word of it is quoted
	}
	stored := uint64(len(p.messages("CODAT_REPLAY")))
	require.Less(t, stored, uint64(600), "it was killed in the middle")

	s, r := p.replay(args[1:]...)
	require.Zero(t, r.code, r.stderr)
	assert.GreaterOrEqual(t, s.Already, int64(stored), "or more: what was under way when it was killed")
	assert.Positive(t, s.Published)
	assert.Equal(t, int64(600), s.Done())
	p.once(s.ReplayID, 600)

	// Another replay comes between, so that the last message of no operation is
	// the first one's, and the first is resumed once more.
	fresh, r := p.replay()
	require.Zero(t, r.code, r.stderr)
	assert.NotEqual(t, s.ReplayID, fresh.ReplayID)
	resumed, r := p.replay(args[1:]...)
	require.Zero(t, r.code, r.stderr)
	assert.Equal(t, publisher.ReplayResult{Already: 600}, resumed.ReplayResult)
	p.once(s.ReplayID, 600)
	p.once(fresh.ReplayID, 600)
}

// atLeast waits until the replay's stream holds n messages.
func (p *past) atLeast(n uint64, cmd *exec.Cmd) {
	require.Eventually(p, func() bool {
		stream, err := p.js.Stream(p.Context(), "CODAT_REPLAY")
		return err == nil && stream.CachedInfo().State.Msgs >= n
	}, 30*time.Second, 5*time.Millisecond, "%v", cmd.Args)
}

// once asserts that the stream holds n events of a replay, each once, and those of
// one operation in order.
func (p *past) once(replayID string, n int) {
	p.Helper()
	seen, version := map[string]bool{}, map[string]int64{}
	for _, e := range p.bodies(p.messages("CODAT_REPLAY")) {
		if e.ReplayID != replayID {
			continue
		}
		assert.False(p, seen[e.ID], "twice: %s", e.ID)
		seen[e.ID] = true
		operation := e.CompanyID + "/" + e.PushOperationKey
		assert.Equal(p, version[operation]+1, e.Version, operation)
		version[operation] = e.Version
	}
	assert.Len(p, seen, n)
}

func lastID(t *testing.T, text string) string {
	words := strings.Fields(text)
	i := slices.Index(words, "--resume")
	require.Positive(t, i, text)
	return words[i+1]
}

func TestAReplayThatCannotWorkIsRefused(t *testing.T) {
	t.Parallel()
	p := newPast(t, 2, false)
	p.addStream(jetstream.StreamConfig{Name: "HALF", Subjects: []string{"half.*.invoices.>"}})
	p.addStream(jetstream.StreamConfig{Name: "SILENT", Subjects: []string{"silent.>"}, NoAck: true})
	conn, err := pgx.Connect(t.Context(), strings.TrimPrefix(p.environ[0], "DATABASE_URL="))
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `update pushwatch.transition set status = 'Parked' where push_operation_key = 'op 1.0' and version = 2`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	for name, c := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"no stream":              {nil, 69, []string{"codat.replay.>", "nats stream add CODAT_REPLAY --subjects='codat.replay.>'"}},
		"half a stream":          {[]string{"--to", "half"}, 69, []string{"HALF", "nats stream edit HALF --subjects='half.>'"}},
		"a stream without acks":  {[]string{"--to", "silent"}, 78, []string{"SILENT", "no_ack"}},
		"the live stream's name": {[]string{"--to", "codat_push"}, 69, []string{"nats stream add CODAT_PUSH_REPLAY --subjects='codat_push.>'"}},
		"the live prefix":        {[]string{"--to", "codat.push"}, 2, []string{"overlaps", "codat.replay"}},
		"an empty word":          {[]string{"--to", "codat..x"}, 2, []string{"no", "subject prefix"}},
		"an unknown company":     {[]string{"--company", "nobody"}, 1, []string{"no company nobody was ever configured"}},
		"an unknown status":      {[]string{"--status", "Sucess"}, 2, []string{`"Sucess"`, "Pending, Success, Failed, TimedOut, Parked"}},
		"an empty status":        {[]string{"--status", ","}, 2, []string{"--status"}},
		"a time that is none":    {[]string{"--since", "yesterday"}, 2, []string{`--since "yesterday"`, "RFC 3339", "24h"}},
		"a time to come, as ago": {[]string{"--until", "-3h"}, 2, []string{"--until"}},
		"a negative rate":        {[]string{"--rate", "-1"}, 2, []string{"--rate", "from 0"}},
		"the end at the start":   {[]string{"--since", "2026-01-02", "--until", "2026-01-02"}, 2, []string{"not before"}},
		"an id that is none":     {[]string{"--resume", "tuesday"}, 2, []string{`"tuesday"`, "16 digits"}},
		"other flags than begun": {[]string{"--resume", "0123456789abcdef"}, 2, []string{"other flags, or never"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, r := p.replay(c.args...)
			assert.Equal(t, c.code, r.code, r.stderr)
			for _, word := range c.says {
				assert.Contains(t, r.stderr, word)
			}
		})
	}
	_, r := p.replay("--dry-run", "--status", "parked")
	assert.Zero(t, r.code, "a status that the history holds is known: %s", r.stderr)
	_, r = p.replay("--to", "codat.push2", "--dry-run")
	assert.Zero(t, r.code, r.stderr)
}
