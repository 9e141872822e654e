package publisher

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
)

func newRelay(t *testing.T, s *JetStream, o Outbox, change ...func(*Config)) *Relay {
	c := Config{Stream: s, Outbox: o, AckTimeout: 2 * time.Second, Poll: time.Minute}
	for _, f := range change {
		f(&c)
	}
	r, err := New(c)
	require.NoError(t, err)
	return r
}

// drain runs until the outbox is empty, through failures.
func drain(t *testing.T, r *Relay, o *outbox) {
	t.Helper()
	for range 100 {
		if _, pending, _ := o.count(); pending == 0 {
			return
		}
		_, _ = r.RunOnce(t.Context())
	}
	_, err := r.RunOnce(t.Context())
	require.FailNow(t, "not drained", "last error: %v", err)
}

func resolved(r *Relay, by string) float64 {
	return testutil.ToFloat64(r.Metrics.resolved.WithLabelValues(by))
}

func rejected(r *Relay, class string) float64 {
	return testutil.ToFloat64(r.Metrics.rejected.WithLabelValues(class))
}

func TestEventsAreInTheStreamOnceAndInOrder(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(300, 3)
	r := newRelay(t, s, o)

	first, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 300, Recorded: 300}, first)
	drain(t, r, o)
	o.finished(t, readAll(t, nc))
	is, err := s.Identify(t.Context())
	require.NoError(t, err)
	assert.Regexp(t, `^CODAT_PUSH@20\d\d-.*Z$`, is.Epoch)
	for _, row := range o.rows {
		assert.Equal(t, is.Epoch, row.epoch)
	}
	assert.InDelta(t, 900, testutil.ToFloat64(r.Metrics.published), 0)
	assert.Zero(t, resolved(r, byFound))
}

func TestAMessageCarriesItsOwnHeadersAndThoseOfTheAct(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	row := o.add("company", "key", "pending")
	o.add("company", "key", "success")
	drain(t, newRelay(t, ensure(t, nc), o), o)

	messages := readAll(t, nc)

	require.Len(t, messages, 2)
	assert.Equal(t, nats.Header{
		"ce-id": {row.ID}, "content-type": {"application/json"}, "Nats-Msg-Id": {row.ID},
		"Nats-Expected-Stream":                        {"CODAT_PUSH"},
		"Nats-Expected-Last-Subject-Sequence":         {"0"},
		"Nats-Expected-Last-Subject-Sequence-Subject": {"codat.push.company.invoices.key.*"},
	}, messages[0].Header)
	assert.Equal(t, []string{"1"}, messages[1].Header["Nats-Expected-Last-Subject-Sequence"])
}

func TestTwoVersionsOfAnOperationAreNeverInFlightTogether(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	o := newOutbox()
	first, second := o.add("company", "key", "pending"), o.add("company", "key", "success")
	r := newRelay(t, ensure(t, nc), careless{o, []event.Pending{second.Pending, first.Pending}})

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, 1, result.Recorded)
	assert.True(t, first.published)
	assert.False(t, second.published)
}

// careless breaks the promise of one version per operation.
type careless struct {
	*outbox
	pending []event.Pending
}

func (c careless) Pending(context.Context, int64, int) ([]event.Pending, bool, error) {
	return c.pending, false, nil
}

func TestOneEventThatIsTooLargeHoldsUpNobodyElse(t *testing.T) {
	b := startBroker(t)
	nc := dial(t, b.url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(3, 1)
	large := o.add("company", "large", "pending")
	large.Data = bytes.Repeat([]byte("x"), maxEventSize+1)
	o.add("company", "large", "success")
	header := o.add("company", "header", "pending")
	header.Header["ce-subject"] = strings.Repeat("x", maxMessageSize) // over the stream's limit, body and header together
	payload := o.add("company", "payload", "pending")
	payload.Header["ce-subject"] = strings.Repeat("x", 2<<20) // over the server's max_payload
	subject := o.add("company", "subject", "pending")
	subject.Subject = "codat.push.with blank"
	o.add("company", "last", "pending")
	r := newRelay(t, s, o)

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 8, Recorded: 4, Rejected: 4}, result)
	assert.Equal(t, classTooLarge, large.rejected)
	assert.Equal(t, classTooLarge, header.rejected)
	assert.Equal(t, classTooLarge, payload.rejected)
	assert.Equal(t, classBadMessage, subject.rejected)
	assert.InDelta(t, 3, rejected(r, classTooLarge), 0)
	result, err = r.RunOnce(t.Context())
	require.NoError(t, err)
	assert.Zero(t, result.Taken, "the later version waits behind the rejected one")
	o.check(t, readAll(t, nc))
}

