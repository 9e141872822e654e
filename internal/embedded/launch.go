package embedded

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	askTimeout = 2 * time.Second
	// silence is how long a starting server may say nothing at all. One that says
	// that it starts, which it does all through a recovery, is waited for.
	silence = 30 * time.Second
	// remnants is how long backends may outlive a killed server; they see its end
	// when their statement does.
	remnants = 15 * time.Second
)

// settings are given on the command line, which beats the cluster's own files.
func (p *Postgres) settings() []string {
	settings := []string{
		"listen_addresses=", "port=5432", "unix_socket_directories=" + quoteSetting(p.sockets), "unix_socket_permissions=0700",
		"fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"max_connections=60", "shared_buffers=64MB", "max_wal_size=512MB", "jit=off", "timezone=UTC", "log_timezone=UTC",
		// What the outbox leaves behind in a minute of full traffic is half a gigabyte. A worker
		// begins with other tables, which grow as fast, and keeps to each for as long as half a
		// minute: the outbox comes soon if others can begin meanwhile.
		"autovacuum_naptime=3s", "autovacuum_max_workers=6",
		"logging_collector=off", "log_checkpoints=off",
		// Statements and their details may hold what customers wrote.
		"log_error_verbosity=terse", "log_min_error_statement=panic",
	}
	if p.config.UnsafeNoFsync {
		settings = append(settings, "fsync=off", "full_page_writes=off", "max_connections=400") // the last one counts
	}
	return settings
}

// quoteSetting quotes an element of a list of paths.
func quoteSetting(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// launch starts the server. Backends of a killed one may still hold the cluster's
// shared memory; PostgreSQL then refuses to start, which is what keeps two servers
// off one cluster, and we try again until they are gone.
func (p *Postgres) launch(ctx context.Context) error {
	patience := time.NewTimer(remnants)
	defer patience.Stop()
	for {
		err := p.launchOnce(ctx)
		if err == nil || !strings.Contains(err.Error(), "pre-existing shared memory block") {
			return err
		}
		select {
		case <-patience.C:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(lookAgain):
		}
	}
}

func (p *Postgres) launchOnce(ctx context.Context) error {
	log, err := openLog(p.logFile)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{"-D", p.cluster}
	for _, setting := range p.settings() {
		args = append(args, "-c", setting)
	}
	// Not bound to ctx: the server outlives the start, and is ended by Stop.
	cmd := p.account.command(context.WithoutCancel(ctx), p.cluster, p.programs.path("postgres"), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if p.postmaster, err = spawn(cmd, p.config.EndWithUs); err != nil {
		return fmt.Errorf("start PostgreSQL as user %s: %w", p.account.name, err)
	}
	return p.awaitReady(ctx)
}

func (p *Postgres) awaitReady(ctx context.Context) error {
	patience := time.NewTimer(silence)
	defer patience.Stop()
	for {
		heard, err := p.ask(ctx, p.sockets)
		switch {
		case heard.ready && sameFile(heard.dataDir, p.cluster):
			return nil
		case heard.starting:
			patience.Reset(silence)
		}
		select {
		case <-p.postmaster.done:
			return p.obituary("PostgreSQL ended at its start")
		case <-ctx.Done():
			return fmt.Errorf("wait for PostgreSQL: %w", errors.Join(ctx.Err(), err))
		case <-patience.C:
			return p.obituary(fmt.Sprintf("PostgreSQL does not answer for %s: %v", silence, err))
		case <-time.After(lookAgain):
		}
	}
}

// reply is what a server on a socket told.
type reply struct {
	ready    bool
	dataDir  string // of a ready one
	starting bool   // it lives but takes nobody: it starts, recovers or stops
}

// ask asks the server that listens in a socket directory for its data directory.
func (p *Postgres) ask(ctx context.Context, sockets string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL(sockets))
	if refusal := (*pgconn.PgError)(nil); errors.As(err, &refusal) {
		return reply{starting: refusal.Code == "57P03"}, err
	}
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = conn.Close(ctx) }()
	var dir string
	if err := conn.QueryRow(ctx, `show data_directory`).Scan(&dir); err != nil {
		return reply{}, err
	}
	return reply{ready: true, dataDir: dir}, nil
}
