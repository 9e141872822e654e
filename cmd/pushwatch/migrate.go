package main

import (
	"context"
	"fmt"

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
	up := &cobra.Command{Use: "up", Short: "Apply pending migrations", Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return migrate(cmd, flags, true, "table") }}
	status := &cobra.Command{Use: "status", Short: "List migrations and whether they are applied", Args: arguments()}
	form := outputFlag(status, "table", "json", "csv")
	status.RunE = func(cmd *cobra.Command, _ []string) error { return migrate(cmd, flags, false, *form) }
	cmd.AddCommand(up, status)
	return cmd
}

func migrate(cmd *cobra.Command, flags config.Flags, apply bool, form string) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	reached := attachDatabase
	if apply {
		reached = attachNew
	}
	s, detach, err := reached(cmd.Context(), c, log)
	if err != nil {
		return err
	}
	defer detach()
	if apply {
		s.database.VerifyOnly = false // a person says that they are to be applied
		if err := bring(cmd.Context(), s); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	var all []store.Migration
	err = retried(ctx, func() error { all, err = store.Migrate(ctx, s.database, false); return err })
	if err != nil {
		return err
	}
	return showMigrations(cmd, all, form)
}

func showMigrations(cmd *cobra.Command, all []store.Migration, form string) error {
	type migration struct {
		Version int64  `json:"version"`
		Name    string `json:"name"`
		State   string `json:"state"`
	}
	listed := listing{heads: []string{"version", "migration", "state"}}
	document := []migration{}
	for _, m := range all {
		state := "pending"
		if m.Applied {
			state = "applied"
		}
		document = append(document, migration{m.Version, m.Name, state})
		listed.add(fmt.Sprint(m.Version), m.Name, state)
	}
	if form == "json" {
		return writeJSON(cmd.OutOrStdout(), document)
	}
	return listed.write(cmd.OutOrStdout(), form)
}

// bring reaches the database and brings its schema up to date. To be reached it
// has until startTimeout; migrations of large tables take as long as they take.
func bring(ctx context.Context, s settings) error {
	if s.database.VerifyOnly {
		return nil // the store refuses what is pending
	}
	server, err := reach(ctx, s.database)
	if err != nil || server.Pending == 0 {
		return err
	}
	s.log.Info("migrating the database", "pending", server.Pending)
	if _, err := store.Migrate(ctx, s.database, true); err != nil {
		return databaseError(err)
	}
	return nil
}

// reach looks at the database, trying again while it cannot be reached.
func reach(ctx context.Context, config store.Config) (server store.Server, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = retried(ctx, func() error { server, err = store.Probe(ctx, config); return err })
	return server, err
}

// databaseError sorts an error of the store: a setup that cannot work, or the
// service's state.
func databaseError(err error) error {
	if err == nil || as[*store.SetupError](err) {
		return err
	}
	return &serviceError{"PostgreSQL", fmt.Errorf("%w\nstart it, or correct postgres.url (DATABASE_URL)", err)}
}
