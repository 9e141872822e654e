package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// PostgresConfig says where a private cluster lives.
type PostgresConfig struct {
	// Dir is a data directory that the caller holds with OpenDir. Empty makes a
	// throw-away cluster in the system's temporary directory, removed by Stop, whose
	// server also ends when this process is killed (on Linux).
	Dir string
	// EndWithUs gives the server of Dir the same end; on other systems it does
	// nothing. Without it a server outlives a killed process, and the next start
	// adopts it.
	EndWithUs bool
	// UnsafeNoFsync gives up durability for speed, and takes the sessions of many
	// daemons. For tests alone.
	UnsafeNoFsync bool
	// Logger hears of adoptions and of servers that had to be ended; nil: nobody.
	Logger *slog.Logger

	places []string // instead of usualPlaces, in tests
}

// Postgres is a running private PostgreSQL server. Its methods may be called from
// any goroutine.
type Postgres struct {
	config   PostgresConfig
	account  account
	programs programs
	cluster  string // PostgreSQL's data directory
	sockets  string // the directory of its socket
	logFile  string
	temp     *Dir // of a throw-away cluster

	postmaster *postmaster
	tending    sync.WaitGroup
	stopOnce   sync.Once
	stopErr    error
}

// StartPostgres starts the cluster's server, making the cluster first if there is
// none. A server that a killed process left on it is adopted when it answers, else
// ended. It returns when the server answers; recovery after a crash takes as long
// as it takes, or until ctx ends. Stop must be called in any case, also when the
// server died; a start after that gives a server with the same URL.
//
// It calls IgnorePG: an embedded server is nobody else's.
func StartPostgres(ctx context.Context, config PostgresConfig) (*Postgres, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.places == nil {
		config.places = usualPlaces()
	}
	if err := IgnorePG(); err != nil {
		return nil, err
	}
	p := &Postgres{config: config}
	if config.Dir == "" {
		temp, err := OpenTempDir(ctx)
		if err != nil {
			return nil, err
		}
		p.temp, p.config.Dir, p.config.EndWithUs = temp, temp.Path, true
	}
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
	}
	p.tending.Go(p.tendLog)
	return p, nil
}

// IgnorePG removes every PG* variable from this process's environment. They are
// meant for servers elsewhere, and pgx would heed them beside the URL of an
// embedded one: a PGPASSWORD, or certificates that cannot be read.
func IgnorePG() error {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "PG") {
			if err := os.Unsetenv(name); err != nil {
				return fmt.Errorf("ignore %s: %w", name, err)
			}
		}
	}
	return nil
}

func (p *Postgres) start(ctx context.Context) error {
	dir, err := filepath.EvalSymlinks(p.config.Dir)
	if err != nil {
		return fmt.Errorf("PostgreSQL's directory: %w", err)
	}
	p.cluster, p.logFile = filepath.Join(dir, "postgres"), filepath.Join(dir, "postgres.log")
	version, err := clusterVersion(p.cluster)
	if err != nil {
		return err
	}
	if p.account, err = accountFor(p.cluster); err != nil {
		return err
	}
	if p.programs, err = findPrograms(ctx, p.account, p.config.places, version); err != nil {
		return err
	}
	if err := p.account.admit(ctx, dir); err != nil {
		return err
	}
	if version == 0 {
		if err := p.initialise(ctx); err != nil {
			return err
		}
	}
	if p.sockets, err = p.socketDir(ctx); err != nil {
		return fmt.Errorf("PostgreSQL's socket: %w", err)
	}
	if adopted, err := p.adopt(ctx); err != nil || adopted {
		return err
	}
	return p.launch(ctx)
}

// URL returns the address of the server's database, for pgx and psql.
func (p *Postgres) URL() string { return databaseURL(p.sockets) }

func databaseURL(sockets string) string {
	return (&url.URL{Scheme: "postgres", User: url.User("pushwatch"), Path: "/postgres",
		RawQuery: url.Values{"host": {sockets}, "sslmode": {"disable"}}.Encode()}).String()
}

// Done is closed when the server has ended, by Stop or by itself.
func (p *Postgres) Done() <-chan struct{} { return p.postmaster.done }

// Alive returns nil while the server's process runs, else why not.
func (p *Postgres) Alive() error {
	if !p.postmaster.ended() {
		return nil
	}
	return p.obituary("PostgreSQL has ended")
}

// Probe returns nil when the server answers within ctx, or 2 s; a refusal, as
// while it recovers, is an answer.
func (p *Postgres) Probe(ctx context.Context) error {
	if err := p.Alive(); err != nil {
		return err
	}
	_, err := p.ask(ctx, p.sockets)
	if refusal := (*pgconn.PgError)(nil); err == nil || errors.As(err, &refusal) {
		return nil
	}
	return fmt.Errorf("PostgreSQL does not answer: %w", err)
}

// Restart ends the server, whatever state it is in, and returns one with the same
// URL on the same data. After an error Restart of the same Postgres tries again.
// It is not for throw-away clusters, which Stop removes.
func (p *Postgres) Restart(ctx context.Context) (*Postgres, error) {
	if p.temp != nil {
		return nil, errors.New("a throw-away PostgreSQL is not started again")
	}
	if err := p.Stop(ctx); err != nil {
		// The start looks for what is left on the cluster and ends it, or says why not.
		p.config.Logger.Warn("PostgreSQL did not end", "error", err)
	}
	return StartPostgres(ctx, p.config)
}

// obituary is an error with the end of the server's log.
func (p *Postgres) obituary(what string) error {
	text, err := logEnd(p.logFile, 4096)
	if err != nil {
		return errors.Join(errors.New(what), err)
	}
	return fmt.Errorf("%s (see %s): %s", what, p.logFile, lastLines(text))
}

// Stop ends the server and returns when it is gone: sessions are cut off and
// everything is written out, but when ctx ends first, or after 10 s, the server is
// ended at once and the next start recovers. A throw-away cluster is removed. A
// second call returns what the first did.
func (p *Postgres) Stop(ctx context.Context) error {
	p.stopOnce.Do(func() {
		if p.postmaster != nil {
			p.stopErr = p.postmaster.end(ctx)
		}
		if p.stopErr == nil {
			p.tending.Wait()
		}
		if p.temp != nil {
			p.stopErr = errors.Join(p.stopErr, p.temp.Close())
		}
	})
	return p.stopErr
}

// tendLog keeps the log bounded until the server has ended.
func (p *Postgres) tendLog() {
	ticker := time.NewTicker(logLook)
	defer ticker.Stop()
	for {
		select {
		case <-p.postmaster.done:
			return
		case <-ticker.C:
			if err := cutLog(p.logFile, logLimit, logKept); err != nil {
				p.config.Logger.Warn("PostgreSQL's log grows", "error", err)
			}
		}
	}
}
