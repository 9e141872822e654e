package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

const (
	companyID = "8a210b68-6988-11ed-a1eb-0242ac120002"

	// The daemon's defaults.
	horizon      = 168 * time.Hour
	streamMaxAge = 720 * time.Hour

	// How often the relay's counter is read: not so often that it costs anything.
	lookPeriod = 5 * time.Millisecond

	// What a stream of the bench may hold at most: ten minutes of full traffic, and
	// several have to fit a server.
	streamMaxBytes = 12 << 30

	stalled = time.Minute // how long the relay may publish nothing while events wait
)

// place says where a world lives, so that a child can open one too.
type place struct {
	DatabaseURL string
	NATSURL     string // empty: without a stream
	Stream      string
	MaxBytes    int64
}

// world is one pushwatch process as cmd/pushwatch wires it, without the poller.
// It holds the one company and all relay buckets.
type world struct {
	place   place
	store   *store.Store
	leases  *store.Leases
	fleet   *store.Fleet
	company push.Company
	nats    *nats.Conn           // nil without a stream
	stream  *publisher.JetStream // likewise
	relay   *publisher.Relay     // likewise
	counts  *prometheus.Registry

	stages []*stage
}

// stage is a loop that runs until it is ended.
type stage struct {
	end  context.CancelFunc
	done sync.WaitGroup
	err  error // valid when done
}

func begin(ctx context.Context, run func(context.Context) error) *stage {
	ctx, cancel := context.WithCancel(ctx)
	s := &stage{end: cancel}
	s.done.Go(func() { s.err = run(ctx) })
	return s
}

func (s *stage) stop() error {
	s.end()
	s.done.Wait()
	return s.err
}

// world opens a world on a clone of a database, with a new stream of the broker's
// if there is one.
func (r *rig) world(ctx context.Context, template string, b *broker) (*world, error) {
	name, err := r.clone(ctx, template)
	if err != nil {
		return nil, err
	}
	p := place{DatabaseURL: r.databaseURL(name)}
	if b != nil {
		p.NATSURL, p.Stream, p.MaxBytes = b.URL, name, min(streamMaxBytes, b.MaxBytes/4)
	}
	return openWorld(ctx, p)
}

// openWorld opens the world of a place. It must be closed.
func openWorld(ctx context.Context, p place) (w *world, err error) {
	w = &world{place: p}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close(ctx))
		}
	}()
	if w.store, err = store.Open(ctx, store.Config{URL: p.DatabaseURL, SubjectPrefix: p.prefix(), Logger: quiet}); err != nil {
		return nil, err
	}
	if err = w.store.RollSent(ctx, horizon); err != nil {
		return nil, err
	}
	if err = w.lease(ctx); err != nil {
		return nil, err
	}
	if p.NATSURL == "" {
		return w, nil
	}
	if w.nats, err = publisher.Dial(ctx, publisher.DialConfig{URL: p.NATSURL, Log: quiet}); err != nil {
		return nil, err
	}
	w.stream, _, err = publisher.EnsureStream(ctx, w.nats, publisher.StreamConfig{Name: p.Stream, SubjectPrefix: p.prefix(),
		Manage: publisher.ManageCreate, MaxAge: streamMaxAge, MaxBytes: p.MaxBytes})
	if err != nil {
		return nil, err
	}
	outbox := w.store.Outbox(w.leases)
	w.relay, err = publisher.New(publisher.Config{Stream: w.stream, Outbox: outbox, Archive: outbox, Heirs: outbox,
		Instance: w.store.Instance(), Now: w.store.Now, Log: quiet})
	if err != nil {
		return nil, err
	}
	w.counts = prometheus.NewRegistry()
	return w, w.counts.Register(w.relay.Metrics)
}

// prefix keeps the streams of one server apart; it is as long as the daemon's.
func (p place) prefix() string { return fmt.Sprintf("%.10s", p.Stream+"_codat_push") }

// errLeased says that another process has leases that a world needs.
var errLeased = errors.New("leased to another process")

// lease takes company and buckets and keeps them.
func (w *world) lease(ctx context.Context) error {
	companies, err := w.take(ctx, []push.Company{{ID: companyID, Name: "Toft stores"}}, store.RelayLeases())
	if err != nil {
		return err
	}
	w.stages = append(w.stages, begin(ctx, w.leases.Run))
	w.company = companies[0]
	return nil
}

// take leases companies, all of them, and whatever else is named.
func (w *world) take(ctx context.Context, companies []push.Company, names []string) ([]push.Company, error) {
	w.leases = w.store.Leases(store.NewHolder(), quiet)
	for _, c := range companies {
		names = append(names, store.CompanyLease(c.ID))
	}
	w.leases.Want(names)
	if err := w.leases.Renew(ctx); err != nil {
		return nil, err
	}
	w.fleet = w.store.Fleet(w.leases)
	if err := w.fleet.Configure(ctx, companies); err != nil {
		return nil, err
	}
	taken, err := w.fleet.Companies(ctx)
	if err == nil && len(taken) < len(companies) {
		err = fmt.Errorf("%d of %d companies: %w", len(companies)-len(taken), len(companies), errLeased)
	}
	return taken, err
}

// published returns how many events the relay has recorded as published.
func (w *world) published() (int, error) {
	families, err := w.counts.Gather()
	if err != nil {
		return 0, err
	}
	for _, family := range families {
		if family.GetName() == "pushwatch_events_published_total" {
			return int(family.GetMetric()[0].GetCounter().GetValue()), nil
		}
	}
	return 0, errors.New("the relay has no metric pushwatch_events_published_total")
}

// until waits until the relay has recorded so many events in all. It gives up where
// nothing moves any more, and says why.
func (w *world) until(ctx context.Context, want int) error {
	ticker := time.NewTicker(lookPeriod)
	defer ticker.Stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stall := time.AfterFunc(stalled, func() { cancel(errors.New("nothing moves any more")) })
	defer stall.Stop()
	last := -1
	for {
		n, err := w.published()
		if err != nil || n >= want {
			return err
		}
		if n != last {
			stall.Reset(stalled)
			last = n
		}
		select {
		case <-ctx.Done():
			_, reason, _ := w.relay.Health()
			return fmt.Errorf("%d of %d events published: %w (relay: %s)", n, want, context.Cause(ctx), reason)
		case <-ticker.C:
		}
	}
}

// drain runs the relay until it has recorded so many events.
func (w *world) drain(ctx context.Context, events int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	before, err := w.published()
	if err != nil {
		return err
	}
	running := begin(ctx, w.relay.Run)
	return errors.Join(w.until(ctx, before+events), running.stop())
}

// close ends the loops, gives the leases back and closes the connections.
func (w *world) close(ctx context.Context) error {
	var errs []error
	for _, s := range w.stages {
		errs = append(errs, s.stop())
	}
	if w.nats != nil {
		w.nats.Close()
	}
	if w.store != nil {
		w.store.Close()
	}
	return errors.Join(errs...)
}

// discard closes a world and removes its database and its stream.
func (r *rig) discard(ctx context.Context, w *world) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var errs []error
	if w.nats != nil {
		js, err := jetstream.New(w.nats)
		if err == nil {
			err = js.DeleteStream(ctx, w.place.Stream)
		}
		errs = append(errs, err)
	}
	errs = append(errs, w.close(ctx))
	return errors.Join(append(errs, r.drop(ctx, w.database()))...)
}
