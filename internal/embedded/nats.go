package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsReady   = 10 * time.Second
	defaultPort = 4222
	portsTried  = 200
)

// NATSConfig says where the in-process NATS server keeps its data.
type NATSConfig struct {
	// Dir is a data directory that the caller holds with OpenDir.
	Dir string
	// Port is the wanted one and no other; 0: 4222, or the next free one; -1: any.
	Port int
	// Logger hears the server's warnings and errors; nil: nobody.
	Logger *slog.Logger
}

// NATS is a NATS server with JetStream inside this process. Its methods may be
// called from any goroutine.
type NATS struct {
	config NATSConfig
	server *server.Server
	token  string
	limit  int64
	port   int
	store  *os.File // its directory, held open so that none made later can pass for it
}

// StartNATS starts the server and returns when it takes connections. It listens
// on the loopback alone, asks for a token that is made once and kept in the
// directory, and syncs every message before it acknowledges it. A write that
// failed stays with the server until it is stopped and started again: with the
// Port of the old one its clients find the new one.
func StartNATS(config NATSConfig) (*NATS, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	store := filepath.Join(config.Dir, "nats")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, fmt.Errorf("NATS directory: %w", err)
	}
	token, err := keptToken(filepath.Join(store, "token"))
	if err != nil {
		return nil, fmt.Errorf("NATS token: %w", err)
	}
	limit, err := keptLimit(store)
	if err != nil {
		return nil, fmt.Errorf("size of the NATS store: %w", err)
	}
	n := &NATS{config: config, token: token, limit: limit}
	first, last := config.Port, config.Port
	if config.Port == 0 {
		first, last = defaultPort, defaultPort+portsTried-1
	}
	for port := first; port <= last; port++ {
		err := n.startOn(port, store, config.Logger)
		if err == nil {
			return n, nil
		}
		// Somebody may take the port after we looked; the next one is tried then.
		if port < 0 || free(port) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("NATS server: no free port from %d to %d on 127.0.0.1", first, last)
}

func (n *NATS) startOn(port int, store string, log *slog.Logger) error {
	if port >= 0 && !free(port) { // a start costs a recovery of the store
		return fmt.Errorf("NATS server: port %d is taken", port)
	}
	return n.launch(port, store, &serverVoice{log: log})
}

func (n *NATS) launch(port int, store string, voice *serverVoice) error {
	s, err := server.NewServer(n.options(port, store))
	if err != nil {
		return fmt.Errorf("NATS server: %w", err)
	}
	s.SetLoggerV2(voice, false, false, false)
	s.Start()
	reason := voice.lastWords()
	if reason == "" && !s.ReadyForConnections(natsReady) {
		reason = fmt.Sprintf("not ready within %s", natsReady)
	}
	if reason == "" {
		if n.store, err = os.Open(s.JetStreamConfig().StoreDir); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("NATS server on port %d: %s", port, reason)
	}
	n.server = s
	if addr, ok := s.Addr().(*net.TCPAddr); ok {
		n.port = addr.Port // a stopped server has no address to ask for
	}
	return nil
}

func (n *NATS) options(port int, store string) *server.Options {
	return &server.Options{
		ServerName: "pushwatch", Host: "127.0.0.1", Port: port, Authorization: n.token,
		JetStream: true, StoreDir: store, SyncAlways: true,
		// Explicit: a limit that the server computes is met as a full disk.
		JetStreamMaxStore: n.limit, JetStreamMaxMemory: 64 << 20,
		NoSigs: true, NoLog: true, DisableShortFirstPing: true,
	}
}

// URL returns the server's address with its token, which is a secret.
func (n *NATS) URL() string {
	return (&url.URL{Scheme: "nats", User: url.User(n.token), Host: n.server.Addr().String()}).String()
}

// Address returns the server's address without its token, for logs and people.
func (n *NATS) Address() string { return "nats://" + n.server.Addr().String() }

// Port returns the port that the server listens on.
func (n *NATS) Port() int { return n.port }

// StreamMaxBytes returns how many bytes the one stream may take: 80 % of the
// store, so that a full stream is refused cleanly before the store is.
func (n *NATS) StreamMaxBytes() int64 { return n.limit / 5 * 4 }

// StreamMaxBytes returns the StreamMaxBytes of the server that runs in a data
// directory; see Running.
func StreamMaxBytes(dir string) (int64, error) {
	limit, err := keptLimit(filepath.Join(dir, "nats"))
	return limit / 5 * 4, err
}

// Healthy returns nil while JetStream takes messages, else why not. A write that
// failed, say for a full disk, is reported until the server is started again.
func (n *NATS) Healthy() error {
	if !n.server.Running() || !n.server.JetStreamEnabled() {
		return errors.New("NATS server: JetStream does not run")
	}
	// The server goes on writing into deleted files, beside new ones in a directory
	// that it makes again, and calls that healthy.
	if err := n.storeGone(); err != nil {
		return fmt.Errorf("NATS server: its store is gone: %w", err)
	}
	if status := n.server.Healthz(nil); status.Status != "ok" {
		return fmt.Errorf("NATS server: %s", status.Error)
	}
	return nil
}

func (n *NATS) storeGone() error {
	began, err := n.store.Stat()
	if err != nil {
		return err
	}
	found, err := os.Stat(n.store.Name())
	if err == nil && !os.SameFile(began, found) {
		err = fmt.Errorf("%s was made again", n.store.Name())
	}
	return err
}

// Restart stops the server and returns one on the same port, with the same token
// and limit, so that its clients go on by themselves: also when the whole store is
// gone, token and all. After an error there is no server, and Restart of the same
// NATS tries again.
func (n *NATS) Restart() (*NATS, error) {
	port := n.Port()
	n.Stop()
	store := filepath.Join(n.config.Dir, "nats")
	if err := os.MkdirAll(store, 0o700); err != nil {
		return nil, fmt.Errorf("NATS directory: %w", err)
	}
	// A crash between the two files makes one of them anew at the next start.
	for name, text := range map[string]string{"token": n.token, "max-bytes": strconv.FormatInt(n.limit, 10)} {
		path := filepath.Join(store, name)
		if _, err := os.Stat(path); err == nil {
			continue
		}
		if err := writeFile(path, text+"\n"); err != nil {
			return nil, fmt.Errorf("NATS server: keep %s: %w", name, err)
		}
	}
	again := &NATS{config: n.config, token: n.token, limit: n.limit}
	if err := again.startOn(port, store, n.config.Logger); err != nil {
		return nil, err
	}
	return again, nil
}

// Stop ends the server and returns when everything is on disk.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
	_ = n.store.Close() // nothing was written to it
}

func free(port int) bool {
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	return err == nil && listener.Close() == nil
}
