package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
)

// smallBroker is a NATS server that takes messages of at most so many bytes, at
// the same address and with the same store however often it is started.
type smallBroker struct {
	t       *testing.T
	dir     string
	port    int
	running *natsserver.Server
}

func (b *smallBroker) start(maxPayload int32) (url string) {
	b.stop()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: b.port, JetStream: true, StoreDir: b.dir,
		NoLog: true, NoSigs: true, MaxPayload: maxPayload})
	require.NoError(b.t, err)
	s.Start()
	require.True(b.t, s.ReadyForConnections(10*time.Second))
	b.running, b.port = s, s.Addr().(*net.TCPAddr).Port
	return s.ClientURL()
}

func (b *smallBroker) stop() {
	if b.running != nil {
		b.running.Shutdown()
		b.running.WaitForShutdown()
	}
}

// asides lists the quarantine through the program.
func (w *world) asides(t *testing.T, args ...string) (all []store.Aside) {
	listed := run(t, w.environ(), append([]string{"quarantine", "list", "-o", "json"}, args...)...)
	require.Zero(t, listed.code, listed.stderr)
	require.NoError(t, json.Unmarshal([]byte(listed.stdout), &all))
	return all
}

func (w *world) versions(t *testing.T, key string) (versions []int64) {
	w.eachMessage(t, func(m publisher.StoredMessage) {
		var e event.Event
		require.NoError(t, json.Unmarshal(m.Data, &e))
		if e.PushOperationKey == key {
			versions = append(versions, e.Version)
		}
	})
	return versions
}

// interrupt ends a daemon as Ctrl-C does.
func interrupt(t *testing.T, cmd *exec.Cmd) {
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
}

// TestEventsTooLargeForTheBrokerWaitAndNothingElseDoes: two operations fail with
// messages of 60 KB at a server that takes 32 KiB, and then succeed after all. One
// event is dropped; the other goes when the server takes more.
func TestEventsTooLargeForTheBrokerWaitAndNothingElseDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 2)})
	broker := &smallBroker{t: t, dir: t.TempDir(), port: -1}
	w.natsURL = broker.start(32 << 10)
	t.Cleanup(broker.stop)
	daemon := w.start(t, w.environ())
	company := w.companies[0]
	for _, key := range []string{"dropped", "retried"} {
		_, err := w.sim.Add(codatsim.Operation{CompanyID: company, Key: key, Status: codatsim.Failed, ErrorMessage: strings.Repeat("too long ", 7000)})
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return len(w.asides(t, "--class", "too_large")) == 2 }, 30*time.Second, 300*time.Millisecond)
	for _, key := range []string{"dropped", "retried"} {
		require.NoError(t, w.sim.Set(company, key, codatsim.Success))
	}
	published := w.query(t, `select count(*) from pushwatch.publication`)
	require.Eventually(t, func() bool {
		return w.query(t, `select count(*) from pushwatch.publication`) > published+20 &&
			w.query(t, `select count(*) from pushwatch.outbox where rejected_class is null`) == 2
	}, 30*time.Second, 300*time.Millisecond, "others go on, the two wait behind the rejected ones")

	ids := map[string]string{}
	for _, a := range w.asides(t) {
		ids[a.Key] = string(a.ID)
		assert.Equal(t, int64(1), a.Behind)
	}
	refused := run(t, w.environ(), "quarantine", "drop", ids["dropped"])
	assert.Equal(t, exitUsage, refused.code, "no terminal to ask on")
	dropped := run(t, w.environ(), "quarantine", "drop", "--yes", ids["dropped"])
	require.Zero(t, dropped.code, dropped.stderr)
	assert.Contains(t, dropped.stdout, "version 1 of operation dropped is a gap")
	require.Eventually(t, func() bool { return len(w.versions(t, "dropped")) == 1 }, 30*time.Second, 300*time.Millisecond)
	assert.Equal(t, []int64{2}, w.versions(t, "dropped"))

	again := run(t, w.environ("CODAT_API_KEY="), "quarantine", "retry", ids["retried"])
	require.Zero(t, again.code, again.stderr)
	require.Eventually(t, func() bool { return len(w.asides(t, "--class", "too_large")) == 1 }, 30*time.Second, 300*time.Millisecond,
		"it is still too large, and set aside again")
	broker.start(1 << 20)
	require.Eventually(t, func() bool { return strings.Contains(w.log.String(), "NATS connection is back") }, 30*time.Second, 50*time.Millisecond,
		"before that the client knows the old limit only")
	again = run(t, w.environ("CODAT_API_KEY="), "quarantine", "retry", ids["retried"])
	require.Zero(t, again.code, again.stderr)
	require.Eventually(t, func() bool { return len(w.versions(t, "retried")) == 2 }, 60*time.Second, 300*time.Millisecond)
	assert.Equal(t, []int64{1, 2}, w.versions(t, "retried"))
	assert.Empty(t, w.asides(t))
	audited := run(t, w.environ(), "audit")
	assert.Zero(t, audited.code, "a gap that somebody asked for is no damage: %s", audited.stdout)
	interrupt(t, daemon)
	assert.Contains(t, run(t, w.environ(), "show", "dropped").stdout, "dropped")

	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: w.natsURL})
	require.NoError(t, err)
	defer nc.Close()
	_, err = nc.Request("codat.push.c.d.k.success", []byte("no event"), 10*time.Second)
	require.NoError(t, err)
	audited = run(t, w.environ(), "audit")
	assert.Equal(t, exitFailed, audited.code, audited.stderr)
	assert.Regexp(t, `unknown +1\n\nunknown +message [0-9]+ of the stream\n`, audited.stdout)
}

