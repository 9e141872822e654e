package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pushwatch/pushwatch/event"
)

// Config says which database to open and how events are rendered into it.
type Config struct {
	// URL is a PostgreSQL connection string; empty takes libpq's PG* variables.
	URL string
	// VerifyOnly refuses a schema with pending migrations instead of applying them.
	VerifyOnly bool
	// LookOnly is VerifyOnly for somebody who only reads, though the configuration
	// lets a daemon apply migrations.
	LookOnly bool
	// TransactionPooler says that a pooler gives every transaction another
	// connection: no named statements, no session settings.
	TransactionPooler bool
	// SubjectPrefix stands before the subjects of events; default codat.push.
	SubjectPrefix string
	// Redacted leaves error and validation texts out of events.
	Redacted bool
	// PublishBaseline gives operations from before the first look an event each,
	// instead of none.
	PublishBaseline bool
	// MaxConns bounds the pool; default 16.
	MaxConns int32
	// Logger is told warnings; default none.
	Logger *slog.Logger
}

// Store is an open database. It is safe for concurrent use.
type Store struct {
	*Clock
	config   Config
	pool     *pgxpool.Pool
	patience time.Duration // see bounded
	instance string
}

// SetupError says that the database is reachable but not fit: too old, a
// standby, without durable commits, or with a schema that this program may not
// use. Trying again does not help; its text says what does.
type SetupError struct{ Problem string }

func (e *SetupError) Error() string { return "postgres: " + e.Problem }

// Open connects, checks that the server can keep pushwatch's promises, brings
// the schema up to date (or verifies it) and sets the clock. A *SetupError is
// final; any other error means that the server could not be reached.
func Open(ctx context.Context, config Config) (*Store, error) {
	s, err := connect(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func connect(ctx context.Context, config Config) (*Store, error) {
	if config.SubjectPrefix == "" {
		config.SubjectPrefix = event.DefaultPrefix
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	pc, err := parseURL(config.URL)
	if err != nil {
		return nil, &SetupError{Problem: err.Error()}
	}
	pc.MaxConns = 16
	if config.MaxConns > 0 {
		pc.MaxConns = config.MaxConns
	}
	params := pc.ConnConfig.RuntimeParams
	params["application_name"] = "pushwatch"
	params["timezone"] = "UTC"
	if config.TransactionPooler {
		pc.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	} else if _, told := params["jit"]; !told { // a pooler may refuse what it does not know
		params["jit"] = "off" // a batch of the outbox is estimated dear enough, and read sooner than compiled
	}
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return &Store{config: config, pool: pool, patience: defaultPatience}, nil
}

// CheckURL says what is wrong with a connection string, together with libpq's
// variables, without asking a server. Its error shows nothing of the string.
func CheckURL(url string) error {
	_, err := parseURL(url)
	return err
}

func parseURL(url string) (*pgxpool.Config, error) {
	pc, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("connection string: " + unquoted(err))
	}
	return pc, nil
}

// unquoted returns what is wrong with a connection string without the string,
// which the error shows but for what looks like a password in it: in one that
// cannot be parsed the password may be anything.
func unquoted(err error) string {
	var parsing *pgconn.ParseConfigError
	if errors.As(err, &parsing) {
		parsing.ConnString = "…"
	}
	return err.Error()
}

func (s *Store) prepare(ctx context.Context) error {
	warnings, err := s.checkServer(ctx)
	if err != nil {
		return err
	}
	for _, warning := range warnings {
		s.config.Logger.Warn("PostgreSQL", "warning", warning)
	}
	if err := s.migrate(ctx); err != nil {
		return err
	}
	const q = `select id from pushwatch.instance`
	if err := s.pool.QueryRow(ctx, q).Scan(&s.instance); err != nil {
		return fmt.Errorf("read the instance id: %w", err)
	}
	s.Clock = newClock()
	return s.SyncClock(ctx)
}

// Instance returns the eight hex digits that were made with the database and
// begin every event id.
func (s *Store) Instance() string { return s.instance }

// Ping tells whether the database accepts work now.
func (s *Store) Ping(ctx context.Context) error {
	if _, err := s.pool.Exec(ctx, `select 1`); err != nil {
		return fmt.Errorf("ask PostgreSQL: %w", err)
	}
	return nil
}

// Close ends all connections, after the statements in flight.
func (s *Store) Close() { s.pool.Close() }

// dataError reports whether PostgreSQL refused a value, not the work as a whole:
// SQLSTATE classes 22 (data exception), 23 (a constraint, but for a key that
// another look wrote first) and 54 (a limit).
func dataError(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Code == uniqueViolation {
		return false
	}
	switch pg.Code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}
