package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/store"
)

func newMigrate() *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the database's schema up to date, or show its state",
		Long: "The database is the one of PUSHWATCH_POSTGRES_URL, DATABASE_URL, or PGHOST and its kin.",
		Args: usage(cobra.NoArgs), RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		&cobra.Command{Use: "up", Short: "Apply pending migrations", Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd, true) }},
		&cobra.Command{Use: "status", Short: "List migrations and whether they are applied", Args: usage(cobra.NoArgs),
			RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd, false) }},
	)
	return cmd
}

func migrate(cmd *cobra.Command, apply bool) error {
	url := os.Getenv("PUSHWATCH_POSTGRES_URL")
	if url == "" {
		url = os.Getenv("DATABASE_URL")
	}
	if url == "" && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "" {
		return &configError{errors.New("no database: set DATABASE_URL, PUSHWATCH_POSTGRES_URL, PGHOST or PGSERVICE")}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	all, err := store.Migrate(ctx, store.Config{URL: url}, apply)
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
