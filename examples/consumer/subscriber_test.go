package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

const soon = 20 * time.Second

// message returns an event of an operation as pushwatch publishes it.
func message(t *testing.T, key string, version int64, status push.Status) event.Message {
	text := "refused"
	e := event.New("0badcafe", push.Operation{CompanyID: "company", Key: key, DataType: "invoices", Status: status, ErrorMessage: &text}, version)
	e.ObservedAt, e.Source = event.Timestamp(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), push.FromList
	m, err := event.Encode(event.DefaultPrefix, "invoices", e)
	require.NoError(t, err)
	return m
}

// publish stores an event without a message id, so that one can be there twice.
func (r *rig) publish(m event.Message) {
	r.Helper()
	_, err := r.js.Publish(r.Context(), m.Subject, m.Data)
	require.NoError(r, err)
}

func (r *rig) subscriber() *Subscriber {
	return &Subscriber{Conn: r.connect(), Inbox: &Inbox{Pool: r.pool}, Log: slog.New(slog.NewTextHandler(r.log, nil)),
		Stream: "CODAT_PUSH", Durable: "push-events", Subject: "codat.push.>", AckWait: time.Second, Retry: 10 * time.Millisecond}
}

// start runs an instance; stop ends it gracefully.
func (r *rig) start() (stop func()) {
	ctx, cancel := context.WithCancel(r.Context())
	ended := make(chan error, 1)
	s := r.subscriber()
	go func() { ended <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-ended:
			assert.NoError(r, err)
		case <-time.After(soon):
			assert.Fail(r, "the instance did not stop")
		}
	}
	r.Cleanup(stop)
	return stop
}

// settled waits until the server has an answer for every one of n messages.
func (r *rig) settled(n uint64) {
	r.Helper()
	require.Eventually(r, func() bool {
		consumer, err := r.js.Consumer(r.Context(), "CODAT_PUSH", "push-events")
		if err != nil {
			return false
		}
		info, err := consumer.Info(r.Context())
		return err == nil && info.AckFloor.Stream == n && info.NumAckPending == 0
	}, soon, 10*time.Millisecond)
}

type failure struct {
	Key      string
	Failures int
	Open     bool
}

func (r *rig) failures() []failure {
	r.Helper()
	rows, err := r.pool.Query(r.Context(), `
select push_operation_key, failures, resolved_at is null from failed_pushes order by push_operation_key`)
	require.NoError(r, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[failure])
	require.NoError(r, err)
	return all
}

func (r *rig) inbox() (n int) {
	r.Helper()
	require.NoError(r, r.pool.QueryRow(r.Context(), `select count(*) from consumer_inbox`).Scan(&n))
	return n
}

func TestFailedPushesAreListedAndResolvedInTheOrderOfVersions(t *testing.T) {
	r := newRig(t)
	r.publish(message(t, "a", 1, push.Pending))
	r.publish(message(t, "a", 2, push.Failed))
	r.publish(message(t, "b", 1, push.Failed))
	r.publish(message(t, "b", 2, push.Success))
	r.publish(message(t, "c", 1, push.Success))
	r.start()
	r.settled(5)
	assert.Equal(t, []failure{{"a", 1, true}, {"b", 1, false}}, r.failures())
	assert.Equal(t, 5, r.inbox())
}

func TestAnEventThatComesAfterALaterOneOfItsOperationHasNoEffect(t *testing.T) {
	r := newRig(t)
	r.publish(message(t, "a", 1, push.Failed))
	r.publish(message(t, "a", 3, push.Success))
	r.publish(message(t, "a", 2, push.Failed))
	r.start()
	r.settled(3)
	assert.Equal(t, []failure{{"a", 1, false}}, r.failures())
	assert.Contains(t, r.log.String(), "outcome=overtaken")
}

func TestAMessageThatIsDeliveredAgainHasItsEffectOnce(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.publish(message(t, "a", 1, push.Failed))
	}
	r.start()
	r.settled(3)
	assert.Equal(t, []failure{{"a", 1, true}}, r.failures())
	assert.Equal(t, 2, strings.Count(r.log.String(), `outcome="handled before"`))
}

func TestACrashBetweenCommitAndAcknowledgementDoesNotRepeatTheEffect(t *testing.T) {
	r := newRig(t)
	r.publish(message(t, "a", 1, push.Failed))
	crashed := r.subscriber()
	require.NoError(t, crashed.prepare(t.Context()))
	consumer, err := crashed.consumer(t.Context())
	require.NoError(t, err)
	msg, err := consumer.Next(jetstream.FetchMaxWait(soon))
	require.NoError(t, err)
	outcome, err := crashed.handle(t.Context(), msg)
	require.NoError(t, err)
	require.Equal(t, Done, outcome)
	crashed.Conn.Close() // it dies here: committed, not acknowledged

	r.start()
	r.settled(1)
	assert.Equal(t, []failure{{"a", 1, true}}, r.failures())
	assert.Contains(t, r.log.String(), `outcome="handled before"`)
}