// TestRecordsAreRetriedThroughTheLedgerOrWaitForASweep breaks what gets and lists
// show, mends it and retries.
func TestRecordsAreRetriedThroughTheLedgerOrWaitForASweep(t *testing.T) {
	t.Parallel()
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 1)})
	company := w.companies[0]
	require.NoError(t, w.sim.SetFaults(codatsim.Rule{Fault: codatsim.NumberStatus, Request: codatsim.Get, Key: "broken"},
		codatsim.Rule{Fault: codatsim.MissingKey, Request: codatsim.List, Times: 1}))
	_, err := w.sim.Add(codatsim.Operation{CompanyID: company, Key: "broken", RequestedOn: time.Now().Add(-time.Minute)})
	require.NoError(t, err)
	daemon := w.start(t, w.environ())
	require.Eventually(t, func() bool {
		return len(w.asides(t, "--class", "key_missing")) == 1 &&
			w.query(t, `select count(*) from pushwatch.operation where push_operation_key = 'broken'`) == 1
	}, 30*time.Second, 300*time.Millisecond)
	interrupt(t, daemon)
	keyless := string(w.asides(t, "--class", "key_missing")[0].ID)
	id := fmt.Sprintf("r%d", w.query(t, fmt.Sprintf(`
insert into pushwatch.quarantine (company_id, push_operation_key, class, detail, body_hash, body, first_seen_at, last_seen_at)
values ('%s', 'broken', 'status_missing', 'seen once in a list', '', '{}', now(), now()) returning id`, company)))

	still := run(t, w.environ(), "quarantine", "retry", id)
	assert.Equal(t, exitFailed, still.code)
	assert.Contains(t, still.stdout, id+": still cannot be read: status_wrong_type")
	assert.Len(t, w.asides(t, "--class", "status_wrong_type"), 1, "what the get showed is kept too")
	require.Zero(t, run(t, w.environ(), "quarantine", "drop", "--all", "--class", "status_wrong_type", "--yes").code)
	require.NoError(t, w.sim.SetFaults())
	require.NoError(t, w.sim.Set(company, "broken", codatsim.Success))
	used := w.query(t, `select used from pushwatch.quota_day`)
	read := run(t, w.environ(), "quarantine", "retry", id, keyless)
	require.Zero(t, read.code, read.stderr)
	assert.Contains(t, read.stdout, id+": read and recorded: operation broken is Success, 1 event")
	assert.Contains(t, read.stdout, keyless+": has no key to ask for")
	assert.Equal(t, used+1, w.query(t, `select used from pushwatch.quota_day`), "one request, counted")
	left := w.asides(t)
	require.Len(t, left, 1)
	assert.NotNil(t, left[0].RetriedAt)

	shown := run(t, w.environ(), "quarantine", "show", keyless)
	assert.Contains(t, shown.stdout, "waits for the next sweep")
	dropped := run(t, w.environ(), "quarantine", "drop", "--all", "--yes")
	require.Zero(t, dropped.code, dropped.stderr)
	assert.Contains(t, dropped.stderr, "dropped 1 record")
	empty := run(t, w.environ(), "quarantine", "list")
	assert.Zero(t, empty.code)
	assert.Empty(t, empty.stdout)
	assert.Contains(t, empty.stderr, "nothing is set aside")
}

