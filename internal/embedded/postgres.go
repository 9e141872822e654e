package embedded

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	readyTimeout = 30 * time.Second
	stopTimeout  = 5 * time.Second // for each of the signals
	probeTimeout = 3 * time.Second
	lookAgain    = 50 * time.Millisecond
)

// PostgresConfig says where a private cluster lives.
type PostgresConfig struct {
	// Dir is where cluster, log and (path permitting) socket are kept. Empty makes
	// a throw-away cluster in the system's temporary directory, removed by Stop.
	Dir string
	// UnsafeNoFsync gives up durability for speed. For tests alone.
	UnsafeNoFsync bool
}

// Postgres is a running private PostgreSQL server.
type Postgres struct {
	config  PostgresConfig
	account account
	cluster string // PostgreSQL's data directory
	sockets string
	logFile string
	pid     int
	exited  chan struct{} // closed when the server has ended; nil for an adopted one
}

// StartPostgres starts the cluster's server, making the cluster first if there
// is none. A server that a killed process left on it is adopted when it answers,
// else ended. It returns when the server answers.
func StartPostgres(ctx context.Context, config PostgresConfig) (*Postgres, error) {
	p, err := layout(config)
	if err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		if config.Dir == "" {
			err = errors.Join(err, p.Stop(context.WithoutCancel(ctx)))
		}
		return nil, err
	}
	return p, nil
}

func layout(config PostgresConfig) (*Postgres, error) {
	who, err := findAccount()
	if err != nil {
		return nil, err
	}
	base := config.Dir
	if base == "" {
		if base, err = os.MkdirTemp("", "pushwatch-pg-"); err != nil {
			return nil, fmt.Errorf("throw-away PostgreSQL: %w", err)
		}
	} else {
		base = filepath.Join(base, "postgres")
	}
	if err := errors.Join(who.own(base), who.canEnter(base)); err != nil {
		return nil, fmt.Errorf("PostgreSQL's directory: %w", err)
	}
	p := &Postgres{config: config, account: who, cluster: filepath.Join(base, "data"), sockets: base, logFile: filepath.Join(base, "log")}
	// A socket's path is at most 107 bytes. A longer one goes to the temporary
	// directory under a name that the next start finds again.
	if len(filepath.Join(base, ".s.PGSQL.5432")) > 100 {
		sum := sha256.Sum256([]byte(base))
		p.sockets = filepath.Join(os.TempDir(), fmt.Sprintf("pushwatch-%x", sum[:8]))
		if err := who.own(p.sockets); err != nil {
			return nil, fmt.Errorf("PostgreSQL's socket directory: %w", err)
		}
	}
	return p, nil
}

// URL returns the address of the server's database.
func (p *Postgres) URL() string {
	return (&url.URL{Scheme: "postgres", User: url.User("pushwatch"), Path: "/postgres",
		RawQuery: url.Values{"host": {p.sockets}, "sslmode": {"disable"}}.Encode()}).String()
}

func (p *Postgres) start(ctx context.Context) error {
	want, err := p.version()
	if err != nil {
		return err
	}
	bin, _, err := findPrograms(want)
	if err != nil {
		return err
	}
	if want == 0 {
		if err := p.initialise(ctx, bin); err != nil {
			return err
		}
	}
	adopted, err := p.adopt(ctx)
	if err != nil || adopted {
		return err
	}
	return p.launch(ctx, bin)
}

// version returns the major version that made the cluster, 0 when there is none.
func (p *Postgres) version() (int, error) {
	text, err := os.ReadFile(filepath.Join(p.cluster, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the cluster's version: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("cluster %s has version %q: not a cluster of PostgreSQL", p.cluster, text)
	}
	return version, nil
}

// initialise makes the cluster beside its place and then moves it there: if we
// crash before the move, the next start finds no cluster and begins again.
func (p *Postgres) initialise(ctx context.Context, bin string) error {
	fresh := p.cluster + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	args := []string{"-D", fresh, "-U", "pushwatch", "-A", "trust", "-E", "UTF8", "--locale=C"}
	if p.config.UnsafeNoFsync {
		args = append(args, "--no-sync")
	}
	cmd := p.command(ctx, bin, "initdb", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastLines(out.Bytes()))
	}
	if err := os.Rename(fresh, p.cluster); err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	return nil
}

