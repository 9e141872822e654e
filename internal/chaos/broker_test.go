package chaos

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/internal/faultproxy"
)

// crowd is a world in which n operations are there from the start.
func crowd(n int) codatsim.Config {
	return codatsim.Config{Companies: codatsim.MakeCompanies(7, 4), History: n / 4, Rate: 6}
}

// lostAcknowledgements loses the first acknowledgement of every event, and then, with a
// stream that takes atomic batches, that of every batch too.
func lostAcknowledgements(t *trial) (v verdict) {
	v.add(loseAcknowledgements(t, true))
	v.add(loseAcknowledgements(t, false))
	return v
}

// loseAcknowledgements does so for half of the events. The stream has long forgotten the
// message's id when the relay stops waiting for it.
func loseAcknowledgements(t *trial, singly bool) (v verdict) {
	n := t.n / 2
	w := newWorld(t, options{sim: crowd(n), singly: singly})
	heard := w.nats.LoseFirst()
	d := w.daemon("PUSHWATCH_POLL_PAGE_SIZE=1000")
	w.published(n)
	w.nats.Judge(nil)
	// On a busy machine NATS answers some only when nobody waits any more.
	v.figure("%d acknowledgements lost on their way, %d heard of a later attempt", w.nats.Struck(), heard())
	v.demand(w.nats.Struck() > 0 && int(heard()) <= n/10, "%d acknowledgements were lost, and %d heard", w.nats.Struck(), heard())
	v = w.settle(v)
	w.stop(d)
	return v
}

// published waits until n events are recorded as published, or until that no
// longer gets on.
func (w *world) published(n int) {
	w.Helper()
	w.reaches(n, `select count(*) from reporting.push_transitions where published_at is not null`)
}

// reaches waits until a query counts n, and tells whether it does: as long as the number
// grows it may take its time.
func (w *world) reaches(n int, query string) bool {
	w.Helper()
	var most int64
	at := time.Now()
	for {
		have := w.number(query)
		if have > most {
			most, at = have, time.Now()
		}
		if have >= int64(n) || time.Since(at) > w.patience {
			return have >= int64(n)
		}
		w.struck(int(have))
		w.wait(500 * time.Millisecond)
	}
}

// racingRelays lets two relays publish every bucket, whoever holds it. What NATS
// answers to the faster one is held up until the other has looked at the outbox too.
func racingRelays(t *trial) verdict {
	w := newWorld(t, options{sim: crowd(t.n)})
	w.forced = []string{fault.BucketLease}
	acknowledged, done := make(chan struct{}, 1), make(chan struct{})
	w.nats.Judge(func(message []byte) faultproxy.Fate {
		if faultproxy.Acknowledged(message) > 0 {
			select {
			case acknowledged <- struct{}{}:
			default:
			}
		}
		return faultproxy.Pass
	})
	var holding sync.WaitGroup
	holding.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-acknowledged:
				w.nats.Set(faultproxy.HalfOpen)
				t.wait(1500 * time.Millisecond) // a relay that nobody wakes looks every second
				w.nats.Set(faultproxy.Open)
			}
		}
	})
	var v verdict
	pair := []*daemon{w.daemon("PUSHWATCH_POLL_PAGE_SIZE=1000"), w.daemon("PUSHWATCH_POLL_PAGE_SIZE=1000")}
	w.published(t.n)
	close(done)
	holding.Wait()
	w.nats.Judge(nil)
	v = w.settle(v)
	for _, d := range pair {
		w.stop(d)
	}
	return v
}

// fullStreams leaves the stream no room, and then makes some.
func fullStreams(t *trial) verdict {
	w := newWorld(t, options{})
	js, done := w.jetStream()
	defer done()
	limit := func(messages int64) {
		config := w.streamConfig
		config.MaxMsgs = messages
		_ = must(js.UpdateStream(t.Context(), config))(t)
	}
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	v.Recovery = nil
	for i := range t.n {
		s := must(js.Stream(t.Context(), stream))(t)
		limit(int64(must(s.Info(t.Context()))(t).State.Msgs) + 2)
		waits := w.within(20*time.Second, func() bool { return w.number(`select count(*) from pushwatch.outbox`) >= 3 })
		v.demand(waits, "nothing waits while the stream is full")
		room := time.Now()
		limit(-1)
		w.recovers(&v, room, 20*time.Second)
		t.struck(i + 1)
	}
	set := w.number(`select count(*) from pushwatch.outbox where rejected_class is not null`)
	v.demand(set == 0, "%d events were set aside", set)
	v = w.settle(v)
	w.stop(d)
	return v
}

