package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// The packages meet here; none of them knows another.
var (
	_ codat.Gate            = (*poller.Ledger)(nil)
	_ poller.Source         = (*codat.Client)(nil)
	_ poller.Assignments    = (*store.Fleet)(nil)
	_ poller.Recorder       = (*store.Store)(nil)
	_ poller.Book           = (*store.Store)(nil)
	_ publisher.Outbox      = (*store.Outbox)(nil)
	_ publisher.Archive     = (*store.Outbox)(nil)
	_ publisher.Inheritance = (*store.Outbox)(nil)
	_ publisher.Stream      = (*publisher.JetStream)(nil)
)

const (
	startTimeout   = 10 * time.Second // for every service to be reached
	retryService   = 250 * time.Millisecond
	keepPartitions = time.Hour
)

// settings are what a daemon is made of, resolved: no file, variable or flag is
// left to read.
type settings struct {
	database  store.Config
	nats      publisher.DialConfig
	stream    publisher.StreamConfig
	codat     codat.Config // without Gate and Now
	companies []push.Company
	plan      poller.Plan
	reserve   float64
	horizon   time.Duration // of the audit
	retention store.Retention
	embedded  *watch // nil: none
	log       *slog.Logger
}

// daemon is everything that one pushwatch process runs on.
type daemon struct {
	settings settings
	shared   atomic.Pointer[shared]
	store    *store.Store
	leases   *store.Leases
	fleet    *store.Fleet
	ledger   *poller.Ledger
	client   *codat.Client
	poller   *poller.Poller
	nats     *nats.Conn
	relay    *publisher.Relay
	registry *prometheus.Registry

	polling, relaying, leasing, keeping, retaining *stage
}

// connect reaches PostgreSQL and NATS and wires the packages. It fails with the
// errors that exitCode knows.
func connect(ctx context.Context, s settings) (_ *daemon, err error) {
	if err := bring(ctx, s); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	d := &daemon{settings: s, registry: prometheus.NewRegistry()}
	defer func() {
		if err != nil {
			d.disconnect()
		}
	}()
	if d.store, err = openStore(ctx, s.database); err != nil {
		return nil, err
	}
	if d.nats, err = dial(ctx, s.nats); err != nil {
		return nil, err
	}
	stream, warnings, err := publisher.EnsureStream(ctx, d.nats, s.stream)
	if err != nil {
		return nil, err
	}
	for _, warning := range warnings {
		s.log.Warn("stream", "warning", warning)
	}
	if skew := d.store.Skew(); skew.Abs() > 2*time.Second {
		s.log.Warn("this machine's clock and the database's differ", "ahead", skew)
	}
	if err := d.wire(ctx, stream); err != nil {
		return nil, err
	}
	return d, nil
}

// openStore opens the database, trying again while it cannot be reached, until
// ctx ends.
func openStore(ctx context.Context, config store.Config) (s *store.Store, err error) {
	err = retried(ctx, func() error { s, err = store.Open(ctx, config); return err })
	return s, err
}

// retried tries something with the database until it works, cannot work, or ctx
// ends.
func retried(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || as[*store.SetupError](err) {
			return err
		}
		select {
		case <-ctx.Done():
			return databaseError(err)
		case <-time.After(retryService):
		}
	}
}

// dial connects to NATS. What is not the service's state is the configuration's.
func dial(ctx context.Context, config publisher.DialConfig) (*nats.Conn, error) {
	nc, err := publisher.Dial(ctx, config)
	if err != nil && !as[*publisher.UnavailableError](err) {
		return nil, &configError{err}
	}
	return nc, err
}

func (d *daemon) wire(ctx context.Context, stream *publisher.JetStream) (err error) {
	s := d.settings
	d.leases = d.store.Leases(store.NewHolder(), s.log)
	d.fleet = d.store.Fleet(d.leases)
	d.shared.Store(&shared{s.companies, s.reserve})
	d.ledger = poller.NewLedger(d.store, d.share, s.log)

	api := s.codat
	api.Gate, api.Now, api.UserAgent = d.ledger, d.store.Now, "pushwatch/"+version()
	if d.client, err = codat.New(api); err != nil {
		return &configError{err}
	}
	outbox := d.store.Outbox(d.leases)
	d.relay, err = publisher.New(publisher.Config{
		Stream: stream, Outbox: outbox, Archive: outbox, Heirs: outbox, Instance: d.store.Instance(), Now: d.store.Now, Log: s.log,
	})
	if err != nil {
		return err
	}
	metrics := poller.NewMetrics()
	d.registry.MustRegister(metrics, d.ledger.Ignored, d.relay.Metrics, &databaseMetrics{store: d.store, log: s.log})
	d.poller, err = d.newPoller(d.store.Now, metrics)
	return err
}

func (d *daemon) newPoller(now func() time.Time, metrics *poller.Metrics) (*poller.Poller, error) {
	s := d.settings
	return poller.New(poller.Config{
		Source: d.client, Assignments: d.fleet, Recorder: d.store,
		Plan: s.plan,
		Now:  now, OnEvents: d.relay.Wake, Logger: s.log, Metrics: metrics,
	})
}

// start takes the leases and begins to work. When it fails it gives back what it may
// have taken: a signal can come between their commit and its answer.
func (d *daemon) start(ctx context.Context) error {
	d.rollSent(ctx)
	if err := d.configure(ctx, d.settings.companies, d.settings.reserve); err != nil {
		return errors.Join(err, d.leases.Release(ctx))
	}
	d.leasing = begin(d.leases.Run)
	d.relaying = begin(d.relay.Run)
	d.keeping = begin(d.keep)
	d.retaining = begin(d.retain)
	d.polling = begin(d.poller.Run)
	return nil
}

// keep makes and drops day partitions.
func (d *daemon) keep(ctx context.Context) error {
	ticker := time.NewTicker(keepPartitions)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		d.rollSent(ctx)
	}
}

// rollSent is no reason to end or not to begin: what is published finds its place
// without its day's partition too.
func (d *daemon) rollSent(ctx context.Context) {
	if err := d.store.RollSent(ctx, d.settings.horizon); err != nil && ctx.Err() == nil {
		d.settings.log.Warn("partitions of sent events", "error", err)
	}
}

// stop ends the work in the order in which nothing is left half done: first no
// new looks, then the relay with its outstanding acknowledgements, last the
// leases, so that a peer takes over at once. What is not finished when ctx ends is
// left: it is safe too, only slower to be taken over.
func (d *daemon) stop(ctx context.Context) error {
	var errs []error
	for _, s := range []*stage{d.polling, d.keeping, d.retaining, d.relaying, d.leasing} {
		errs = append(errs, s.end(ctx))
	}
	return errors.Join(errs...)
}

func (d *daemon) disconnect() {
	if d.client != nil {
		d.client.Close()
	}
	if d.nats != nil {
		d.nats.Close()
	}
	if d.store != nil {
		d.store.Close()
	}
}

// stage is a loop of the daemon and the handle to end it.
type stage struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // valid when done is closed
}

func begin(run func(context.Context) error) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	s := &stage{cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.err = run(ctx)
	}()
	return s
}

// end cancels the loop and waits for it, no longer than ctx. Ending twice, or
// what was never begun, is fine.
func (s *stage) end(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.cancel()
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("stop: %w", ctx.Err())
	}
}