func TestAForeignMessageBelowTheFilterIsNotOverwritten(t *testing.T) {
	other := event.ID("deadbeef", "company", "key", 1)
	stranger := event.ID(instance, "another company", "key", 1)
	for name, c := range map[string]struct{ id, class string }{
		"another instance's event": {other, classForeignInstance},
		"no id at all":             {"", classForeignMessage},
		"somebody's own id":        {"order-17", classForeignMessage},
		"another operation's id":   {stranger, classForeignMessage},
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, startBroker(t).url())
			s, o := ensure(t, nc), newOutbox()
			row := o.add("company", "key", "success")
			foreign := nats.NewMsg("codat.push.company.invoices.key.pending")
			if c.id != "" {
				foreign.Header.Set(jetstream.MsgIDHeader, c.id)
			}
			_, err := api(t, nc).PublishMsg(t.Context(), foreign)
			require.NoError(t, err)
			good := o.add("company", "neighbour", "pending")
			r := newRelay(t, s, o)

			result, err := r.RunOnce(t.Context())

			require.NoError(t, err)
			assert.Equal(t, Result{Taken: 2, Recorded: 1, Rejected: 1}, result)
			assert.Equal(t, c.class, row.rejected)
			assert.True(t, good.published)
			assert.Len(t, readAll(t, nc), 2)
			assert.InDelta(t, 1, rejected(r, c.class), 0)
		})
	}
}

func TestHeadersThatAreNoneStandInTheWayOfTheirOwnOperationAlone(t *testing.T) {
	b := startBroker(t)
	nc := dial(t, b.url())
	s, o := ensure(t, nc), newOutbox()
	row := o.add("company", "key", "success")
	good := o.add("company", "neighbour", "pending")
	raw, err := net.Dial("tcp", b.address())
	require.NoError(t, err)
	defer raw.Close()
	const header = "NATS/1.0\r\nnone\r\n\r\n"
	_, err = fmt.Fprintf(raw, "CONNECT {\"headers\":true}\r\nHPUB codat.push.company.invoices.key.pending %d %d\r\n%s\r\n", len(header), len(header), header)
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		m, err := s.Get(t.Context(), Query{Last: row.Filter})
		return err == nil && m != nil
	}, 10*time.Second, time.Millisecond)
	r := newRelay(t, s, o)

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 2, Recorded: 1, Rejected: 1}, result)
	assert.Equal(t, classForeignMessage, row.rejected)
	assert.True(t, good.published)
}

func TestAnEventBehindWhichALaterOneStandsIsFoundOrSetAside(t *testing.T) {
	for name, there := range map[string]bool{"found when it is there": true, "set aside when it is not": false} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, startBroker(t).url())
			s, o := ensure(t, nc), newOutbox()
			first, second := o.add("company", "key", "pending"), o.add("company", "key", "success")
			js := api(t, nc)
			for _, row := range []*row{first, second} {
				if row == first && !there {
					continue
				}
				m := nats.NewMsg(row.Subject)
				m.Data = row.Data
				m.Header.Set(jetstream.MsgIDHeader, row.ID)
				_, err := js.PublishMsg(t.Context(), m)
				require.NoError(t, err)
			}
			r := newRelay(t, s, o)

			_, err := r.RunOnce(t.Context())

			require.NoError(t, err)
			assert.Equal(t, there, first.published)
			if there {
				assert.Equal(t, uint64(1), first.sequence)
			} else {
				assert.Equal(t, classOvertaken, first.rejected)
			}
		})
	}
}

func TestAnEventWhosePredecessorLeftByItsAgeIsPublishedBehindWhatIsThere(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	now := time.Now()
	o.now = func() time.Time { return now }
	old := o.add("company", "key", "pending")
	old.published, old.sequence, old.at = true, 17, now.Add(-721*time.Hour)
	o.add("company", "key", "success")
	r := newRelay(t, s, o, func(c *Config) { c.Now = o.now })

	result, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.Equal(t, Result{Taken: 1, Recorded: 1}, result)
	assert.Len(t, readAll(t, nc), 1)
	assert.Zero(t, testutil.ToFloat64(r.Metrics.lost))
	assert.InDelta(t, 1, resolved(r, byExpired), 0)
}

func TestAnOverloadedServerIsNoMatterOfRoom(t *testing.T) {
	said := roomCommand(jetstream.StreamConfig{Name: "CODAT_PUSH"}, "the stream answered 10167: too many requests")
	assert.Contains(t, said, "more to do than it can")
	assert.NotContains(t, said, "disk")
}

func TestAFullStreamIsBackPressureAndGoesOnWhenThereIsRoom(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	js := api(t, nc)
	config := streamConfig().wanted()
	config.MaxMsgs = 10
	_, err := js.CreateStream(t.Context(), config)
	require.NoError(t, err)
	s, warnings, err := EnsureStream(t.Context(), nc, streamConfig())
	require.NoError(t, err)
	require.Len(t, warnings, 1)
	o := newOutbox()
	o.fill(25, 2)
	r := newRelay(t, s, o)

	_, err = r.RunOnce(t.Context())

	require.ErrorContains(t, err, "maximum messages exceeded; make room with: nats stream edit CODAT_PUSH --max-msgs=20")
	o.check(t, readAll(t, nc))
	published, _, rejected := o.count()
	assert.Equal(t, 10, published)
	assert.Zero(t, rejected)
	config.MaxMsgs = -1
	_, err = js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	drain(t, r, o)
	o.finished(t, readAll(t, nc))
}

