package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/store"
)

func newShow() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	var companyID string
	cmd := &cobra.Command{
		Use: "show KEY", Short: "Show one operation's life",
		Long: "Shows an operation as last seen, each of its changes with the two moments between which it happened and\n" +
			"where its event is in the stream, an open dispute, and what of it is set aside.",
		Example: "  pushwatch show 8c3e19f2-7b0a-4c61-9df3-0e2a5d1b7a44",
		Args:    arguments("KEY"),
	}
	placeFlags(cmd, &flags)
	cmd.Flags().StringVar(&companyID, "company", "", "id of the company, where several have an operation of this key")
	form := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withStore(cmd.Context(), flags, func(_ settings, database *store.Store) error {
			if err := knownFilter(cmd.Context(), database, companyID); err != nil {
				return err
			}
			lives, err := database.Lives(cmd.Context(), companyID, args[0])
			if err != nil {
				return err
			}
			switch {
			case len(lives) == 0:
				return notKnown(cmd, database, companyID, args[0])
			case len(lives) > 1:
				ids := make([]string, len(lives))
				for i, l := range lives {
					ids[i] = l.CompanyID
				}
				return &usageError{fmt.Errorf("%d companies have an operation %s: give --company with one of %s", len(lives), args[0], strings.Join(ids, ", "))}
			case *form == "json":
				return writeJSON(cmd.OutOrStdout(), lives[0])
			}
			return writeLife(cmd.OutOrStdout(), lives[0])
		})
	}
	return cmd
}

// notKnown explains a key without an operation: it may be in the quarantine.
func notKnown(cmd *cobra.Command, database *store.Store, companyID, key string) error {
	var ids []string
	filter := store.AsideFilter{CompanyID: companyID, Key: key}
	err := database.EachAside(cmd.Context(), filter, 0, func(a store.Aside) error {
		ids = append(ids, string(a.ID))
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(ids) > 0:
		return fmt.Errorf("operation %s was never read, it is in the quarantine: 'pushwatch quarantine show %s'", key, ids[0])
	}
	return fmt.Errorf("no operation %s was ever seen; keys are those that 'pushwatch tail --since 24h' shows", key)
}

func writeLife(out io.Writer, l store.Life) error {
	f := facts{}
	f.add("operation", l.Key)
	f.add("company", strings.TrimSpace(l.CompanyID+" "+l.CompanyName))
	f.add("data type", firstOf(l.DataType, "-"))
	f.add("connection", firstOf(l.ConnectionID, "-"))
	status := l.Status
	if l.StatusCode != nil {
		status += fmt.Sprintf(" (%d)", *l.StatusCode)
	}
	if !l.Terminal {
		status += ", not finished"
	}
	f.add("status", status)
	if l.ErrorMessage != nil {
		f.add("message", *l.ErrorMessage)
	}
	if l.Disputed != nil {
		f.add("disputed", fmt.Sprintf("read as %s at %s; the next look decides", *l.Disputed, moment(l.DisputedAt)))
	}
	f.add("requested", moment(l.RequestedOn))
	f.add("completed", moment(l.CompletedOn))
	f.add("first seen", moment(&l.FirstSeenAt))
	f.add("looked at", moment(&l.LookedAt)+" (the look that last wrote the row)")
	if len(l.Flags) > 0 {
		f.add("mended", strings.Join(l.Flags, ", "))
	}
	if l.Baseline {
		f.add("baseline", "requested before the company's first look")
	}
	if l.Pruned > 0 || l.PrunedAt != nil {
		f.add("pruned", fmt.Sprintf("%s of history, by retention.history", plural(l.Pruned, "version")))
	}
	for _, a := range l.Aside {
		f.add("quarantine", fmt.Sprintf("%s %s: %s", a.ID, a.Class, a.Detail))
	}
	if err := f.write(out); err != nil || len(l.Changes) == 0 {
		return err
	}
	fmt.Fprintln(out)
	changes := listing{heads: []string{"v", "status", "not_before", "seen", "source", "stream"}}
	for _, c := range l.Changes {
		changes.add(fmt.Sprint(c.Version), c.Status, strings.TrimPrefix(moment(c.Seen), "-"), moment(&c.Observed), c.Source, whereabouts(c))
	}
	return changes.write(out, "table")
}

// whereabouts says what became of a change's event.
func whereabouts(c store.LifeChange) string {
	switch {
	case c.Sequence != nil:
		return fmt.Sprintf("#%d", *c.Sequence)
	case c.DroppedAt != nil:
		return "dropped"
	case c.Rejected != nil:
		return "rejected"
	}
	return "waiting"
}
