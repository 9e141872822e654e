package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/store"
)

// placeFlags adds the flags that say where a command finds the database.
func placeFlags(cmd *cobra.Command, flags *config.Flags) {
	cmd.PersistentFlags().StringVar(&flags.File, "config", "", "configuration file (YAML); none by default")
	cmd.PersistentFlags().StringVar(&flags.DataDir, "data-dir", "", dataDirUsage)
}

const dataDirUsage = "where the embedded servers keep their data; by default /var/lib/pushwatch for\n" +
	"root, else ${XDG_STATE_HOME:-~/.local/state}/pushwatch"

// withStore calls fn with the database of the configuration, beside a daemon or
// without one. The schema must be up to date: a look is no reason to migrate.
func withStore(ctx context.Context, flags config.Flags, fn func(settings, *store.Store) error) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, detach, err := attachDatabase(ctx, c, log)
	if err != nil {
		return err
	}
	defer detach()
	reaching, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	s.database.LookOnly = true
	database, err := openStore(reaching, s.database)
	if err != nil {
		return err
	}
	defer database.Close()
	return fn(s, database)
}

// streamError says what to do about a stream that is not there: NATS answers, so
// it is a matter of configuration.
func streamError(err error, name string) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return &configError{fmt.Errorf("stream %s does not exist: 'pushwatch run' makes it, nats.stream names another", name)}
	}
	return err
}

// knownCompanies refuses companies to filter by that were never configured: a
// mistyped id selects nothing, which would look like good news.
func knownCompanies(ctx context.Context, database *store.Store, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	unknown, err := database.UnknownCompanies(ctx, ids)
	if err == nil && len(unknown) > 0 {
		err = fmt.Errorf("no company %s was ever configured; 'pushwatch status -o json' lists them", strings.Join(unknown, ", "))
	}
	return err
}

// knownFilter is knownCompanies for a flag that may be absent.
func knownFilter(ctx context.Context, database *store.Store, companyID string) error {
	if companyID == "" {
		return nil
	}
	return knownCompanies(ctx, database, companyID)
}
