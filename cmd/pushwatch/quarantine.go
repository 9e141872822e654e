package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/store"
)

func newQuarantine() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	cmd := &cobra.Command{
		Use: "quarantine", Short: "Show what was set aside, try it again, or give up on it",
		Long: "Records that could not be read or stored (ids like r12) and events that can never be published as\n" +
			"they are (ids like e345) are set aside, so that nothing else waits for them.",
		Args: usage(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	placeFlags(cmd, &flags)
	cmd.AddCommand(newQuarantineList(&flags), newQuarantineShow(&flags), newQuarantineRetry(&flags), newQuarantineDrop(&flags))
	return cmd
}

func newQuarantineList(flags *config.Flags) *cobra.Command {
	var filter store.AsideFilter
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List what was set aside, the newest first", Args: arguments(),
		Example: "  pushwatch quarantine list --class too_large\n  pushwatch quarantine list -o csv >quarantine.csv",
	}
	filterFlags(cmd, &filter)
	cmd.Flags().IntVar(&limit, "limit", 0, "list at most so many; 0 is all")
	form := outputFlag(cmd, "table", "json", "csv")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if limit < 0 {
			return &usageError{fmt.Errorf("--limit %d: wanted 0 or more", limit)}
		}
		return withStore(cmd.Context(), *flags, func(_ settings, database *store.Store) error {
			if err := knownFilter(cmd.Context(), database, filter.CompanyID); err != nil {
				return err
			}
			all := []store.Aside{}
			err := database.EachAside(cmd.Context(), filter, limit, func(a store.Aside) error {
				all = append(all, a)
				return nil
			})
			if err != nil {
				return err
			}
			if len(all) == 0 && *form == "table" {
				return tellNone(cmd, database, filter)
			}
			return writeAsides(cmd, *form, database.Now(), all)
		})
	}
	return cmd
}

func filterFlags(cmd *cobra.Command, filter *store.AsideFilter) {
	cmd.Flags().StringVar(&filter.CompanyID, "company", "", "only of the company with this id")
	cmd.Flags().StringVar(&filter.Class, "class", "", "only of this class, such as status_missing or too_large")
}

// tellNone says that nothing is set aside, or, where a filter was given, what else is.
func tellNone(cmd *cobra.Command, database *store.Store, filter store.AsideFilter) error {
	counts, err := database.CountAside(cmd.Context())
	if err != nil {
		return err
	}
	there := func(c store.AsideCount) bool { return c.Aside > 0 }
	said := "nothing is set aside"
	if filter.CompanyID+filter.Class != "" && slices.ContainsFunc(counts, there) {
		said = "nothing that is set aside meets the filters; there are: " + asideLine(counts)
	}
	_, err = fmt.Fprintln(cmd.ErrOrStderr(), printable(said))
	return err
}

// writeAsides prints a list. The table is made to fit a terminal: ages, and the
// company last.
func writeAsides(cmd *cobra.Command, form string, now time.Time, all []store.Aside) error {
	out := cmd.OutOrStdout()
	switch {
	case form == "json":
		return writeJSON(out, asideDocuments(all))
	case form == "table":
		l := listing{heads: []string{"id", "age", "class", "operation", "company"}}
		for _, a := range all {
			l.add(string(a.ID), ago(now, a.LastAt), a.Class, a.Key, firstOf(a.Company, a.CompanyID))
		}
		return l.write(out, form)
	}
	l := listing{heads: []string{"id", "kind", "company_id", "company_name", "push_operation_key", "class", "detail", "first_at",
		"last_at", "times", "event_id", "version", "subject", "behind", "size"}}
	for _, a := range all {
		l.add(string(a.ID), string(a.Kind), a.CompanyID, a.Company, a.Key, a.Class, a.Detail, a.FirstAt.Format(time.RFC3339Nano),
			a.LastAt.Format(time.RFC3339Nano), strconv.FormatInt(a.Times, 10), a.EventID, strconv.FormatInt(a.Version, 10), a.Subject,
			strconv.FormatInt(a.Behind, 10), strconv.FormatInt(a.Size, 10))
	}
	return l.write(out, form)
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

func newQuarantineShow(flags *config.Flags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "show ID", Short: "Show everything about one of what was set aside, with its body",
		Example: "  pushwatch quarantine show r12", Args: arguments("ID"),
	}
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ids, err := parseIDs(args)
		if err != nil {
			return err
		}
		return withStore(cmd.Context(), *flags, func(_ settings, database *store.Store) error {
			a, err := database.ShowAside(cmd.Context(), ids[0])
			if err != nil {
				return fmt.Errorf("%w; see 'pushwatch quarantine list'", err)
			}
			if *form == "json" {
				return writeJSON(cmd.OutOrStdout(), asideDocument(a))
			}
			return writeAside(cmd.OutOrStdout(), a)
		})
	}
	return cmd
}

