package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/store"
)

// placeFlags adds the flags that say where a command finds the database.
func placeFlags(cmd *cobra.Command, flags *config.Flags) {
	cmd.PersistentFlags().StringVar(&flags.File, "config", "", "configuration file (YAML); none by default")
	cmd.PersistentFlags().StringVar(&flags.DataDir, "data-dir", "", "where the embedded servers keep their data")
}

// withStore calls fn with the database of the configuration, beside a daemon or
// without one. The schema must be up to date: a look is no reason to migrate.
func withStore(ctx context.Context, flags config.Flags, fn func(settings, *store.Store) error) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, detach, err := attach(ctx, c, log)
	if err != nil {
		return err
	}
	defer detach()
	reaching, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.database.VerifyOnly = true
	database, err := openStore(reaching, s.database)
	if err != nil {
		return err
	}
	defer database.Close()
	return fn(s, database)
}
