package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

const (
	demoKey      = "demo-key"
	demoRate     = 150     // new operations per company and minute
	demoHistory  = 40      // operations per company from before the start
	demoQuota    = 1 << 30 // requests a day: one that lasts
	demoPage     = 1000
	demoSchedule = "@every 2s"
	demoSettle   = time.Minute // for everything after the freeze
	demoProgress = time.Second
)

type demoOptions struct {
	length    time.Duration
	companies int
	seed      uint64
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use: "demo", Short: "Run everything on this machine: PostgreSQL, NATS, a simulated Codat and the daemon",
		Long: "Runs the real daemon against a simulated Codat API, with a private PostgreSQL and an in-process NATS\n" +
			"server, all in a temporary directory. At the end the simulator freezes and what it knows is compared\n" +
			"with the database and the stream.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.companies < 1 || o.companies > 1000 {
				return &usageError{fmt.Errorf("--companies %d: allowed are 1 to 1000", o.companies)}
			}
			if o.length < 0 {
				return &usageError{fmt.Errorf("--for %s: must not be negative", o.length)}
			}
			return runDemo(cmd.Context(), o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().DurationVar(&o.length, "for", 0, "how long to run, such as 30s; 0: until Ctrl-C")
	cmd.Flags().IntVar(&o.companies, "companies", 8, "how many companies push, 1 to 1000")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of the simulated world")
	return cmd
}

// runDemo starts the servers, the simulator and the daemon, shows how it goes,
// and audits the result.
func runDemo(ctx context.Context, o demoOptions, out, progress io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	dir, err := embedded.OpenTempDir(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	fmt.Fprintln(progress, "starting PostgreSQL and NATS ...")
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir.Path, EndWithUs: true})
	if err != nil {
		return &serviceError{"embedded PostgreSQL", err}
	}
	defer func() { err = errors.Join(err, postgres.Stop(context.WithoutCancel(ctx))) }()
	broker, err := embedded.StartNATS(embedded.NATSConfig{Dir: dir.Path, Logger: log})
	if err != nil {
		return &serviceError{"embedded NATS", err}
	}
	defer broker.Stop()
	sim, err := codatsim.New(codatsim.Config{Seed: o.seed, Companies: codatsim.MakeCompanies(o.seed, o.companies),
		Key: demoKey, Rate: demoRate, History: demoHistory, DayLimit: demoQuota})
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	api, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return &serviceError{"simulated Codat", err}
	}
	serving := begin(func(ctx context.Context) error { return serve(ctx, api, sim) })
	defer func() { err = errors.Join(err, serving.end(context.WithoutCancel(ctx))) }()

	s, err := demoSettings(o, postgres.URL(), broker, "http://"+api.Addr().String(), log)
	if err != nil {
		return err
	}
	return watchDemo(ctx, o, s, sim, out, progress)
}

func demoSettings(o demoOptions, databaseURL string, broker *embedded.NATS, codatURL string, log *slog.Logger) (settings, error) {
	schedule, err := poller.ParseSchedule(demoSchedule)
	if err != nil {
		return settings{}, err
	}
	nightly, err := poller.ParseSchedule("0 3 * * *")
	if err != nil {
		return settings{}, err
	}
	s := settings{
		database: store.Config{URL: databaseURL, PublishBaseline: true, Logger: log},
		nats:     publisher.DialConfig{URL: broker.URL(), Log: log},
		stream: publisher.StreamConfig{Name: "CODAT_PUSH", SubjectPrefix: "codat.push", Manage: publisher.ManageCreate,
			MaxAge: 720 * time.Hour, MaxBytes: broker.StreamMaxBytes()},
		codat:   codat.Config{BaseURL: codatURL, Key: codat.NewSecret(demoKey)},
		plan:    poller.Plan{Discover: schedule, Track: schedule, Sweep: nightly, PageSize: demoPage},
		horizon: 168 * time.Hour, log: log,
	}
	for _, c := range codatsim.MakeCompanies(o.seed, o.companies) {
		s.companies = append(s.companies, push.Company{ID: c.ID, Name: c.Name})
	}
	return s, nil
}

// watchDemo runs the daemon until the time is up or the user has seen enough,
// then freezes the world, looks once more and compares.
func watchDemo(ctx context.Context, o demoOptions, s settings, sim *codatsim.Sim, out, progress io.Writer) error {
	d, err := connect(ctx, s)
	if err != nil {
		return err
	}
	defer d.disconnect()
	listener, err := listenTelling(ctx, "", s.log)
	if err != nil {
		return err
	}
	web := begin(func(ctx context.Context) error { return serve(ctx, listener, d.handler()) })
	if err := d.start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(progress, "http://%s/readyz and /metrics; Ctrl-C ends the demo\n", listener.Addr())
	showProgress(ctx, o.length, d, progress)

	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), demoSettle)
	defer cancel()
	report, err := d.settle(ctx, sim, progress)
	err = errors.Join(err, d.stop(ctx), web.end(ctx))
	if err != nil {
		return err
	}
	fmt.Fprintln(out, report)
	if !report.Sound() {
		return fmt.Errorf("the audit found damage (unknown messages: %d)", report.Unknown)
	}
	return nil
}

// showProgress tells how far the demo is, each second, until the time is up or ctx
// ends.
func showProgress(ctx context.Context, length time.Duration, d *daemon, progress io.Writer) {
	var end <-chan time.Time
	if length > 0 {
		timer := time.NewTimer(length)
		defer timer.Stop()
		end = timer.C
	}
	shown := newDemoProgress(progress, length)
	defer shown.close()
	ticker := time.NewTicker(demoProgress)
	defer ticker.Stop()
	started := time.Now()
	for over := false; !over; {
		select {
		case <-ctx.Done():
			return
		case <-end:
			over = true
		case <-ticker.C:
		}
		if counts, err := d.store.Counts(ctx); err == nil { // else the next line tells more
			shown.show(time.Since(started), counts)
		}
	}
}

// settle ends the ticks, freezes the world, makes one discover and one track run,
// waits for the outbox to drain, and audits. The track run takes every unfinished
// operation for due: its clock is an hour ahead.
func (d *daemon) settle(ctx context.Context, sim *codatsim.Sim, progress io.Writer) (audit.Report, error) {
	if err := d.polling.end(ctx); err != nil {
		return audit.Report{}, err
	}
	sim.Freeze()
	fmt.Fprintln(progress, "frozen; one last discover and track run")
	final, err := d.newPoller(func() time.Time { return d.store.Now().Add(time.Hour) }, poller.NewMetrics())
	if err != nil {
		return audit.Report{}, err
	}
	if _, err := final.Discover(ctx); err != nil {
		return audit.Report{}, err
	}
	if _, err := final.Track(ctx); err != nil {
		return audit.Report{}, err
	}
	for {
		waiting, _, err := d.store.Backlog(ctx)
		if err != nil {
			return audit.Report{}, err
		}
		if waiting == 0 {
			break
		}
		d.relay.Wake()
		select {
		case <-ctx.Done():
			return audit.Report{}, fmt.Errorf("%d events are still waiting: %w", waiting, ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
	return d.auditAgainst(ctx, truthOf(sim))
}

// truthOf returns the status that each operation really has.
func truthOf(sim *codatsim.Sim) map[audit.Operation]string {
	truth := map[audit.Operation]string{}
	for _, op := range sim.Truth() {
		truth[audit.Operation{CompanyID: op.CompanyID, Key: op.Key}] = op.Status
	}
	return truth
}

var _ http.Handler = (*codatsim.Sim)(nil)
