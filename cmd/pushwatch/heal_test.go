package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

const healedCompany = "8a210b68-6988-11ed-a1eb-0242ac120002"

// damageable is a NATS server in this process whose store a test can harm.
type damageable struct {
	*testing.T
	dir     string
	port    int
	running *natsserver.Server
}

func newDamageable(t *testing.T) *damageable {
	d := &damageable{T: t, dir: t.TempDir(), port: natsserver.RANDOM_PORT}
	d.start()
	t.Cleanup(d.stop)
	return d
}

func (d *damageable) start() {
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: d.port, JetStream: true, StoreDir: d.dir, NoLog: true, NoSigs: true})
	require.NoError(d, err)
	s.Start()
	require.True(d, s.ReadyForConnections(10*time.Second))
	d.port, d.running = s.Addr().(*net.TCPAddr).Port, s
}

func (d *damageable) stop() {
	d.running.Shutdown()
	d.running.WaitForShutdown()
}

// healing is a database, a stream and the relay between them, driven by hand. The
// database is behind a pooler in transaction mode.
type healing struct {
	*testing.T
	broker  *damageable
	nats    *nats.Conn
	url     string // past the pooler
	pooled  string // through it
	store   *store.Store
	company push.Company
	leases  *store.Leases
	outbox  *store.Outbox
	stream  *publisher.JetStream
	relay   *publisher.Relay
	ahead   time.Duration // of the relay's clock
}

// newHealing works on the database that config names, else on one of its own.
func newHealing(t *testing.T, broker *damageable, config store.Config, audited bool) *healing {
	direct := config.URL
	if direct == "" {
		direct = server.URL(t)
		newInstance(t, direct)
	}
	config.URL, config.TransactionPooler = storetest.Pooler(t, direct), true
	h := &healing{T: t, broker: broker, url: direct, pooled: config.URL, store: server.Open(t, config)}
	h.company, _, h.leases = storetest.Company(t, h.store, healedCompany)
	require.NoError(t, h.store.RollSent(t.Context(), time.Hour))
	h.outbox = h.store.Outbox(h.leases)
	var err error
	h.nats, err = publisher.Dial(t.Context(), publisher.DialConfig{URL: broker.running.ClientURL()})
	require.NoError(t, err)
	t.Cleanup(func() {
		closed := h.nats.StatusChanged(nats.CLOSED)
		h.nats.Close()
		<-closed
	})
	h.stream, _, err = publisher.EnsureStream(t.Context(), h.nats, publisher.StreamConfig{
		Name: "CODAT_PUSH", SubjectPrefix: "codat.push", Manage: publisher.ManageCreate, MaxAge: 720 * time.Hour})
	require.NoError(t, err)
	h.relay = h.newRelay(h.outbox, audited)
	return h
}

// newInstance makes a database cloned from the template another one than its
// siblings, as if it had been made by itself.
func newInstance(t *testing.T, url string) {
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	_, err = conn.Exec(t.Context(), `update pushwatch.instance set id = left(replace(gen_random_uuid()::text, '-', ''), 8)`)
	require.NoError(t, err)
}

func (h *healing) newRelay(outbox *store.Outbox, audited bool) *publisher.Relay {
	c := publisher.Config{Stream: h.stream, Outbox: outbox, AckTimeout: time.Second,
		Now: func() time.Time { return h.store.Now().Add(h.ahead) }}
	if audited {
		c.Archive, c.Heirs, c.Instance = outbox, outbox, h.store.Instance()
	}
	r, err := publisher.New(c)
	require.NoError(h, err)
	return r
}

// baseline finishes the company's first look, which shows operations.
func (h *healing) baseline(operations ...push.Operation) {
	h.Helper()
	for i := range operations {
		operations[i].RequestedOn = h.store.Now().Add(-time.Hour)
	}
	walk, err := h.store.OpenWalk(h.Context(), h.company, push.WalkBaseline, h.store.Now())
	require.NoError(h, err)
	h.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Rows: push.RowsOf(operations...), Last: true}})
}

// operations returns operations first to last, requested just now.
func (h *healing) operations(first, last int, status push.Status) (all []push.Operation) {
	for i := first; i <= last; i++ {
		all = append(all, push.Operation{CompanyID: healedCompany, Key: fmt.Sprintf("operation-%03d", i), ConnectionID: "connection",
			DataType: "invoices", Status: status, RequestedOn: h.store.Now().Add(time.Second)})
	}
	return all
}

