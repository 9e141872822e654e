package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/store"
)

func newMigrate() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the database's schema up to date, or show its state",
		Long: "Works on the database that the configuration names; without one on the embedded one.\n" +
			"'pushwatch run' applies migrations itself unless postgres.migrate is verify.",
		Args: usage(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	placeFlags(cmd, &flags)
	cmd.AddCommand(
		&cobra.Command{Use: "up", Short: "Apply pending migrations", Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd, flags, true) }},
		&cobra.Command{Use: "status", Short: "List migrations and whether they are applied", Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd, flags, false) }},
	)
	return cmd
}

func migrate(cmd *cobra.Command, flags config.Flags, apply bool) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, detach, err := attach(cmd.Context(), c, log)
	if err != nil {
		return err
	}
	defer detach()
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	all, err := store.Migrate(ctx, s.database, apply)
	var setup *store.SetupError
	if err != nil && !errors.As(err, &setup) {
		return &serviceError{"PostgreSQL", err}
	}
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "VERSION\tMIGRATION\tSTATE")
	for _, m := range all {
		state := "pending"
		if m.Applied {
			state = "applied"
		}
		fmt.Fprintf(table, "%d\t%s\t%s\n", m.Version, m.Name, state)
	}
	return table.Flush()
}
