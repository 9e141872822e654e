package simulation

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/publisher"
)

// pair is the broker of the simulation beside a real stream.
type pair struct {
	*rapid.T
	model *broker
	js    jetstream.JetStream
	real  *publisher.JetStream
}

const window = 2 * time.Minute

var realStream = jetstream.StreamConfig{Name: streamName, Subjects: []string{event.DefaultPrefix + ".>"}, Storage: jetstream.FileStorage,
	Discard: jetstream.DiscardNew, Duplicates: window, MaxMsgs: -1, AllowAtomicPublish: true}

// TestTheBrokerAnswersAsJetStream asks the model and a real server the same and
// wants the same answers: what the simulation shows rests on it.
func TestTheBrokerAnswersAsJetStream(t *testing.T) {
	dir := t.TempDir()
	s, err := natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: natsserver.RANDOM_PORT, JetStream: true, StoreDir: dir, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	defer func() { s.Shutdown(); s.WaitForShutdown() }()
	require.True(t, s.ReadyForConnections(10*time.Second))
	nc, err := publisher.Dial(t.Context(), publisher.DialConfig{URL: s.ClientURL()})
	require.NoError(t, err)
	defer func() {
		closed := nc.StatusChanged(nats.CLOSED)
		nc.Close()
		<-closed
	}()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	// The server deletes behind its answer: a stream of the same name that is made too
	// soon finds messages of the old one, or its directory taken away with those that the
	// account's last stream leaves empty. So there is always another stream.
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	require.NoError(t, err)
	remove := func() {
		require.NoError(t, js.DeleteStream(t.Context(), streamName))
		require.Eventually(t, func() bool {
			left, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", "*"))
			return err == nil && len(left) == 1
		}, time.Minute, time.Millisecond)
	}
	rapid.Check(t, func(rt *rapid.T) {
		_, err := js.CreateStream(t.Context(), realStream)
		require.NoError(rt, err)
		defer remove()
		real, _, err := publisher.EnsureStream(t.Context(), nc, publisher.StreamConfig{Name: streamName,
			SubjectPrefix: event.DefaultPrefix, Manage: publisher.ManageCreate})
		require.NoError(rt, err)
		p := &pair{rt, newBroker(time.Now, window), js, real}
		rt.Repeat(map[string]func(*rapid.T){
			"":        func(*rapid.T) { p.identify() },
			"publish": func(rt *rapid.T) { p.publish(p.message(rt)) },
			"publish as one": func(rt *rapid.T) {
				// Of several operations, as the relay does.
				messages := rapid.SliceOfNDistinct(rapid.Custom(p.message), 1, 3, func(m *nats.Msg) string {
					return m.Subject[:strings.LastIndex(m.Subject, ".")]
				}).Draw(rt, "messages")
				p.publishAtomic(messages)
			},
			"get":   func(rt *rapid.T) { p.get(p.query(rt)) },
			"limit": func(rt *rapid.T) { p.limit(rapid.IntRange(-2, 6).Draw(rt, "more")) },
			"purge": func(rt *rapid.T) {
				stream, err := js.Stream(t.Context(), streamName)
				require.NoError(rt, err)
				require.NoError(rt, stream.Purge(t.Context()))
				p.model.messages = nil
			},
			"make anew": func(rt *rapid.T) {
				remove()
				_, err := js.CreateStream(t.Context(), realStream)
				require.NoError(rt, err)
				p.model.limit = 0
				p.model.create()
			},
		})
	})
}