func (h *healing) look(operations ...push.Operation) {
	h.Helper()
	h.record(push.Record{Page: push.Page{Rows: push.RowsOf(operations...)}})
}

func (h *healing) record(r push.Record) {
	h.Helper()
	r.Company = h.company
	r.Page.Source, r.Page.Number, r.Page.Size = push.FromList, 1, 5000
	r.Page.StartedAt = h.store.Now()
	r.Page.FinishedAt = h.store.Now()
	_, err := h.store.Record(h.Context(), r)
	require.NoError(h, err)
	storetest.CheckInvariants(h, h.url)
}

// drain runs a relay until it has nothing to do. On a busy machine a test takes longer
// than a lease is trusted, and a relay without one has nothing to do.
func (h *healing) drain(r *publisher.Relay) {
	h.Helper()
	require.Eventually(h, func() bool {
		ctx, cancel := context.WithTimeout(h.Context(), 10*time.Second)
		defer cancel()
		if h.leases.Renew(ctx) != nil {
			return false
		}
		result, err := r.RunOnce(ctx)
		return err == nil && result == publisher.Result{}
	}, 30*time.Second, time.Millisecond)
	storetest.CheckInvariants(h, h.url)
}

func (h *healing) audit() audit.Report {
	h.Helper()
	report, err := auditLive(h.Context(), h.store, h.nats, publisher.StreamConfig{Name: "CODAT_PUSH", MaxAge: 720 * time.Hour},
		h.store.Now().Add(time.Hour)) // nothing is at work meanwhile
	require.NoError(h, err)
	return report
}

func (h *healing) messages() (all []publisher.StoredMessage) {
	h.Helper()
	require.NoError(h, publisher.ReadAll(h.Context(), h.nats, "CODAT_PUSH", func(m publisher.StoredMessage) error {
		all = append(all, m)
		return nil
	}))
	return all
}

// restart stops the broker, lets do change its store, and starts it.
func (h *healing) restart(do func()) {
	before := h.nats.Stats().Reconnects
	h.broker.stop()
	do()
	h.broker.start()
	require.Eventually(h, func() bool { return h.nats.Stats().Reconnects > before && h.nats.IsConnected() }, 20*time.Second, time.Millisecond)
}

var damages = []struct {
	name string
	do   func(h *healing)
}{
	{"the whole store is deleted", func(h *healing) {
		h.restart(func() { require.NoError(h, os.RemoveAll(filepath.Join(h.broker.dir, "jetstream"))) })
	}},
	{"an older copy is restored, and others get its sequences", func(h *healing) {
		copied := filepath.Join(h.TempDir(), "copy")
		h.restart(func() { require.NoError(h, os.CopyFS(copied, os.DirFS(h.broker.dir))) })
		h.look(h.operations(1, 20, push.Success)...)
		h.look(h.operations(100, 140, push.Pending)...)
		h.drain(h.relay)
		h.restart(func() {
			require.NoError(h, os.RemoveAll(filepath.Join(h.broker.dir, "jetstream")))
			require.NoError(h, os.CopyFS(h.broker.dir, os.DirFS(copied)))
		})
		h.look(h.operations(200, 210, push.Pending)...)
		h.drain(h.newRelay(h.outbox, false))
	}},
	{"the stream is purged", func(h *healing) {
		js, err := jetstream.New(h.nats)
		require.NoError(h, err)
		s, err := js.Stream(h.Context(), "CODAT_PUSH")
		require.NoError(h, err)
		require.NoError(h, s.Purge(h.Context()))
	}},
	{"the stream is deleted", func(h *healing) {
		js, err := jetstream.New(h.nats)
		require.NoError(h, err)
		require.NoError(h, js.DeleteStream(h.Context(), "CODAT_PUSH"))
	}},
	{"the stream is deleted and made again", func(h *healing) {
		js, err := jetstream.New(h.nats)
		require.NoError(h, err)
		config := h.streamConfig(js)
		require.NoError(h, js.DeleteStream(h.Context(), "CODAT_PUSH"))
		_, err = js.CreateStream(h.Context(), config)
		require.NoError(h, err)
	}},
}

