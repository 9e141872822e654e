package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

var _ publisher.History = (*store.Replay)(nil)

func newReplay() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	var a replayArgs
	cmd := &cobra.Command{
		Use: "replay", Short: "Publish history again, beside the live events",
		Long: "Publishes the changes that the filters select once more, rendered anew from the database, below a\n" +
			"subject prefix of their own: with new ids, \"replay\": true and a replay id. They come in the order in\n" +
			"which they were observed. A stream must take the subjects; the command says how to make one.\n\n" +
			"A replay that was interrupted goes on with --resume and publishes nothing twice. The daemon\n" +
			"may run meanwhile and is not disturbed.",
		Example: "  pushwatch replay --company 8a210b68-6988-11ed-a1eb-0242ac120002 --since 24h --dry-run\n" +
			"  pushwatch replay --status Failed,TimedOut --data-type invoices --since 2026-01-01 --until 2026-02-01\n" +
			"  pushwatch replay --since 7d --to backfill.warehouse --rate 100",
		Args: arguments(),
	}
	f := cmd.Flags()
	placeFlags(cmd, &flags)
	f.StringSliceVar(&a.companies, "company", nil, "ids of companies, with commas or repeated; all by default")
	f.StringSliceVar(&a.dataTypes, "data-type", nil, "data types such as invoices, _ for none; all by default")
	f.StringSliceVar(&a.statuses, "status", nil, "statuses such as Failed, in any letter case; all by default")
	f.StringVar(&a.since, "since", "", "observed then or later: RFC 3339, a date (UTC), or how long ago, as in 24h or 7d")
	f.StringVar(&a.until, "until", "", "observed before: as --since; now by default")
	f.StringVar(&a.to, "to", "codat.replay", "prefix of the subjects")
	f.StringVar(&a.resume, "resume", "", "id of the replay to go on with; the other flags must be those it was begun with")
	f.IntVar(&a.rate, "rate", 0, "events a second; 0: as fast as the stream takes them")
	f.BoolVar(&a.dryRun, "dry-run", false, "count, and publish nothing")
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, err := a.parse(time.Now())
		if err == nil {
			err = noEmptyFilter(cmd, "company", "data-type", "status")
		}
		if err != nil {
			return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
		}
		r.place = placeWords(flags)
		summary, err := r.run(cmd.Context(), flags, cmd.ErrOrStderr())
		if summary != nil {
			err = errors.Join(err, summary.write(cmd.OutOrStdout(), *form))
		}
		return err
	}
	return cmd
}

// replaySummary is how a replay ended.
type replaySummary struct {
	ReplayID string    `json:"replayId,omitempty"` // empty: nothing was begun
	To       string    `json:"to"`
	Stream   string    `json:"stream,omitempty"`
	Until    time.Time `json:"until"`
	Events   int64     `json:"events"` // selected
	publisher.ReplayResult
	DryRun   bool   `json:"dryRun"`
	Complete bool   `json:"complete"`
	Resume   string `json:"resume,omitempty"` // the command that goes on
}

func (s *replaySummary) write(out io.Writer, form string) (err error) {
	switch {
	case form == "json":
		return writeJSON(out, s)
	case s.DryRun:
		_, err = fmt.Fprintf(out, "%d events would be published below %s\n", s.Events, s.To)
	default:
		_, err = fmt.Fprintf(out, "replay %s: events %d, published %d, there already %d, below %s in stream %s\n",
			s.ReplayID, s.Events, s.Published, s.Already, s.To, s.Stream)
	}
	return err
}

