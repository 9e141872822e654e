package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/store"
)

// rig is the servers of a run and what the measurements share. It belongs to one
// goroutine.
type rig struct {
	options
	now      func() time.Time
	dir      *embedded.Dir
	postgres *embedded.Postgres
	admin    *pgxpool.Pool
	lazy     *broker // syncs every two minutes, as a NATS server does by itself
	strict   *broker // syncs before it acknowledges: the daemon's own server

	version    string             // of PostgreSQL
	made       int                // databases and streams
	repetition int                // 0: warming up
	busy       map[string][]cores // of timed parts

	relayed   *population // for later events, nil before it is needed
	remembers *memories   // events that wait, likewise
	history   string      // database of a company with a history, likewise; see endtoend.go
}

const (
	emptyDatabase = "bench_empty" // migrated, and nothing else
	stopTimeout   = 30 * time.Second
)

// openRig starts the servers. Close must be called.
func openRig(ctx context.Context, o options, now func() time.Time) (r *rig, err error) {
	r = &rig{options: o, now: now, busy: map[string][]cores{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close(ctx))
		}
	}()
	if r.dir, err = embedded.OpenTempDir(ctx); err != nil {
		return nil, err
	}
	if r.postgres, err = embedded.StartPostgres(ctx, embedded.PostgresConfig{Dir: r.dir.Path, EndWithUs: true}); err != nil {
		return nil, err
	}
	if r.admin, err = pgxpool.New(ctx, r.postgres.URL()); err != nil {
		return nil, err
	}
	if err = r.checkPostgres(ctx); err != nil {
		return nil, err
	}
	if _, err = r.admin.Exec(ctx, "create database "+emptyDatabase); err != nil {
		return nil, err
	}
	if _, err = store.Migrate(ctx, store.Config{URL: r.databaseURL(emptyDatabase)}, true); err != nil {
		return nil, err
	}
	for _, start := range []struct {
		to   **broker
		name string
	}{{&r.lazy, serveLazily}, {&r.strict, serveStrictly}} {
		dir := filepath.Join(r.dir.Path, start.name)
		if err = os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		if *start.to, err = startBroker(ctx, start.name, dir); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// checkPostgres refuses a server that is fast because it forgets.
func (r *rig) checkPostgres(ctx context.Context) error {
	var fsync, commit string
	const q = `select current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')`
	if err := r.admin.QueryRow(ctx, q).Scan(&r.version, &fsync, &commit); err != nil {
		return fmt.Errorf("ask PostgreSQL for its settings: %w", err)
	}
	if fsync != "on" || commit != "on" {
		return fmt.Errorf("PostgreSQL has fsync %s and synchronous_commit %s, both must be on", fsync, commit)
	}
	return nil
}

func (r *rig) databaseURL(name string) string {
	u, err := url.Parse(r.postgres.URL())
	if err != nil {
		panic(err) // the server's own address
	}
	u.Path = "/" + name
	return u.String()
}

// clone makes a database with everything that is in template.
func (r *rig) clone(ctx context.Context, template string) (name string, err error) {
	r.made++
	name = fmt.Sprintf("bench_%d", r.made)
	if _, err := r.admin.Exec(ctx, fmt.Sprintf("create database %s template %s", name, template)); err != nil {
		return "", fmt.Errorf("clone database %s: %w", template, err)
	}
	return name, nil
}

func (r *rig) drop(ctx context.Context, name string) error {
	_, err := r.admin.Exec(ctx, "drop database if exists "+name+" with (force)")
	return err
}

// connect returns a single connection, for what a hand-written program does.
func (r *rig) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	return pgx.Connect(ctx, r.databaseURL(name))
}

// close ends the servers and removes what they kept.
func (r *rig) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	var errs []error
	if r.relayed != nil {
		errs = append(errs, r.relayed.close(ctx))
	}
	for _, b := range []*broker{r.lazy, r.strict} {
		if b != nil {
			errs = append(errs, b.stop())
		}
	}
	if r.admin != nil {
		r.admin.Close()
	}
	if r.postgres != nil {
		errs = append(errs, r.postgres.Stop(ctx))
	}
	if r.dir != nil {
		errs = append(errs, r.dir.Close())
	}
	return errors.Join(errs...)
}
