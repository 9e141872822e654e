package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

func newTail() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	var companies, dataTypes, statuses []string
	var since string
	cmd := &cobra.Command{
		Use: "tail", Short: "Show events as they come into the stream",
		Long: "Shows each event of the stream as it comes, one line each, until Ctrl-C. Filters of one kind are\n" +
			"alternatives. An empty --data-type takes operations without one.",
		Example: "  pushwatch tail --status failed --status timedout\n" +
			"  pushwatch tail --since 1h --data-type invoices -o json",
		Args: usage(cobra.NoArgs),
	}
	placeFlags(cmd, &flags)
	cmd.Flags().StringArrayVar(&companies, "company", nil, "only of the company with this id")
	cmd.Flags().StringArrayVar(&dataTypes, "data-type", nil, "only of this data type, such as invoices")
	cmd.Flags().StringArrayVar(&statuses, "status", nil, "only changes to this status, such as failed; stalled and gone are those events")
	cmd.Flags().StringVar(&since, "since", "", "begin with what came since then: RFC 3339, a date, or how long ago (15m, 24h, 7d)")
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		begin, err := parseMoment("--since", since, time.Now())
		if err == nil && begin.After(time.Now()) {
			err = fmt.Errorf("--since %q is in the future", since)
		}
		if err != nil {
			return &usageError{err}
		}
		layout := time.TimeOnly
		if !begin.IsZero() && time.Since(begin) >= 24*time.Hour {
			layout = time.DateTime
		}
		write := func(e event.Event, m publisher.StoredMessage) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), tailLine(e, m.Time.UTC().Format(layout), len(companies) != 1))
			return err
		}
		if *form == "json" {
			write = func(_ event.Event, m publisher.StoredMessage) error { return writeJSONLine(cmd.OutOrStdout(), m) }
		}
		return tailEvents(cmd.Context(), flags, companies, func(prefix string) publisher.TailConfig {
			return publisher.TailConfig{Filters: tailFilters(prefix, companies, dataTypes, statuses), Since: begin}
		}, write)
	}
	return cmd
}

// tailFilters returns the subjects of every combination, none twice.
func tailFilters(prefix string, companies, dataTypes, statuses []string) []string {
	var names []string
	for _, status := range statuses {
		name := event.Name(push.Status(status))
		if lower := strings.ToLower(status); lower == "stalled" || lower == "gone" {
			name = lower // the events, not a status that Codat does not have
		}
		names = append(names, name)
	}
	var filters []string
	for _, company := range orAny(companies) {
		for _, dataType := range orAny(dataTypes) {
			for _, name := range orAny(names) {
				filters = append(filters, event.Match(prefix, company, dataType, name))
			}
		}
	}
	slices.Sort(filters)
	return slices.Compact(filters)
}

// orAny returns pointers to the values; one nil, for any, when there are none.
func orAny(values []string) []*string {
	if len(values) == 0 {
		return []*string{nil}
	}
	all := make([]*string, len(values))
	for i := range values {
		all[i] = &values[i]
	}
	return all
}

// tailEvents follows the stream of the configuration until ctx ends, which is no
// error. Companies are those that are filtered by: the stream may know one that is
// not configured any more, so that is a warning.
func tailEvents(ctx context.Context, flags config.Flags, companies []string, want func(prefix string) publisher.TailConfig,
	write func(event.Event, publisher.StoredMessage) error) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, _, err := attachRunning(c, log)
	if err != nil {
		return err
	}
	if s.nats.URL == "" {
		return &serviceError{"NATS", fmt.Errorf("no pushwatch runs on %s; start 'pushwatch run', or set nats.url or NATS_URL", c.DataDir)}
	}
	for _, id := range companies {
		if len(c.Companies) > 0 && !slices.ContainsFunc(c.Companies, func(known config.Company) bool { return known.ID == id }) {
			log.Warn("a company to filter by is not configured", "company_id", id)
		}
	}
	dialing, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	nc, err := dial(dialing, s.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	config := want(s.stream.SubjectPrefix)
	config.Stream, config.Log = s.stream.Name, log
	err = publisher.Tail(ctx, nc, config, func(m publisher.StoredMessage) error {
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			log.Warn("a message below the prefix is no event", "subject", printable(m.Subject), "sequence", m.Sequence)
			return nil
		}
		return write(e, m)
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return &serviceError{"NATS", fmt.Errorf("%w; 'pushwatch run' makes it, nats.stream names another", err)}
	}
	return err
}

// tailLine tells an event in one line.
func tailLine(e event.Event, at string, withCompany bool) string {
	dataType := "-"
	if e.DataType != nil {
		dataType = *e.DataType
	}
	line := fmt.Sprintf("%s  %-8s  %-14s  %s  v%d", at, e.Event, dataType, e.PushOperationKey, e.Version)
	if withCompany {
		line += "  " + e.CompanyID
	}
	if e.PreviousStatus != nil {
		line += "  was " + string(*e.PreviousStatus)
	}
	if e.ErrorMessage != nil {
		line += "  " + *e.ErrorMessage
	}
	return printable(line)
}

// writeJSONLine prints the event's body on a line of its own, as it is in the
// stream, but on a terminal.
func writeJSONLine(out io.Writer, m publisher.StoredMessage) error {
	_, err := out.Write(append(slices.Clip(shown(out, m.Data)), '\n'))
	return err
}