// makePurgeable makes the stream as an administrator might: it may be purged.
func makePurgeable(t *testing.T, d *damageable) {
	nc, err := nats.Connect(d.running.ClientURL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "CODAT_PUSH", Subjects: []string{"codat.push.>"},
		MaxAge: 720 * time.Hour, Discard: jetstream.DiscardNew, DenyDelete: true,
		Duplicates: 100 * time.Millisecond}) // a purged message's id is remembered for so long, and refused
	require.NoError(t, err)
}

func (h *healing) streamConfig(js jetstream.JetStream) jetstream.StreamConfig {
	s, err := js.Stream(h.Context(), "CODAT_PUSH")
	require.NoError(h, err)
	return s.CachedInfo().Config
}

// TestWhatTheBrokerLostIsPublishedAgain harms the stream behind a relay that has
// published, and audits. The same without the tail audit stays lost.
func TestWhatTheBrokerLostIsPublishedAgain(t *testing.T) {
	t.Parallel()
	for _, damage := range damages {
		for _, audited := range []bool{true, false} {
			name := damage.name
			if !audited {
				name += ", without the audit"
			}
			t.Run(name, func(t *testing.T) {
				broker := newDamageable(t)
				makePurgeable(t, broker)
				h := newHealing(t, broker, store.Config{}, audited)
				h.baseline()
				h.look(h.operations(1, 50, push.Pending)...)
				h.drain(h.relay)
				h.look(h.operations(21, 50, push.Success)...)
				h.drain(h.relay)
				require.True(t, h.audit().Sound())

				damage.do(h)
				left := map[string]bool{} // none, and an error, where the stream is gone
				_ = publisher.ReadAll(t.Context(), h.nats, "CODAT_PUSH", func(m publisher.StoredMessage) error {
					left[m.ID] = true
					return nil
				})
				for range 2 { // the first notices that the stream is another, the second heals it
					h.ahead += 11 * time.Second
					h.drain(h.relay)
				}

				report := h.audit()
				t.Log(report)
				if !audited {
					assert.NotZero(t, report.Lost, "the damage is none")
					return
				}
				assert.True(t, report.Sound(), "%s, unknown %d", report, report.Unknown)
				for _, m := range h.messages() {
					marked := m.Header.Get(event.HeaderReplayed) == "1"
					require.Equal(t, !left[m.ID], marked, "%s is marked as published again", m.ID)
				}
				h.look(h.operations(1, 20, push.Failed)...) // goes on behind what was healed
				h.drain(h.relay)
				assert.True(t, h.audit().Sound())
			})
		}
	}
}

// TestAConflictThatShowsALossIsAReasonToAudit purges a stream behind a relay that is
// too busy to look at it: the next event of one operation shows what all have lost.
func TestAConflictThatShowsALossIsAReasonToAudit(t *testing.T) {
	broker := newDamageable(t)
	makePurgeable(t, broker)
	h := newHealing(t, broker, store.Config{}, true)
	h.baseline()
	h.look(h.operations(1, 20, push.Pending)...)
	h.drain(h.relay)
	for _, damage := range damages {
		if damage.name == "the stream is purged" {
			damage.do(h)
		}
	}
	require.Empty(t, h.messages())
	h.ahead += time.Second // past the duplicate window, long before the next audit
	h.look(h.operations(7, 7, push.Success)...)
	require.Eventually(t, func() bool {
		h.drain(h.relay)
		return len(h.messages()) == 21
	}, 10*time.Second, 50*time.Millisecond)
	assert.True(t, h.audit().Sound())
}

// TestAReplicaAuditsWhatItTakesOver purges a stream behind two replicas, of which the
// one that could see the loss ends before it looks. The other one looked at the
// stream when it held nothing, so it has to look again at what it takes over.
func TestAReplicaAuditsWhatItTakesOver(t *testing.T) {
	broker := newDamageable(t)
	makePurgeable(t, broker)
	h := newHealing(t, broker, store.Config{}, true)
	h.baseline()
	h.look(h.operations(1, 20, push.Pending)...)
	h.drain(h.relay)
	leases := h.store.Leases(store.Holder("elsewhere/boot/1/1"), nil)
	leases.Want(store.RelayLeases())
	outbox := h.store.Outbox(leases)
	peer := h.newRelay(outbox, true)
	h.drain(peer)
	for _, damage := range damages {
		if damage.name == "the stream is purged" {
			damage.do(h)
		}
	}
	for range 2 { // notices the loss, and finds nothing of its own missing
		h.ahead += 11 * time.Second
		h.drain(peer)
	}
	require.Empty(t, h.messages())

	require.NoError(t, h.leases.Release(t.Context()))
	require.NoError(t, leases.Renew(t.Context()))
	h.drain(peer)
	assert.Len(t, h.messages(), 20)
	assert.True(t, h.audit().Sound())
}