func parseIDs(args []string) ([]store.AsideID, error) {
	var ids []store.AsideID
	for _, arg := range args {
		if _, _, err := store.ParseAsideID(arg); err != nil {
			return nil, &usageError{err}
		}
		if id := store.AsideID(arg); !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func writeAside(out io.Writer, a store.Aside) error {
	f := facts{}
	f.add("id", string(a.ID))
	f.add("kind", string(a.Kind))
	f.add("company", strings.TrimSpace(a.CompanyID+" "+a.Company))
	f.add("operation", firstOf(a.Key, "(its key could not be read)"))
	f.add("reason", a.Class+": "+a.Detail)
	if a.Kind == store.AsideEvent {
		f.add("event", a.EventID)
		f.add("subject", a.Subject)
		f.add("rejected", moment(&a.FirstAt))
		f.add("waiting", plural(a.Behind, "later event")+" of the operation")
	} else {
		f.add("first seen", moment(&a.FirstAt))
		f.add("last seen", moment(&a.LastAt)+", "+plural(a.Times, "time")+" in all")
		if a.RetriedAt != nil {
			f.add("retried", moment(a.RetriedAt)+"; waits for the next sweep that reaches it")
		}
		f.add("sha-256", a.BodyHash)
	}
	body := "removed by retention.payloads"
	if a.Body != "" {
		body = fmt.Sprintf("%d bytes", a.Size)
	}
	f.add("body", body)
	if err := f.write(out); err != nil || a.Body == "" {
		return err
	}
	text := printable(a.Body)
	var document any
	if json.Unmarshal([]byte(a.Body), &document) == nil {
		if pretty, err := json.MarshalIndent(document, "", "  "); err == nil {
			text = printableLines(string(pretty))
		}
	}
	_, err := fmt.Fprintf(out, "\n%s\n", text)
	return err
}

// chosen is what a command works on: ids, or everything that a filter takes.
type chosen struct {
	all    bool
	filter store.AsideFilter
}

func (c *chosen) flags(cmd *cobra.Command, verb string) {
	cmd.Flags().BoolVar(&c.all, "all", false, verb+" everything that is set aside, or all that the filters take")
	filterFlags(cmd, &c.filter)
}

// take reads ids from args and refuses what does not say clearly what is meant.
func (c *chosen) take(args []string) (err error) {
	switch {
	case c.all && len(args) > 0:
		return &usageError{errors.New("give either ids or --all")}
	case !c.all && len(args) == 0:
		return &usageError{errors.New("give ids, or --all; see 'pushwatch quarantine list'")}
	case !c.all && c.filter.CompanyID+c.filter.Class != "":
		return &usageError{errors.New("--company and --class go with --all")}
	case !c.all:
		c.filter.IDs, err = parseIDs(args)
	}
	return err
}

// read returns what is meant, events of one operation in their order. An id that
// is not there is an error.
func (c *chosen) read(ctx context.Context, database *store.Store) ([]store.Aside, error) {
	if err := knownFilter(ctx, database, c.filter.CompanyID); err != nil {
		return nil, err
	}
	var found []store.Aside
	err := database.EachAside(ctx, c.filter, 0, func(a store.Aside) error { found = append(found, a); return nil })
	slices.Reverse(found)
	for _, id := range c.filter.IDs {
		if !slices.ContainsFunc(found, func(a store.Aside) bool { return a.ID == id }) {
			err = errors.Join(err, fmt.Errorf("%s: %w; see 'pushwatch quarantine list'", id, store.ErrNotAside))
		}
	}
	return found, err
}

func newQuarantineDrop(flags *config.Flags) *cobra.Command {
	var c chosen
	var yes bool
	cmd := &cobra.Command{
		Use: "drop ID...|--all", Short: "Give up on what was set aside",
		Long: "A dropped record stays dropped when Codat lists the same bytes again. A dropped event is never\n" +
			"published: its version is a gap in the stream, which 'pushwatch show' tells, and the later events of\n" +
			"its operation go on. Its transition stays in the history.",
		Example: "  pushwatch quarantine drop r12 e345\n  pushwatch quarantine drop --all --class key_missing --yes",
	}
	c.flags(cmd, "drop")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.take(args); err != nil {
			return err
		}
		if !yes && !term.IsTerminal(int(os.Stdin.Fd())) {
			return &usageError{errors.New("dropping cannot be undone: give --yes, there is no terminal to ask on")}
		}
		return withStore(cmd.Context(), *flags, func(s settings, database *store.Store) error {
			found, err := c.read(cmd.Context(), database)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return tellNone(cmd, database, c.filter)
			}
			if !yes && !confirmed(cmd, "Drop "+tally(found)+"? This cannot be undone. [y/N] ") {
				return errors.New("nothing was dropped")
			}
			for _, a := range found {
				if err := database.DropAside(cmd.Context(), a.ID); err != nil {
					return err
				}
				s.log.Info("dropped from the quarantine", "id", a.ID, "class", a.Class, "company_id", a.CompanyID,
					"operation", a.Key, "event_id", a.EventID)
				fmt.Fprintln(cmd.OutOrStdout(), dropLine(a))
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "dropped %s\n", tally(found))
			return nil
		})
	}
	return cmd
}

func dropLine(a store.Aside) string {
	if a.Kind == store.AsideRecord {
		return fmt.Sprintf("%s: dropped", a.ID)
	}
	line := fmt.Sprintf("%s: dropped; version %d of operation %s is a gap in the stream", a.ID, a.Version, printable(a.Key))
	if a.Behind > 0 {
		line += ", " + plural(a.Behind, "later event") + " can go on"
	}
	return line
}

// tally counts by kind.
func tally(all []store.Aside) string {
	var records, events int64
	for _, a := range all {
		if a.Kind == store.AsideEvent {
			events++
		} else {
			records++
		}
	}
	switch {
	case events == 0:
		return plural(records, "record")
	case records == 0:
		return plural(events, "event")
	}
	return plural(records, "record") + " and " + plural(events, "event")
}

// confirmed asks on the terminal.
func confirmed(cmd *cobra.Command, question string) bool {
	fmt.Fprint(cmd.ErrOrStderr(), question)
	answer, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return err == nil && (answer == "y" || answer == "yes")
}