func TestACrashBeforeTheCommitLosesNothing(t *testing.T) {
	r := newRig(t)
	r.publish(message(t, "a", 1, push.Failed))
	crashed := r.subscriber()
	consumer, err := crashed.consumer(t.Context())
	require.NoError(t, err)
	_, err = consumer.Next(jetstream.FetchMaxWait(soon))
	require.NoError(t, err)
	crashed.Conn.Close()

	r.start()
	r.settled(1)
	assert.Equal(t, []failure{{"a", 1, true}}, r.failures())
}

func TestInstancesShareTheWorkAndRepeatNothing(t *testing.T) {
	r := newRig(t)
	const operations = 40
	for i := range operations {
		key := string(rune('A'+i%26)) + string(rune('a'+i/26))
		for range 2 {
			r.publish(message(t, key, 1, push.Failed))
		}
		r.publish(message(t, key, 2, push.Success))
	}
	stop := r.start()
	r.start()
	r.start()
	require.Eventually(r, func() bool { return strings.Count(r.log.String(), "taking events") == 3 }, soon, time.Millisecond)
	stop() // gracefully, whatever it has fetched
	r.settled(3 * operations)
	assert.Equal(t, 2*operations, r.inbox())
	for _, f := range r.failures() {
		assert.Equal(t, 1, f.Failures, f.Key)
		assert.False(t, f.Open, f.Key)
	}
}

func TestADatabaseErrorIsWaitedOut(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.subscriber().prepare(t.Context()))
	_, err := r.pool.Exec(t.Context(), `alter table failed_pushes rename to away`)
	require.NoError(t, err)
	r.publish(message(t, "a", 1, push.Failed))
	s := r.subscriber()
	consumer, err := s.consumer(t.Context())
	require.NoError(t, err)
	msg, err := consumer.Next(jetstream.FetchMaxWait(soon))
	require.NoError(t, err)
	s.take(t.Context(), msg)
	assert.Contains(t, r.log.String(), "event comes again")
	assert.Zero(t, r.inbox(), "an event without effect is not in the inbox")

	_, err = r.pool.Exec(t.Context(), `alter table away rename to failed_pushes`)
	require.NoError(t, err)
	r.start()
	r.settled(1)
	assert.Equal(t, []failure{{"a", 1, true}}, r.failures())
}

func TestThePauseDoublesUpToAMinute(t *testing.T) {
	s := Subscriber{Retry: time.Second}
	for delivered, want := range map[uint64]time.Duration{1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second,
		7: time.Minute, 1 << 40: time.Minute} {
		assert.Equal(t, want, s.pause(delivery{delivered: delivered}))
	}
}

// delivery is a message of which only the number of its delivery is asked.
type delivery struct {
	jetstream.Msg
	delivered uint64
}

func (d delivery) Metadata() (*jetstream.MsgMetadata, error) {
	return &jetstream.MsgMetadata{NumDelivered: d.delivered}, nil
}

func TestBadMessagesAreTerminatedWithAReasonAndHoldUpNobody(t *testing.T) {
	r := newRig(t)
	reasons, err := r.connect().SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.CODAT_PUSH.push-events")
	require.NoError(t, err)
	bad := message(t, "bad", 1, push.Failed)
	for _, body := range []string{`{"id":`, `{"id":"x"}`, strings.Replace(string(bad.Data), `"refused"`, `"\u0000"`, 1)} {
		_, err := r.js.Publish(t.Context(), bad.Subject, []byte(body))
		require.NoError(t, err)
	}
	r.publish(message(t, "good", 1, push.Failed))
	r.start()
	r.settled(4)
	assert.Equal(t, []failure{{"good", 1, true}}, r.failures())
	for _, reason := range []string{"unexpected end of JSON", "must be there", "22021"} {
		msg, err := reasons.NextMsg(soon)
		require.NoError(t, err)
		var advisory struct{ Reason string }
		require.NoError(t, json.Unmarshal(msg.Data, &advisory))
		assert.Contains(t, advisory.Reason, reason)
	}
}

func TestTheProgramRunsWithTheVariablesOfConnectEnv(t *testing.T) {
	r := newRig(t)
	r.publish(message(t, "a", 1, push.Failed))
	environment := map[string]string{"NATS_URL": r.natsURL, "DATABASE_URL": r.databaseURL}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-subject", "codat.push.*.*.*.failed"}, func(k string) string { return environment[k] }, r.log)
	}()
	r.settled(1)
	cancel()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(soon):
		require.Fail(t, "the program did not stop")
	}
	assert.Equal(t, []failure{{"a", 1, true}}, r.failures())
}

func TestTheProgramSaysWhatToType(t *testing.T) {
	none := func(string) string { return "" }
	require.ErrorContains(t, run(t.Context(), nil, none, &lockedBuffer{}), "connect.env")
	wrong := func(k string) string {
		return map[string]string{"DATABASE_URL": "postgres://127.0.0.1/x", "NATS_URL": "nats://secret@127.0.0.1:port"}[k]
	}
	err := run(t.Context(), nil, wrong, &lockedBuffer{})
	require.Error(t, err)
	assert.NotContains(t, err.Error(), "secret")
}