// lostStreams purges or deletes the stream, or changes its configuration, under
// the daemon.
func lostStreams(t *trial) verdict {
	w := newWorld(t, options{})
	js, done := w.jetStream()
	defer done()
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	v.Recovery = nil
	for i := range t.n {
		t.wait(t.between(time.Second, 2*time.Second))
		struck := time.Now()
		switch i % 4 {
		case 0:
			s := must(js.Stream(t.Context(), stream))(t)
			require.NoError(t, s.Purge(t.Context()))
		case 1:
			require.NoError(t, js.DeleteStream(t.Context(), stream))
			// What is published meanwhile is heard by the trial, and by no stream.
			made := w.within(time.Minute, func() bool { _, err := js.Stream(t.Context(), stream); return err == nil })
			v.demand(made, "the stream was not made again")
			w.forget()
		case 2:
			require.NoError(t, js.DeleteStream(t.Context(), stream))
			w.makeStream()
		case 3:
			config := w.streamConfig
			config.Subjects = []string{"elsewhere.>"}
			_ = must(js.UpdateStream(t.Context(), config))(t)
			t.wait(2 * time.Second)
			struck = time.Now()
			_ = must(js.UpdateStream(t.Context(), w.streamConfig))(t)
		}
		w.recovers(&v, struck, time.Minute)
		t.struck(i + 1)
	}
	v = w.settle(v)
	w.stop(d)
	return v
}

// restartBroker starts the broker on its store and port again.
func (w *world) restartBroker() {
	w.Helper()
	w.broker = must(embedded.StartNATS(embedded.NATSConfig{Dir: w.natsDir, Port: w.broker.Port()}))(w.trial)
}

// smallMessages lowers max_payload below the size of some events: they are set
// aside, everything else goes on, and they are published once the broker takes them.
func smallMessages(t *trial) verdict {
	w := newWorld(t, options{})
	w.broker.Stop()
	store, port := filepath.Join(w.natsDir, "nats"), w.broker.Port()
	token := must(url.Parse(w.natsURL))(t).User.Username()
	var running *natsserver.Server
	stop := func() {
		running.Shutdown()
		running.WaitForShutdown()
	}
	start := func(maxPayload int32) {
		running = must(natsserver.NewServer(&natsserver.Options{Host: "127.0.0.1", Port: port, Authorization: token, JetStream: true,
			StoreDir: store, MaxPayload: maxPayload, NoLog: true, NoSigs: true}))(t)
		running.Start()
		require.True(t, running.ReadyForConnections(10*time.Second))
	}
	start(64 << 10)
	t.Cleanup(func() { stop() })
	var v verdict
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	for i := range t.n {
		_ = must(w.sim.Add(codatsim.Operation{CompanyID: w.companies[i%len(w.companies)], Status: codatsim.Failed,
			ErrorMessage: strings.Repeat("too long ", 8000)}))(t)
		t.struck(i + 1)
	}
	aside := func() int64 {
		return w.number(`select count(*) from pushwatch.outbox where rejected_class = 'too_large'`)
	}
	v.demand(w.within(20*time.Second, func() bool { return aside() == int64(t.n) }), "%d of %d are set aside", aside(), t.n)
	w.recovers(&v, time.Now(), 10*time.Second) // nothing else waits
	stop()
	start(1 << 20)
	w.recovers(&v, time.Now(), 20*time.Second)
	for _, id := range w.asideIDs() {
		require.NoError(t, w.command(nil, "quarantine", "retry", id).Wait(), w.log.end())
	}
	v = w.settle(v)
	w.stop(d)
	return v
}

// asideIDs returns the ids of the events that were set aside, as the command line
// knows them.
func (w *world) asideIDs() (ids []string) {
	w.Helper()
	w.database(func(ctx context.Context, conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `select 'e' || id from pushwatch.outbox where rejected_class is not null order by id`)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids
}

// damagedStores flips a byte of the stopped broker's files, or cuts one short.
func damagedStores(t *trial) verdict {
	w := newWorld(t, options{})
	var v verdict
	hit := map[string]int{}
	d := w.daemon()
	w.recovers(&v, d.started, 20*time.Second)
	v.Recovery = nil
	for i := range t.n {
		t.wait(t.between(300*time.Millisecond, time.Second))
		w.broker.Stop()
		hit[w.damageOne(i%4 == 3)]++
		w.restartBroker()
		w.recovers(&v, time.Now(), time.Minute)
		if len(v.Broken) > 0 {
			break
		}
		t.struck(i + 1)
	}
	v.figure("damaged %v", hit)
	v = w.settle(v)
	w.stop(d)
	return v
}

// damageOne damages one file of JetStream's store and returns its kind.
func (w *world) damageOne(cut bool) string {
	w.Helper()
	var files []string
	require.NoError(w, filepath.Walk(filepath.Join(w.natsDir, "nats", "jetstream"), func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	}))
	require.NotEmpty(w, files)
	path := files[w.random.IntN(len(files))]
	data := must(os.ReadFile(path))(w.trial)
	at := w.random.IntN(len(data))
	if cut {
		data = data[:at]
	} else {
		data[at] ^= byte(1 << w.random.IntN(8))
	}
	require.NoError(w, os.WriteFile(path, data, 0o600))
	if filepath.Ext(path) == ".blk" {
		return "*.blk"
	}
	return filepath.Base(path)
}
