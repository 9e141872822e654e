package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

func newRun() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use: "run", Short: "Run the daemon",
		Long: "Runs the daemon until SIGINT or SIGTERM. Without an external PostgreSQL or NATS it uses its own,\n" +
			"durable below the data directory.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runDaemon(cmd.Context(), flags) },
	}
	cmd.Flags().StringVar(&flags.File, "config", "", "configuration file (YAML); none by default")
	cmd.Flags().StringVar(&flags.DataDir, "data-dir", "", dataDirUsage)
	cmd.Flags().StringVar(&flags.LogLevel, "log-level", "", "debug, info, warn or error")
	cmd.Flags().StringVar(&flags.HTTPListen, "http-listen", "", "address of health and metrics; by default 127.0.0.1:8080 or the next free port")
	return cmd
}

func checkSchedule(spec string) error {
	_, err := poller.ParseSchedule(spec)
	return err
}

// loadConfig reads the configuration and makes the logger that it asks for.
func loadConfig(flags config.Flags) (config.Config, *slog.Logger, error) {
	c, warnings, err := readConfig(flags)
	if err != nil {
		return config.Config{}, nil, err
	}
	var level slog.LevelVar
	level.Set(c.Log.Level)
	log := newLogger(c.Log.Format, &level)
	warnings.tell(log)
	return c, log, nil
}

// warnings are what should be mended in a configuration.
type warnings config.Warnings

func (w warnings) tell(log *slog.Logger) {
	for _, warning := range w {
		log.Warn("configuration", "warning", warning)
	}
}

func readConfig(flags config.Flags) (config.Config, warnings, error) {
	flags.CheckSchedule, flags.CheckPostgres = checkSchedule, store.CheckURL
	flags.CheckNATS, flags.CheckCodat = publisher.CheckURLs, codat.CheckBaseURL
	c, found, err := config.Load(flags, os.Environ())
	if err == nil && c.DataDir == "" {
		c.DataDir, err = embedded.DefaultDir()
	}
	if err != nil {
		return config.Config{}, nil, &configError{err}
	}
	return c, warnings(found), nil
}

// newLogger logs to stderr: for people on a terminal, as JSON elsewhere, unless
// the format says which.
func newLogger(format string, level *slog.LevelVar) *slog.Logger {
	terminal := isTerminal(os.Stderr)
	switch {
	case format == "auto" && terminal:
		return slog.New(forTerminal(os.Stderr, level))
	case format == "text":
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	}
	return slog.New(forPrograms(os.Stderr, level))
}

// forPrograms logs as JSON. Durations are spelled as everywhere else, 1m30s: the
// library would write nanoseconds, without a unit.
func forPrograms(out io.Writer, level slog.Leveler) slog.Handler {
	return slog.NewJSONHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration {
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}})
}

// forTerminal logs for people. The library passes escape sequences on to the
// terminal, whoever wrote them; here they are nobody's but its own.
func forTerminal(out io.Writer, level slog.Leveler) slog.Handler {
	return tint.NewTextHandler(out, &tint.Options{Level: level, TimeFormat: time.TimeOnly,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if said, ok := a.Value.Any().(error); ok {
				a.Value = slog.StringValue(said.Error())
			}
			if a.Value.Kind() == slog.KindString {
				a.Value = slog.StringValue(printable(a.Value.String()))
			}
			return a
		}})
}

// runDaemon starts everything, works until ctx ends, and stops in order.
func runDaemon(ctx context.Context, flags config.Flags) (err error) {
	// Until the daemon runs, a SIGHUP waits: its default would end the process.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	c, found, err := readConfig(flags)
	if err != nil {
		return err
	}
	var level slog.LevelVar
	level.Set(c.Log.Level)
	log := newLogger(c.Log.Format, &level)
	found.tell(log)
	servers, err := startServers(ctx, c, log)
	if err != nil {
		return unlessStopped(ctx, err, log)
	}
	defer func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
		defer cancel()
		err = errors.Join(err, servers.stop(detached))
	}()
	s, err := resolve(c, servers, log)
	if err != nil {
		return err
	}
	d, err := connect(ctx, s)
	if err != nil {
		return unlessStopped(ctx, err, log)
	}
	defer d.disconnect()
	wanted := c.HTTP.Listen
	if c.HTTP.AnyPort {
		wanted = ""
	}
	listener, err := listenTelling(ctx, wanted, log)
	if err != nil {
		return err
	}
	web := begin(func(ctx context.Context) error {
		return serve(ctx, listener, authorised(c.HTTP.Token.Reveal(), d.handler()))
	})
	if c.HTTP.PprofListen != "" {
		profiling, err := serveProfiles(ctx, c.HTTP.PprofListen, log)
		if err != nil {
			return err
		}
		defer profiling()
	}
	if err := d.start(ctx); err != nil {
		return unlessStopped(ctx, err, log)
	}
	log.Info("running", "version", version(), "companies", len(c.Companies), "http", listener.Addr().String())
	reload := &reloader{daemon: d, flags: flags, level: &level, log: log, inForce: c}
	reloading := begin(func(ctx context.Context) error { return reload.run(ctx, hup) })
	<-ctx.Done()
	log.Info("stopping")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
	defer cancel()
	if err := errors.Join(reloading.end(stopping), d.stop(stopping), web.end(stopping)); err != nil {
		log.Warn("stopped before everything was finished; nothing is lost", "error", err)
	}
	return nil
}