// TestAFilterThatNothingSetAsideMeetsIsNoEmptyQuarantine: it says what else there is.
func TestAFilterThatNothingSetAsideMeetsIsNoEmptyQuarantine(t *testing.T) {
	t.Parallel()
	address := server.URL(t)
	environ := []string{"DATABASE_URL=" + address, "CODAT_API_KEY=k", "PUSHWATCH_COMPANIES=c"}
	filtered := []string{"quarantine list --class nope", "quarantine retry --all --class nope", "quarantine drop --all --class nope --yes"}
	for _, args := range filtered {
		got := run(t, environ, strings.Fields(args)...)
		assert.Zero(t, got.code, got.stderr)
		assert.Contains(t, got.stderr, "nothing is set aside\n", args)
	}
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), `insert into pushwatch.quarantine (company_id, body_hash, class, detail, body, first_seen_at, last_seen_at)
values ('c', '\x00', 'key_missing', 'it has none', '{}', now(), now())`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	for _, args := range filtered {
		got := run(t, environ, strings.Fields(args)...)
		assert.Zero(t, got.code, got.stderr)
		assert.Empty(t, got.stdout)
		assert.Contains(t, got.stderr, "nothing that is set aside meets the filters; there are: 1 record key_missing\n", args)
	}
	listed := run(t, environ, "quarantine", "list", "-o", "json")
	require.Zero(t, listed.code, listed.stderr)
	for _, field := range []string{"companyName", "pushOperationKey", "eventId", "version", "subject", "behind", "body"} {
		assert.Contains(t, listed.stdout, `"`+field+`": null`, "what is unknown, or no record has")
	}
	assert.Contains(t, listed.stdout, `"size": 2,`)
}

func TestWrongUseOfTheQuarantineSaysWhatToType(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + server.URL(t), "NATS_URL=nats://" + closedPort(t)}
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"quarantine retry", exitUsage, "give ids, or --all"},
		{"quarantine drop r1 --all --yes", exitUsage, "either ids or --all"},
		{"quarantine drop r1 --class x --yes", exitUsage, "go with --all"},
		{"quarantine show 12", exitUsage, "ids look like r12"},
		{"quarantine show", exitUsage, "missing: ID; see 'pushwatch quarantine show --help'"},
		{"quarantine show r1 r2", exitUsage, `"r2": one argument too many behind ID`},
		{"options c", exitUsage, "missing: CONNECTION DATATYPE; see 'pushwatch options --help'"},
		{"status now", exitUsage, `"now": no argument is taken`},
		{"quarantine show r12", exitFailed, "pushwatch quarantine list"},
		{"quarantine drop e7 --yes", exitFailed, "e7: not in the quarantine"},
		{"quarantine list --limit -1", exitUsage, "--limit"},
		{"quarantine list -o yaml", exitUsage, "table, json, csv"},
		{"quarantine retry r1", exitConfig, "CODAT_API_KEY"},
		{"quarantine retry e1", exitFailed, "e1: not in the quarantine"},
		{"show nothing", exitFailed, "no operation nothing was ever seen; keys are those that 'pushwatch tail"},
		{"show nothing --company nobody", exitFailed, "no company nobody was ever configured"},
		{"quarantine list --company nobody", exitFailed, "pushwatch status -o json"},
		{"quarantine drop --all --company nobody --yes", exitFailed, "no company nobody was ever configured"},
		{"replay --dry-run --company nobody", exitFailed, "no company nobody was ever configured"},
		{"replay --dry-run --since 2026-01-02 --until 2026-01-01", exitUsage, "is not before --until"},
		{"tail --since yesterday", exitUsage, "7d"},
		{"tail --since 2999-01-01T00:00:00Z", exitUsage, "in the future"},
		{"tail", exitService, "NATS"},
		{"status -o yaml", exitUsage, "table, json, csv"},
	} {
		got := run(t, environ, strings.Fields(c.args)...)
		assert.Equal(t, c.code, got.code, c.args+": "+got.stderr)
		assert.Contains(t, got.stderr, c.says, c.args)
		said := strings.Split(strings.TrimSpace(got.stderr), "\n") // the tests' database draws a warning
		assert.Equal(t, 1, len(said)-strings.Count(got.stderr, "fsync"), fmt.Sprintf("%s: one line: %s", c.args, got.stderr))
	}
}
