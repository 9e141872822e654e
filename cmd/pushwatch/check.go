package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

const firingsShown = 3

func newCheck() *cobra.Command {
	var flags config.Flags
	cmd := &cobra.Command{
		Use: "check", Short: "Validate the configuration and try Codat, PostgreSQL and NATS",
		Long: "Validates the configuration, tries PostgreSQL, NATS and Codat, and prints the next firings of every\n" +
			"cron schedule. It changes nothing: no migration, no stream, no data directory. Embedded servers that\n" +
			"no pushwatch runs now are tried as throw-away ones. One request is sent to Codat. Exits 0 only if all\n" +
			"is fine.",
		Args: arguments(),
	}
	placeFlags(cmd, &flags)
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		report, err := checkAll(cmd.Context(), flags)
		if *form == "json" {
			return errors.Join(err, writeJSON(cmd.OutOrStdout(), report))
		}
		return errors.Join(err, report.write(cmd.OutOrStdout()))
	}
	return cmd
}

// checkReport is what check found.
type checkReport struct {
	OK        bool       `json:"ok"`
	Checks    []finding  `json:"checks"`
	Schedules []schedule `json:"schedules"`

	causes []error
}

type finding struct {
	Part   string `json:"part"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

type schedule struct {
	Key  string      `json:"key"`
	Spec string      `json:"spec"`
	Next []time.Time `json:"next"`
}

// checkError counts what is not fine; its causes decide the exit code.
type checkError struct {
	checks int
	causes []error
}

func (e *checkError) Error() string {
	return fmt.Sprintf("%d of %d checks found a problem", len(e.causes), e.checks)
}

func (e *checkError) Unwrap() []error { return e.causes }

func checkAll(ctx context.Context, flags config.Flags) (*checkReport, error) {
	r := &checkReport{OK: true, Checks: []finding{}, Schedules: []schedule{}}
	c, _, err := loadConfig(flags)
	if err != nil {
		r.note("configuration", "", err)
		return r, err
	}
	companies := "1 company"
	if n := len(c.Companies); n > 1 {
		companies = fmt.Sprintf("%d companies", n)
	}
	r.note("configuration", cmp.Or(c.File, "no file")+", "+companies, nil)
	quiet := slog.New(slog.DiscardHandler) // the findings tell it all
	s, trial, stop, err := r.servers(ctx, c, quiet)
	defer stop()
	if err != nil {
		r.note("embedded servers", "", err)
	}
	counting := false
	if s.database.URL != "" || c.Postgres.External {
		which := whose(c.Postgres.External, trial)
		detail, err := checkDatabase(ctx, s, which)
		counting = err == nil && which != ofTrial
		r.note("postgresql", string(which)+detail, err)
	}
	if s.nats.URL != "" {
		which := whose(c.NATS.External(), trial)
		detail, err := checkNATS(ctx, s, which)
		r.note("nats", string(which)+detail, err)
	}
	detail, err := checkCodat(ctx, s, counting, quiet)
	r.note("codat", detail, err)
	r.plan("poll.discover", s.plan.Discover)
	r.plan("poll.track", s.plan.Track)
	r.plan("poll.sweep", s.plan.Sweep)
	if len(r.causes) > 0 {
		return r, &checkError{len(r.Checks), r.causes}
	}
	return r, nil
}

// servers returns the addresses to try. Beside a data directory that run would
// refuse, only external servers are tried.
func (r *checkReport) servers(ctx context.Context, c config.Config, log *slog.Logger) (s settings, trial bool, stop func(), err error) {
	if c.Postgres.External && c.NATS.External() {
		return checkedServers(ctx, c, log)
	}
	if err := embedded.CheckDir(ctx, c.DataDir, !c.Postgres.External); err != nil {
		r.note("data directory", "", &configError{err})
		s, err = resolve(c, &servers{}, log)
		return s, false, func() {}, err
	}
	r.note("data directory", c.DataDir, nil)
	return checkedServers(ctx, c, log)
}

// origin tells of which kind a checked server is, as its finding begins.
type origin string

const (
	external origin = ""
	running  origin = "embedded: "
	ofTrial  origin = "embedded, started in a throw-away directory: " // nothing of it is what the real one holds
)

func whose(isExternal, trial bool) origin {
	switch {
	case isExternal:
		return external
	case trial:
		return ofTrial
	}
	return running
}

// note adds a finding, bad when err is one.
func (r *checkReport) note(part, detail string, err error) {
	if err != nil {
		detail = strings.TrimPrefix(detail+"; "+oneLine(err), "; ")
		r.causes = append(r.causes, err)
		r.OK = false
	}
	r.Checks = append(r.Checks, finding{part, err == nil, detail})
}

// plan adds the next firings of a schedule.
func (r *checkReport) plan(key string, ticks poller.Schedule) {
	shown := schedule{Key: key, Spec: ticks.String()}
	for at := time.Now(); len(shown.Next) < firingsShown; {
		at = ticks.Next(at)
		shown.Next = append(shown.Next, at)
	}
	r.Schedules = append(r.Schedules, shown)
}

// checkedServers returns the addresses to try. Embedded servers that nobody runs
// are started in a throw-away directory: that they start here is what can be known
// without touching the real one. Such a trial is of servers that are as they are on
// purpose: empty, and what may be done with them is not the question.
func checkedServers(ctx context.Context, c config.Config, log *slog.Logger) (s settings, trial bool, stop func(), err error) {
	stop = func() {}
	s, there, err := attachRunning(c, log)
	if err != nil || there {
		return s, false, stop, err
	}
	dir, err := embedded.OpenTempDir(ctx)
	if err != nil {
		return s, true, stop, err
	}
	started := &servers{dir: dir}
	stop = func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
		defer cancel()
		if err := started.stop(stopping); err != nil {
			log.Warn("throw-away servers", "error", err)
		}
	}
	if !c.Postgres.External {
		started.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: dir.Path, EndWithUs: true, UnsafeNoFsync: true})
		if err != nil {
			return s, true, stop, noPostgres(err)
		}
		c.Postgres.Migrate = "auto"
	}
	if !c.NATS.External() {
		if started.nats, err = embedded.StartNATS(embedded.NATSConfig{Dir: dir.Path, Port: -1}); err != nil {
			return s, true, stop, &serviceError{"embedded NATS", err}
		}
		c.NATS.Manage = string(publisher.ManageCreate)
	}
	s, err = resolve(c, started, log)
	return s, true, stop, err
}

func checkDatabase(ctx context.Context, s settings, which origin) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	server, err := store.Probe(ctx, s.database)
	err = databaseError(err)
	if which == ofTrial {
		return "version " + server.Version, err
	}
	detail := server.Address
	if server.Version != "" {
		detail += ", version " + server.Version
	}
	switch {
	case err != nil:
	case server.Pending > 0:
		detail += fmt.Sprintf("; the next start applies %d migrations", server.Pending)
	default:
		detail += ", schema up to date"
	}
	return strings.Join(append([]string{detail}, server.Warnings...), "; warning: "), err
}

func checkNATS(ctx context.Context, s settings, which origin) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	nc, err := dial(ctx, s.nats)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	detail := nc.ConnectedAddr() + ", version " + nc.ConnectedServerVersion()
	there, warnings, err := publisher.Inspect(ctx, nc, s.stream)
	switch {
	case which == ofTrial:
		return "version " + nc.ConnectedServerVersion(), err
	case err != nil:
	case there:
		detail += ", stream " + s.stream.Name
	default:
		detail += ", the next start makes the stream " + s.stream.Name
	}
	// Not the server's URL: what stands before the @ may be a token.
	return strings.Join(append([]string{detail}, warnings...), "; warning: "), err
}

// checkCodat lists one operation of the first company: one request, whatever the
// number of companies.
func checkCodat(ctx context.Context, s settings, counting bool, log *slog.Logger) (string, error) {
	gate := &counted{}
	if counting {
		gate = openGate(ctx, s, log)
	}
	defer gate.Close()
	api := s.codat
	api.Gate, api.UserAgent = gate, "pushwatch/"+version()
	client, err := codat.New(api)
	if err != nil {
		return "", &configError{err}
	}
	defer client.Close()
	company := s.companies[0].ID
	started := time.Now()
	for _, err = range client.Walk(ctx, push.ListWalk{CompanyID: company, Purpose: push.ForUser, FirstPage: 1, PageSize: 1}) {
		break
	}
	detail := fmt.Sprintf("%s, asked for company %s", s.codat.BaseURL, company)
	if err != nil {
		return detail, codatError(err)
	}
	detail += fmt.Sprintf(", answered in %s", time.Since(started).Round(time.Millisecond))
	if limits := gate.answer.Limits; limits.Limit != nil && limits.Remaining != nil {
		detail += fmt.Sprintf(", %d of the day's %d requests left", *limits.Remaining, *limits.Limit)
	}
	return detail, nil
}

// codatError sorts a failed request: the service's state, or a configuration that
// Codat does not take.
func codatError(err error) error {
	var failed *push.AskError
	if !errors.As(err, &failed) {
		return err
	}
	switch failed.Kind {
	case push.KindUnauthorised, push.KindForbidden:
		return &configError{fmt.Errorf("%w; check CODAT_API_KEY or codat.api_key_file", err)}
	case push.KindNotFound:
		return &configError{fmt.Errorf("%w; check the id of the company and codat.base_url", err)}
	}
	return &serviceError{"Codat", err}
}

// write prints one line a check and one a schedule.
func (r *checkReport) write(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, f := range r.Checks {
		state := "ok"
		if !f.OK {
			state = "FAILED"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Part, state, f.Detail)
	}
	for _, s := range r.Schedules {
		next := make([]string, len(s.Next))
		for i, at := range s.Next {
			next[i] = at.Format("2006-01-02 15:04:05")
		}
		fmt.Fprintf(table, "%s\t%s\tnext %s UTC\n", s.Key, s.Spec, strings.Join(next, ", "))
	}
	return table.Flush()
}
