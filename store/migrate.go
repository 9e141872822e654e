package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/migrations"
)

// migrationLock serialises migrating processes. It is held inside one
// transaction, so it works behind a transaction pooler too.
const migrationLock = 0x70757368 // "push"

// Migration is one migration and whether this database has it.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

// Migrate opens the database just for its schema: it applies what is pending
// when apply is set, and returns every migration with its state.
func Migrate(ctx context.Context, config Config, apply bool) ([]Migration, error) {
	config.VerifyOnly, config.LookOnly = !apply, false
	s, err := connect(ctx, config)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if apply {
		if _, err := s.checkServer(ctx); err != nil {
			return nil, err
		}
		if err := s.migrate(ctx); err != nil {
			return nil, err
		}
	}
	return s.migrations(ctx)
}

func (s *Store) provider() (*goose.Provider, func() error, error) {
	db := stdlib.OpenDBFromPool(s.pool)
	versions, err := database.NewStore(database.DialectPostgres, "pushwatch.schema_version")
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	p, err := goose.NewProvider("", db, migrations.FS, goose.WithStore(versions), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return p, db.Close, nil
}

// migrate brings the schema up to date, or refuses one that is not.
func (s *Store) migrate(ctx context.Context) error {
	if s.config.VerifyOnly || s.config.LookOnly {
		return s.verifySchema(ctx)
	}
	// Readers of an up-to-date schema take no lock at all.
	if all, err := s.migrations(ctx); err == nil && pending(all) == 0 {
		return s.verifySchema(ctx)
	}
	// The lock is an advisory one of a transaction that does nothing else; goose
	// works on other connections of the pool meanwhile. If we crash here, the
	// server ends that transaction, and the next process goes on with the first
	// migration that did not commit: each is one transaction with its version row.
	err := s.attempt(ctx, `begin`, func(ctx context.Context, tx pgx.Tx) error {
		const lock = `select pg_catalog.pg_advisory_xact_lock($1::bigint) where $2::boolean`
		if _, err := tx.Exec(ctx, lock, int64(migrationLock), !fault.Off(fault.MigrationLock)); err != nil {
			return fmt.Errorf("wait for another process that migrates: %w", err)
		}
		if _, err := s.pool.Exec(ctx, `create schema if not exists pushwatch`); err != nil {
			return fmt.Errorf("create schema pushwatch: %w", err)
		}
		p, done, err := s.provider()
		if err != nil {
			return fmt.Errorf("prepare migrations: %w", err)
		}
		for err == nil {
			_, err = p.UpByOne(ctx)
			fault.Point(fault.Migrating)
		}
		if errors.Is(err, goose.ErrNoNextVersion) {
			err = nil
		}
		return errors.Join(err, done())
	})
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return s.verifySchema(ctx)
}

// migrations lists every migration of the program and its state; on a database
// without the schema none is applied.
func (s *Store) migrations(ctx context.Context) ([]Migration, error) {
	p, done, err := s.provider()
	if err != nil {
		return nil, fmt.Errorf("prepare migrations: %w", err)
	}
	defer func() { _ = done() }()
	applied, err := s.schemaVersion(ctx)
	if err != nil {
		return nil, err
	}
	var all []Migration
	for _, source := range p.ListSources() {
		all = append(all, Migration{Version: source.Version, Name: source.Path, Applied: source.Version <= applied})
	}
	return all, nil
}

// schemaVersion returns the highest applied migration, 0 when there is none.
func (s *Store) schemaVersion(ctx context.Context) (int64, error) {
	var there bool
	err := s.pool.QueryRow(ctx, `select pg_catalog.to_regclass('pushwatch.schema_version') is not null`).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	var version int64
	err = s.pool.QueryRow(ctx, `select coalesce(max(version_id), 0) from pushwatch.schema_version where is_applied`).Scan(&version)
	if err != nil {
		return 0, fmt.Errorf("read the schema's version: %w", err)
	}
	return version, nil
}

func (s *Store) verifySchema(ctx context.Context) error {
	all, err := s.migrations(ctx)
	if err != nil {
		return err
	}
	version, err := s.schemaVersion(ctx)
	if err != nil {
		return err
	}
	if newest := all[len(all)-1].Version; version > newest {
		return &SetupError{Problem: fmt.Sprintf("schema is at version %d, this program knows %d: "+
			"run a newer pushwatch", version, newest)}
	}
	if n := pending(all); n > 0 {
		return &SetupError{Problem: s.config.behind(n)}
	}
	return nil
}

// behind says that n migrations are pending, and what is still left to do about it.
func (c Config) behind(n int) string {
	what := fmt.Sprintf("%d migrations are pending", n)
	if n == 1 {
		what = "1 migration is pending"
	}
	if c.VerifyOnly {
		return what + ": run 'pushwatch migrate up', or set postgres.migrate: auto"
	}
	return what + ": run 'pushwatch migrate up', or start 'pushwatch run'"
}

func pending(all []Migration) int {
	n := 0
	for _, m := range all {
		if !m.Applied {
			n++
		}
	}
	return n
}