// run replays what r says and returns how far it came, nil for not at all.
func (r *replay) run(ctx context.Context, flags config.Flags, progress io.Writer) (*replaySummary, error) {
	c, log, err := loadConfig(flags)
	if err != nil {
		return nil, err
	}
	if err := publisher.CheckReplayPrefix(r.to, c.NATS.SubjectPrefix); err != nil {
		return nil, &usageError{fmt.Errorf("--to: %w", err)}
	}
	s, detach, err := attach(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer detach()
	s.database.LookOnly = true // history is read; a newer schema is the daemon's to bring
	starting, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	database, err := openStore(starting, s.database)
	if err != nil {
		return nil, err
	}
	defer database.Close()
	if err := r.settle(starting, database); err != nil {
		return nil, err
	}
	if err := knownCompanies(starting, database, r.of.Companies...); err != nil {
		return nil, err
	}
	events, err := database.CountReplay(ctx, r.of)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(progress, "%d events\n", events)
	summary := &replaySummary{To: r.to, Until: r.of.Until, Events: events, DryRun: r.dryRun}
	if !r.dryRun {
		summary.ReplayID = r.id
	}
	nc, err := dial(starting, s.nats)
	if err != nil {
		return nil, err
	}
	defer nc.Close()
	show := newReplayShown(progress, events)
	defer show.end(false)
	target, err := publisher.OpenReplay(starting, nc, publisher.ReplayConfig{Prefix: r.to, Live: s.stream.Name, ID: r.id, Resumed: r.resume != "",
		Rate: r.rate, Progress: show.done})
	var unavailable *publisher.UnavailableError
	switch {
	case r.dryRun && errors.As(err, &unavailable):
		log.Warn("the replay itself would fail", "error", err)
		return summary, nil
	case err != nil:
		return nil, err
	case target.Stream() == s.stream.Name:
		return nil, &usageError{fmt.Errorf("--to: the stream of live events, %s, takes %s: name a prefix beside it, or take its subjects from that stream",
			s.stream.Name, r.to)}
	}
	for _, warning := range target.Warnings() {
		log.Warn("stream", "warning", warning)
	}
	if summary.Stream = target.Stream(); r.dryRun {
		return summary, nil
	}
	again := r.again()
	fmt.Fprintf(progress, "replay %s to stream %s; if it is interrupted, go on with: %s\n", r.id, target.Stream(), again)
	summary.ReplayResult, err = target.Run(ctx, database.NewReplay(r.of, r.to, r.id))
	summary.Complete = err == nil
	show.end(summary.Complete)
	if err != nil {
		summary.Resume = again
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		return summary, fmt.Errorf("replay %s, after %d of %d events: %w; go on with: %s", r.id, summary.Done(), events, err, again)
	}
	return summary, nil
}

// settle fixes what only the database can tell, and the id of the replay.
func (r *replay) settle(ctx context.Context, database *store.Store) error {
	if r.of.Until.IsZero() {
		r.of.Until = push.Time(database.Now())
	}
	if !r.of.Since.Before(r.of.Until) {
		return &usageError{fmt.Errorf("--since %s is not before --until %s", stamp(r.of.Since), stamp(r.of.Until))}
	}
	if err := r.checkStatuses(ctx, database); err != nil {
		return err
	}
	if r.resume == "" {
		r.id = newReplayID(r.selection())
		return nil
	}
	if r.id = r.resume; !sameSelection(r.id, r.selection()) {
		return &usageError{fmt.Errorf("--resume: replay %s was begun with other flags, or never: type the command that it printed", r.id)}
	}
	return nil
}

// checkStatuses refuses a status that is neither documented nor in the history.
func (r *replay) checkStatuses(ctx context.Context, database *store.Store) error {
	unknown := undocumented(r.of.Statuses)
	if len(unknown) == 0 {
		return nil
	}
	history, err := database.Statuses(ctx)
	if err != nil {
		return err
	}
	allowed := documentedStatuses()
	for _, status := range history {
		if !holdsFold(allowed, status) {
			allowed = append(allowed, status)
		}
	}
	for _, status := range unknown {
		if !holdsFold(allowed, status) {
			return &usageError{fmt.Errorf("--status %q: allowed are %s", status, strings.Join(allowed, ", "))}
		}
	}
	return nil
}

// again is the command that goes on with the replay: its times are spelt out.
func (r *replay) again() string {
	words := append([]string{"pushwatch", "replay"}, r.place...)
	add := func(flag string, values ...string) {
		for _, value := range values {
			words = append(words, flag, quoted(value))
		}
	}
	add("--company", listed(r.of.Companies)...)
	add("--data-type", listed(r.of.DataTypes)...)
	add("--status", listed(r.of.Statuses)...)
	if !r.of.Since.IsZero() {
		add("--since", stamp(r.of.Since))
	}
	add("--until", stamp(r.of.Until))
	add("--to", r.to)
	if r.rate > 0 {
		add("--rate", fmt.Sprint(r.rate))
	}
	add("--resume", r.id)
	return strings.Join(words, " ")
}

// stamp spells a time so that it is read back to the digit.
func stamp(at time.Time) string { return event.Timestamp(at).String() }
