package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/push"
)

func newTail() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	var filter tailFilter
	var since string
	cmd := &cobra.Command{
		Use: "tail", Short: "Show events as they come into the stream",
		Long: "Shows each event of the stream as it comes, one line each, until Ctrl-C; times are UTC. Filters of one\n" +
			"kind are alternatives. A value that no event of the stream has yet draws a warning.",
		Example: "  pushwatch tail --status failed,timedout\n" +
			"  pushwatch tail --since 1h --data-type invoices -o json",
		Args: arguments(),
	}
	placeFlags(cmd, &flags)
	cmd.Flags().StringSliceVar(&filter.companies, "company", nil, "ids of companies, with commas or repeated; all by default")
	cmd.Flags().StringSliceVar(&filter.dataTypes, "data-type", nil, "data types such as invoices, _ for none; all by default")
	cmd.Flags().StringSliceVar(&filter.statuses, "status", nil, "statuses such as failed; stalled and gone are those events; all by default")
	cmd.Flags().StringVar(&since, "since", "", "begin with what came since then: RFC 3339, a date, or how long ago (15m, 24h, 7d)")
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		begin, err := tailBegin(since)
		if err == nil {
			err = noEmptyFilter(cmd, "company", "data-type", "status")
		}
		if err != nil {
			return &usageError{err}
		}
		layout := "15:04:05Z"
		if !begin.IsZero() && time.Since(begin) >= 24*time.Hour {
			layout = "2006-01-02 15:04:05Z"
		}
		write := func(e event.Event, m publisher.StoredMessage) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), tailLine(e, m.Time.UTC().Format(layout), len(filter.companies) != 1))
			return err
		}
		if *form == "json" {
			write = func(_ event.Event, m publisher.StoredMessage) error { return writeJSONLine(cmd.OutOrStdout(), m) }
		}
		return tailEvents(cmd.Context(), flags, filter, begin, write)
	}
	return cmd
}

// tailBegin reads --since.
func tailBegin(since string) (time.Time, error) {
	begin, err := parseMoment("--since", since, time.Now())
	if err == nil && begin.After(time.Now()) {
		err = fmt.Errorf("--since %q is in the future", since)
	}
	return begin, err
}

// noEmptyFilter refuses filters of which a value is empty: a variable of the shell
// that is not set would take everything, or nothing.
func noEmptyFilter(cmd *cobra.Command, names ...string) error {
	for _, name := range names {
		values, err := cmd.Flags().GetStringSlice(name)
		if err != nil {
			return err
		}
		empty := slices.ContainsFunc(values, func(v string) bool { return strings.TrimSpace(v) == "" })
		if cmd.Flags().Changed(name) && (empty || len(values) == 0) {
			return fmt.Errorf("--%s: a value is empty; leave the flag out for all", name)
		}
	}
	return nil
}

// tailFilter is which events are wanted; an empty part takes all.
type tailFilter struct{ companies, dataTypes, statuses []string }

// subjects returns those of every combination, none twice.
func (f tailFilter) subjects(prefix string) (all []string) {
	names, types := namesOf(f.statuses), typesOf(f.dataTypes)
	for _, company := range orAny(f.companies) {
		for _, dataType := range orAny(types) {
			for _, name := range orAny(names) {
				all = append(all, event.Match(prefix, company, dataType, name))
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// namesOf returns the names of the events of statuses.
func namesOf(statuses []string) (names []string) {
	for _, status := range statuses {
		name := event.Name(push.Status(status))
		if lower := strings.ToLower(status); lower == "stalled" || lower == "gone" {
			name = lower // the events, not a status that Codat does not have
		}
		names = append(names, name)
	}
	return names
}

// typesOf returns the data types that are meant: _ is what a subject has for none,
// and one that is called so is taken too, as in a replay.
func typesOf(values []string) (types []string) {
	for _, value := range values {
		if value == "_" {
			types = append(types, "")
		}
		types = append(types, value)
	}
	return types
}

// warn tells of values that no event of the stream has: they may be mistyped, and
// an empty screen looks like good news.
func (f tailFilter) warn(ctx context.Context, nc *nats.Conn, s settings) error {
	for _, part := range []struct {
		flag   string
		values []string
		only   func(value string) tailFilter
	}{
		{"--company", f.companies, func(v string) tailFilter { return tailFilter{companies: []string{v}} }},
		{"--data-type", f.dataTypes, func(v string) tailFilter { return tailFilter{dataTypes: []string{v}} }},
		{"--status", f.statuses, func(v string) tailFilter { return tailFilter{statuses: []string{v}} }},
	} {
		for _, value := range part.values {
			held, err := publisher.Holds(ctx, nc, s.stream.Name, part.only(value).subjects(s.stream.SubjectPrefix))
			if err != nil {
				return err
			}
			if !held {
				s.log.Warn("no event in the stream meets a filter yet", "flag", part.flag, "value", printable(value))
			}
		}
	}
	return nil
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
// error.
func tailEvents(ctx context.Context, flags config.Flags, filter tailFilter, since time.Time,
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
		if err := usedBefore(c); err != nil {
			return err
		}
		return &serviceError{"NATS", fmt.Errorf("no pushwatch runs on %s; start 'pushwatch run', or set nats.url or NATS_URL", c.DataDir)}
	}
	err = followEvents(ctx, s, filter, since, write)
	if ctx.Err() != nil {
		return nil // whatever it was doing
	}
	return streamError(err, s.stream.Name)
}

func followEvents(ctx context.Context, s settings, filter tailFilter, since time.Time, write func(event.Event, publisher.StoredMessage) error) error {
	dialing, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	nc, err := dial(dialing, s.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := filter.warn(ctx, nc, s); err != nil {
		return err
	}
	following := publisher.TailConfig{Stream: s.stream.Name, Filters: filter.subjects(s.stream.SubjectPrefix), Since: since, Log: s.log}
	return publisher.Tail(ctx, nc, following, func(m publisher.StoredMessage) error {
		var e event.Event
		if err := json.Unmarshal(m.Data, &e); err != nil {
			s.log.Warn("a message below the prefix is no event", "subject", printable(m.Subject), "sequence", m.Sequence)
			return nil
		}
		return write(e, m)
	})
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