// unlessStopped returns why the start failed, but for a start that a signal cut
// short: that is a graceful stop like any other.
func unlessStopped(ctx context.Context, err error, log *slog.Logger) error {
	if ctx.Err() == nil {
		return err
	}
	log.Info("stopped while starting", "error", err)
	return nil
}

// servers are the embedded servers that a configuration asks for, if any.
type servers struct {
	dir      *embedded.Dir
	postgres *embedded.Postgres
	nats     *embedded.NATS
	watch    watch // ends before the servers do: it starts them again
}

func startServers(ctx context.Context, c config.Config, log *slog.Logger) (_ *servers, err error) {
	s := &servers{}
	if c.Postgres.External && c.NATS.External() {
		return s, nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
		}
	}()
	if s.dir, err = embedded.OpenDir(c.DataDir); err != nil {
		if !as[*embedded.InUseError](err) {
			err = &configError{err}
		}
		return s, err
	}
	databaseURL, natsURL := c.Postgres.URL.Reveal(), c.NATS.URL.Reveal()
	if !c.Postgres.External {
		if s.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: s.dir.Path, Logger: log}); err != nil {
			return s, noPostgres(err)
		}
		databaseURL = s.postgres.URL()
	}
	if !c.NATS.External() {
		if s.nats, err = embedded.StartNATS(embedded.NATSConfig{Dir: s.dir.Path, Logger: log}); err != nil {
			return s, &serviceError{"embedded NATS", err}
		}
		natsURL = s.nats.URL()
	}
	path, err := s.dir.WriteConnectEnv(databaseURL, natsURL)
	if err != nil {
		return s, err
	}
	log.Info("embedded servers are up; their addresses are in a file for psql and nats", "file", path)
	s.guard(log)
	s.watch.begin()
	return s, nil
}

// noPostgres tells that there is no embedded PostgreSQL, and why.
func noPostgres(err error) error {
	if errors.Is(err, embedded.ErrNoPrograms) {
		err = fmt.Errorf("%w, or set DATABASE_URL to a server of your own", err)
	}
	return &serviceError{"embedded PostgreSQL", err}
}

func (s *servers) stop(ctx context.Context) error {
	var errs []error
	s.watch.end()
	if s.nats != nil {
		s.nats.Stop()
	}
	if s.postgres != nil {
		errs = append(errs, s.postgres.Stop(ctx))
	}
	if s.dir != nil {
		errs = append(errs, s.dir.Close())
	}
	return errors.Join(errs...)
}

// resolve turns a configuration into settings.
func resolve(c config.Config, servers *servers, log *slog.Logger) (settings, error) {
	s := settings{
		database: store.Config{URL: c.Postgres.URL.Reveal(), VerifyOnly: c.Postgres.Migrate == "verify",
			TransactionPooler: c.Postgres.Pooler == "transaction", SubjectPrefix: c.NATS.SubjectPrefix,
			Redacted: c.Events.Detail == "redacted", PublishBaseline: c.Poll.Baseline == "publish", Logger: log},
		nats: publisher.DialConfig{URL: c.NATS.URL.Reveal(), CredentialsFile: c.NATS.CredentialsFile, Log: log},
		stream: publisher.StreamConfig{Name: c.NATS.Stream, SubjectPrefix: c.NATS.SubjectPrefix,
			Manage: publisher.Manage(c.NATS.Manage), MaxAge: c.NATS.MaxAge, MaxBytes: c.NATS.MaxBytes, Replicas: c.NATS.Replicas},
		codat: codat.Config{BaseURL: c.Codat.BaseURL, AllowHTTP: c.Codat.AllowHTTP, Key: codat.NewSecret(c.Codat.APIKey.Reveal()),
			CA: c.Codat.CA},
		reserve: c.Quota.Reserve, horizon: c.AuditHorizon, log: log,
		retention: store.Retention{Payloads: c.Retention.Payloads, Quarantine: c.Retention.Quarantine, History: c.Retention.History,
			Horizon: c.AuditHorizon},
		embedded: &servers.watch,
	}
	if servers.postgres != nil {
		s.database.URL = servers.postgres.URL()
	}
	if servers.nats != nil {
		s.nats.URL = servers.nats.URL()
		if s.stream.MaxBytes == 0 {
			s.stream.MaxBytes = servers.nats.StreamMaxBytes()
		}
	}
	s.companies = companiesOf(c)
	var err error
	s.plan, err = planOf(c)
	return s, err
}

func companiesOf(c config.Config) []push.Company {
	var companies []push.Company
	for _, company := range c.Companies {
		companies = append(companies, push.Company{ID: company.ID, Name: company.Name})
	}
	return companies
}

// planOf reads the schedules of a configuration.
func planOf(c config.Config) (poller.Plan, error) {
	plan := poller.Plan{PageSize: c.Poll.PageSize}
	for _, schedule := range []struct {
		to   *poller.Schedule
		key  string
		spec string
	}{
		{&plan.Discover, "poll.discover", c.Poll.Discover}, {&plan.Track, "poll.track", c.Poll.Track}, {&plan.Sweep, "poll.sweep", c.Poll.Sweep},
	} {
		parsed, err := poller.ParseSchedule(schedule.spec)
		if err != nil {
			return poller.Plan{}, &configError{fmt.Errorf("%s: %w", schedule.key, err)}
		}
		*schedule.to = parsed
	}
	return plan, nil
}