func TestAStreamMadeAnewIsFilledAgainFromTheOutbox(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(20, 3)
	r := newRelay(t, s, o)
	drain(t, r, o)
	before, err := s.Identify(t.Context())
	require.NoError(t, err)
	require.NoError(t, api(t, nc).DeleteStream(t.Context(), "CODAT_PUSH"))
	o.fill(20, 1)

	_, err = r.RunOnce(t.Context())
	require.ErrorContains(t, err, "nats stream add CODAT_PUSH", "a missing stream is not made behind its owner's back")
	s = ensure(t, nc)
	drain(t, r, o)

	messages := readAll(t, nc)
	o.finished(t, messages)
	assert.Len(t, messages, 80)
	after, err := s.Identify(t.Context())
	require.NoError(t, err)
	assert.NotEqual(t, before.Epoch, after.Epoch)
	for _, row := range o.rows {
		assert.Equal(t, after.Epoch, row.epoch)
	}
	assert.InDelta(t, 20, testutil.ToFloat64(r.Metrics.lost), 0)
}

func TestWhatTheStreamLostAndNobodyKeptDoesNotStopTheOperation(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	gone := o.add("company", "key", "pending")
	gone.published, gone.forgotten, gone.sequence, gone.at = true, true, 17, time.Now().Add(-240*time.Hour)
	next := o.add("company", "key", "success")
	r := newRelay(t, s, o)

	_, err := r.RunOnce(t.Context())

	require.NoError(t, err)
	assert.True(t, next.published)
	assert.InDelta(t, 1, testutil.ToFloat64(r.Metrics.lost), 0)
}

func TestAStreamExchangedDuringABatchIsNotRecordedAsTheOldOne(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(5, 2)
	r := newRelay(t, s, o)
	_, err := r.RunOnce(t.Context())
	require.NoError(t, err)
	require.NoError(t, api(t, nc).DeleteStream(t.Context(), "CODAT_PUSH"))
	ensure(t, nc)
	o.fill(1, 1) // so that the batch has a first version too: stored in the new stream at once
	o.add("company", "new", "pending")

	result, err := r.RunOnce(t.Context())

	require.ErrorContains(t, err, "was made anew during a batch")
	assert.Zero(t, result.Recorded)
	drain(t, r, o)
	messages := readAll(t, nc)
	o.check(t, messages)
	after, err := s.Identify(t.Context())
	require.NoError(t, err)
	assert.Equal(t, after.Epoch, o.row(event.ID(instance, "company", "new", 1)).epoch)
}

func TestAStreamThatIsMadeUnsafeStopsTheRelay(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	s, o := ensure(t, nc), newOutbox()
	o.fill(2, 1)
	r := newRelay(t, s, o)
	_, err := r.RunOnce(t.Context())
	require.NoError(t, err)
	config := streamConfig().wanted()
	config.Discard, config.MaxMsgs = jetstream.DiscardOld, 100
	_, err = api(t, nc).UpdateStream(t.Context(), config)
	require.NoError(t, err)
	o.add("company", "first", "pending")
	mismatch := (*MismatchError)(nil)

	_, err = r.RunOnce(t.Context()) // notices it in time to say so
	require.ErrorAs(t, err, &mismatch)
	o.add("company", "second", "pending")
	result, err := r.RunOnce(t.Context())

	require.ErrorAs(t, err, &mismatch)
	assert.Zero(t, result.Recorded)
	assert.Len(t, readAll(t, nc), 3)
}

func TestAConfigurationOutsideItsBoundsIsRefused(t *testing.T) {
	for name, c := range map[string]Config{
		"no stream":        {Outbox: newOutbox()},
		"no outbox":        {Stream: &JetStream{}},
		"batch of 1001":    {Stream: &JetStream{}, Outbox: newOutbox(), Batch: 1001},
		"negative batch":   {Stream: &JetStream{}, Outbox: newOutbox(), Batch: -1},
		"negative timeout": {Stream: &JetStream{}, Outbox: newOutbox(), AckTimeout: -1},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c)
			assert.Error(t, err)
		})
	}
}

func TestMetricsAreWellFormed(t *testing.T) {
	m := newMetrics()
	problems, err := testutil.CollectAndLint(m)
	require.NoError(t, err)
	assert.Equal(t, []promlint.Problem(nil), problems)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	n, err := testutil.GatherAndCount(registry)
	require.NoError(t, err)
	assert.Equal(t, 6+len(resolutions)+len(classes)+len(outcomes), n, "every label value is there from the start")
}