// busyArchive lets something happen once, in the middle of an audit.
type busyArchive struct {
	*store.Outbox
	during func()
}

func (a *busyArchive) Newest(ctx context.Context, within time.Duration, max int) ([]event.Kept, error) {
	if during := a.during; during != nil {
		a.during = nil
		during()
	}
	return a.Outbox.Newest(ctx, within, max)
}

// TestAnEventThatComesDuringAnAuditIsNotMissed publishes behind the back of an audit,
// as the former holder of a bucket does that is just being handed over.
func TestAnEventThatComesDuringAnAuditIsNotMissed(t *testing.T) {
	h := newHealing(t, newDamageable(t), store.Config{}, true)
	h.baseline()
	h.look(h.operations(1, 5, push.Pending)...)
	h.drain(h.relay)
	h.look(h.operations(3, 9, push.Success)...)
	var log bytes.Buffer
	archive := &busyArchive{h.outbox, func() { h.drain(h.relay) }}
	auditing, err := publisher.New(publisher.Config{Stream: h.stream, Outbox: h.outbox, Archive: archive, Now: h.store.Now,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	h.drain(auditing)
	assert.Empty(t, log.String())
	assert.Len(t, h.messages(), 12)
	assert.True(t, h.audit().Sound())
}

// TestAnEventThatIsElsewhereThanRecordedIsFoundThere is what a message leaves behind
// that was on its way for long: it came after the stream had lost the first copy.
func TestAnEventThatIsElsewhereThanRecordedIsFoundThere(t *testing.T) {
	for name, statuses := range map[string][]push.Status{
		"the last one of its operation": {push.Pending},
		"one before the last":           {push.Pending, push.Success},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHealing(t, newDamageable(t), store.Config{}, true)
			h.baseline()
			for _, status := range statuses {
				h.look(h.operations(1, 3, status)...)
				h.drain(h.relay)
			}
			before := h.messages()
			conn, err := pgx.Connect(t.Context(), h.url)
			require.NoError(t, err)
			defer func() { require.NoError(t, conn.Close(t.Context())) }()
			for _, table := range []string{"sent", "publication"} {
				_, err = conn.Exec(t.Context(), "update pushwatch."+table+" set stream_sequence = 99 where version = 1 and push_operation_key = 'operation-002'")
				require.NoError(t, err)
			}

			var log bytes.Buffer
			auditing, err := publisher.New(publisher.Config{Stream: h.stream, Outbox: h.outbox, Archive: h.outbox, Now: h.store.Now,
				Log: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			h.drain(auditing)

			assert.NotContains(t, log.String(), "is missing from the stream")
			assert.Equal(t, before, h.messages(), "nothing is published for it")
			var sequence int64
			require.NoError(t, conn.QueryRow(t.Context(), `select stream_sequence from reporting.push_transitions
where version = 1 and push_operation_key = 'operation-002'`).Scan(&sequence))
			assert.Equal(t, int64(2), sequence)
			assert.True(t, h.audit().Sound())
		})
	}
}

// TestAFreshDatabaseGoesOnBehindAnOldStream loses the database alone: what the
// stream tells is not told again, and a later change is the next version.
func TestAFreshDatabaseGoesOnBehindAnOldStream(t *testing.T) {
	for _, publish := range []bool{true, false} {
		t.Run(fmt.Sprintf("publish %v", publish), func(t *testing.T) {
			broker := newDamageable(t)
			makePurgeable(t, broker)
			old := newHealing(t, broker, store.Config{}, true)
			old.baseline()
			old.look(old.operations(1, 20, push.Pending)...)
			old.drain(old.relay)
			require.Equal(t, 20, len(old.messages()))

			h := newHealing(t, broker, store.Config{PublishBaseline: publish}, true)
			h.baseline(h.operations(1, 20, push.Pending)...)
			h.drain(h.relay)
			assert.Equal(t, 20, len(h.messages()), "nothing is told twice")
			h.look(h.operations(1, 20, push.Success)...)
			h.drain(h.relay)

			messages := h.messages()
			require.Equal(t, 40, len(messages))
			for _, m := range messages[20:] {
				var e event.Event
				require.NoError(t, json.Unmarshal(m.Data, &e))
				assert.Equal(t, int64(2), e.Version)
				assert.Equal(t, push.Pending, *e.PreviousStatus)
			}
			report := h.audit()
			assert.True(t, report.Sound(), "%s, unknown %d", report, report.Unknown)

			h.look(push.Operation{CompanyID: healedCompany, Key: "operation-900", ConnectionID: "connection",
				DataType: "invoices", Status: push.Pending, RequestedOn: h.store.Now()})
			h.drain(h.relay)
			assert.Equal(t, 41, len(h.messages()))
		})
	}
}

// TestAnOlderDatabaseGoesOnBehindWhatItsLostCommitsTold: a standby that had missed
// commits takes over. What they told is known again, and nothing is told twice.
func TestAnOlderDatabaseGoesOnBehindWhatItsLostCommitsTold(t *testing.T) {
	broker := newDamageable(t)
	before := newHealing(t, broker, store.Config{}, true)
	before.baseline()
	before.look(before.operations(1, 20, push.Pending)...)
	before.drain(before.relay)
	before.look(before.operations(16, 20, push.Success)...) // waits when the copy is made
	require.NoError(t, before.leases.Release(t.Context()))
	before.store.Close()
	copied := server.Copy(t, before.url)

	lost := newHealing(t, broker, store.Config{URL: before.url}, true)
	lost.drain(lost.relay)
	lost.look(lost.operations(1, 5, push.Success)...)
	lost.look(lost.operations(6, 10, push.Failed)...)
	lost.look(lost.operations(21, 25, push.Pending)...)
	lost.drain(lost.relay)
	lost.look(lost.operations(21, 25, push.Success)...)
	lost.drain(lost.relay)
	require.Len(t, lost.messages(), 20+5+5+5+5+5)

	h := newHealing(t, broker, store.Config{URL: copied}, true)
	h.drain(h.relay)
	require.Len(t, h.messages(), 45, "what waited in the copy, too, is told already")
	h.look(h.operations(1, 15, push.Success)...)
	h.look(h.operations(21, 25, push.Failed)...)
	h.drain(h.relay)
	messages := h.messages()
	told := map[string]string{}
	for _, m := range messages {
		var e event.Event
		require.NoError(t, json.Unmarshal(m.Data, &e))
		told[e.PushOperationKey] += fmt.Sprintf("%d %s ", e.Version, e.Status)
	}
	for key, want := range map[string]string{
		"operation-001": "1 Pending 2 Success ",
		"operation-006": "1 Pending 2 Failed 3 Success ",
		"operation-011": "1 Pending 2 Success ",
		"operation-016": "1 Pending 2 Success ",
		"operation-021": "1 Pending 2 Success 3 Failed ",
	} {
		assert.Equal(t, want, told[key], key)
	}
	assert.Len(t, messages, 45+5+5+5)
	report := h.audit()
	assert.True(t, report.Sound(), "%s", report)
	assert.Zero(t, report.Unknown, "%s", report)
}

// TestASilentBaselineTellsWhatChangedWhileTheDatabaseWasLost compares each
// operation without a version with what the earlier database published of it.
func TestASilentBaselineTellsWhatChangedWhileTheDatabaseWasLost(t *testing.T) {
	broker := newDamageable(t)
	old := newHealing(t, broker, store.Config{}, true)
	old.baseline()
	old.look(old.operations(1, 20, push.Pending)...)
	old.drain(old.relay)
	old.look(old.operations(11, 15, push.Success)...)
	old.drain(old.relay)
	require.Equal(t, 25, len(old.messages()))

	h := newHealing(t, broker, store.Config{}, true)
	h.baseline(append(h.operations(1, 10, push.Failed), append(h.operations(11, 15, push.Success), h.operations(16, 30, push.Pending)...)...)...)
	h.drain(h.relay)
	messages := h.messages()
	require.Equal(t, 35, len(messages), "the ten that changed, and nothing else")
	for _, m := range messages[25:] {
		var e event.Event
		require.NoError(t, json.Unmarshal(m.Data, &e))
		assert.Equal(t, int64(2), e.Version)
		assert.Equal(t, push.Pending, *e.PreviousStatus)
		assert.Equal(t, push.Failed, e.Status)
	}
	report := h.audit()
	assert.True(t, report.Sound(), "%s, unknown %d", report, report.Unknown)
}