// message draws a version of one of a few operations, expected behind one of a few
// messages, so that all collisions are likely.
func (p *pair) message(t *rapid.T) *nats.Msg {
	stem := event.Subjects(event.DefaultPrefix, "c", "invoices", fmt.Sprintf("k%d", rapid.IntRange(1, 3).Draw(t, "operation")))
	version := rapid.IntRange(1, 3).Draw(t, "version")
	msg := &nats.Msg{Subject: stem.Subject([]string{"pending", "success", "failed"}[version-1]), Header: nats.Header{}, Data: []byte("{}")}
	msg.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("%s-%d", stem, version))
	msg.Header.Set(jetstream.ExpectedStreamHeader, streamName)
	expected := uint64(rapid.IntRange(0, 4).Draw(t, "expected"))
	if last := p.model.lastOf(stem.Filter()); last != nil && rapid.Bool().Draw(t, "right") {
		expected = last.Sequence
	}
	if rapid.IntRange(0, 9).Draw(t, "guard") > 0 {
		msg.Header.Set(jetstream.ExpectedLastSubjSeqHeader, fmt.Sprint(expected))
		msg.Header.Set(jetstream.ExpectedLastSubjSeqSubjHeader, stem.Filter())
	}
	return msg
}

func (p *pair) publish(msg *nats.Msg) {
	theirs := p.real.Publish([]*nats.Msg{msg}, false, 10*time.Second)[0]
	require.NoError(p, theirs.Err)
	ours := p.model.publish(msg)
	require.Equal(p, answerOf(p.T, theirs.Msg), answerOf(p.T, ours), "%s %v", msg.Subject, msg.Header)
}

// publishAtomic compares what is stored, and where. Of a refused batch nobody asks which
// message was to blame.
func (p *pair) publishAtomic(messages []*nats.Msg) {
	theirs := p.real.Publish(messages, true, 10*time.Second)
	ours := answerOf(p.T, p.model.publishAtomic(messages))
	for _, their := range theirs {
		require.NoError(p, their.Err)
		a := answerOf(p.T, their.Msg)
		require.Equal(p, []any{ours.Error == nil, ours.Stream, ours.Seq, ours.Count}, []any{a.Error == nil, a.Stream, a.Seq, a.Count}, "%s", their.Msg.Data)
	}
}

// answer is what the relay reads of an acknowledgement.
type answer struct {
	Stream    string
	Seq       uint64
	Count     int
	Duplicate bool
	Error     *struct {
		Code        int
		ErrCode     int `json:"err_code"`
		Description string
	}
}

func answerOf(t *rapid.T, msg *nats.Msg) (a answer) {
	require.NoError(t, json.Unmarshal(msg.Data, &a), "%s", msg.Data)
	return a
}

func (p *pair) query(t *rapid.T) publisher.Query {
	filter := event.Subjects(event.DefaultPrefix, "c", "invoices", fmt.Sprintf("k%d", rapid.IntRange(1, 4).Draw(t, "operation"))).Filter()
	sequence := uint64(rapid.IntRange(1, 12).Draw(t, "sequence"))
	return rapid.SampledFrom([]publisher.Query{{Last: filter}, {Next: filter, Sequence: sequence}, {Sequence: sequence},
		{Next: event.DefaultPrefix + ".>", Sequence: sequence}}).Draw(t, "query")
}

func (p *pair) get(q publisher.Query) {
	theirs, err := p.real.Get(p.Context(), q)
	require.NoError(p, err)
	ours, err := p.model.get(q)
	require.NoError(p, err)
	require.Equal(p, theirs == nil, ours == nil, "%+v", q)
	if theirs != nil {
		require.Equal(p, []any{theirs.Sequence, theirs.Subject, theirs.ID}, []any{ours.Sequence, ours.Subject, ours.ID}, "%+v", q)
	}
}

// limit lets so many more messages in, or says that the stream holds too many.
func (p *pair) limit(more int) {
	c := realStream
	p.model.limit = max(len(p.model.messages)+more, 1)
	if more < 0 {
		p.model.limit = 0
	} else {
		c.MaxMsgs = int64(p.model.limit)
	}
	_, err := p.js.UpdateStream(p.Context(), c)
	require.NoError(p, err)
}

func (p *pair) identify() {
	theirs, err := p.real.Identify(p.Context())
	require.NoError(p, err)
	ours := p.model.identify()
	require.Equal(p, []uint64{theirs.State.Msgs, theirs.State.LastSeq}, []uint64{ours.State.Msgs, ours.State.LastSeq})
	if ours.State.Msgs > 0 {
		require.Equal(p, theirs.State.FirstSeq, ours.State.FirstSeq)
	}
}