// command prepares a program of PostgreSQL: under the account, in a directory
// that it can read, without the caller's PG* and locale.
func (p *Postgres) command(ctx context.Context, bin, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, name), args...)
	cmd.Dir = filepath.Dir(p.cluster)
	cmd.SysProcAttr = p.account.attributes()
	cmd.Env = []string{"LC_ALL=C", "PATH=" + bin + ":/usr/bin:/bin", "TZ=UTC"}
	return cmd
}

func (p *Postgres) launch(ctx context.Context, bin string) error {
	if err := rotate(p.logFile); err != nil {
		return err
	}
	log, err := os.OpenFile(p.logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("PostgreSQL's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	settings := map[string]string{
		"listen_addresses": "", "unix_socket_directories": p.sockets, "unix_socket_permissions": "0700",
		"max_connections": "60", "shared_buffers": "64MB", "synchronous_commit": "on", "fsync": "on", "timezone": "UTC",
		"log_checkpoints": "off",
	}
	if p.config.UnsafeNoFsync {
		settings["fsync"], settings["full_page_writes"] = "off", "off"
	}
	args := []string{"-D", p.cluster}
	for name, value := range settings {
		args = append(args, "-c", name+"="+value)
	}
	// Not bound to ctx: the server outlives the start's deadline, and is ended by Stop.
	cmd := p.command(context.WithoutCancel(ctx), bin, "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	p.pid, p.exited = cmd.Process.Pid, make(chan struct{})
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // how it ended stands in its log
	}()
	return p.awaitReady(ctx)
}

func (p *Postgres) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		_, err := p.probe(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			text, _ := os.ReadFile(p.logFile)
			return fmt.Errorf("PostgreSQL ended at its start: %s", lastLines(text))
		case <-ctx.Done():
			return fmt.Errorf("PostgreSQL does not answer: %w", errors.Join(err, p.Stop(context.WithoutCancel(ctx))))
		case <-time.After(lookAgain):
		}
	}
}

// probe asks the server on our socket for its data directory.
func (p *Postgres) probe(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.URL())
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(ctx) }()
	var dir string
	err = conn.QueryRow(ctx, `show data_directory`).Scan(&dir)
	return dir, err
}

// Alive returns nil while the server's process runs.
func (p *Postgres) Alive() error {
	if p.exited != nil {
		select {
		case <-p.exited:
			return errors.New("PostgreSQL has ended")
		default:
			return nil
		}
	}
	if !p.serves(p.pid) {
		return errors.New("PostgreSQL has ended")
	}
	return nil
}

// Stop ends the server, letting statements in flight fail, and returns when it
// is gone. A throw-away cluster is removed.
func (p *Postgres) Stop(ctx context.Context) error {
	var err error
	if p.pid != 0 {
		err = p.end(ctx, p.pid, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGKILL)
	}
	if p.config.Dir == "" {
		err = errors.Join(err, os.RemoveAll(filepath.Dir(p.cluster)))
		if p.sockets != filepath.Dir(p.cluster) {
			err = errors.Join(err, os.RemoveAll(p.sockets))
		}
	}
	return err
}

// end stops a server with one signal after the other: SIGINT is PostgreSQL's
// fast stop, SIGQUIT its immediate one.
func (p *Postgres) end(ctx context.Context, pid int, signals ...syscall.Signal) error {
	for _, signal := range signals {
		if !p.running(pid) {
			return nil
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop PostgreSQL (pid %d): %w", pid, err)
		}
		if p.awaitEnd(ctx, pid, stopTimeout) {
			return nil
		}
	}
	return fmt.Errorf("PostgreSQL (pid %d) does not end", pid)
}

func (p *Postgres) running(pid int) bool {
	if p.exited != nil && pid == p.pid {
		return p.Alive() == nil
	}
	return p.serves(pid)
}

func (p *Postgres) awaitEnd(ctx context.Context, pid int, bound time.Duration) bool {
	deadline := time.NewTimer(bound)
	defer deadline.Stop()
	for p.running(pid) {
		select {
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(lookAgain):
		}
	}
	return true
}

// rotate keeps PostgreSQL's log from growing for ever: one old file is kept.
func rotate(path string) error {
	const limit = 16 << 20
	info, err := os.Stat(path)
	if err != nil || info.Size() < limit {
		return nil
	}
	if err := os.Rename(path, path+".old"); err != nil {
		return fmt.Errorf("PostgreSQL's log: %w", err)
	}
	return nil
}

// lastLines returns the end of a program's output, for an error message.
func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], " | ")
}
