package embedded

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	natsReady    = 10 * time.Second
	defaultPort  = 4222
	portsTried   = 100
	maxStore     = 64 << 30
	minStore     = 64 << 20
	streamShare  = 0.8 // of the store's limit, so that a full stream is refused before a full disk
	diskShare    = 0.8 // of the free space, for the store's limit
	maxPortRaces = 5
)

// NATSConfig says where the in-process NATS server keeps its data.
type NATSConfig struct {
	Dir    string
	Port   int // wanted; 0: 4222, or the next free one
	Logger *slog.Logger
}

// NATS is a NATS server with JetStream inside this process.
type NATS struct {
	server *server.Server
	token  string
	limit  int64
}

// StartNATS starts the server and returns when it takes connections. It listens
// on the loopback alone, asks for a token that is made once and kept in the
// directory, and syncs every message before it acknowledges it.
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
		return nil, err
	}
	limit, err := storeLimit(store)
	if err != nil {
		return nil, err
	}
	var last error
	for range maxPortRaces {
		port, err := freePort(config.Port)
		if err != nil {
			return nil, err
		}
		n := &NATS{token: token, limit: limit}
		if last = n.start(store, port, config.Logger); last == nil {
			return n, nil
		}
	}
	return nil, last
}

func (n *NATS) start(store string, port int, log *slog.Logger) error {
	s, err := server.NewServer(&server.Options{
		ServerName: "pushwatch", Host: "127.0.0.1", Port: port, Authorization: n.token,
		JetStream: true, StoreDir: store, JetStreamMaxStore: n.limit, SyncAlways: true,
		NoSigs: true, NoLog: true, DisableShortFirstPing: true,
	})
	if err != nil {
		return fmt.Errorf("NATS server: %w", err)
	}
	s.SetLoggerV2(quiet{log}, false, false, false)
	s.Start()
	if !s.ReadyForConnections(natsReady) {
		s.Shutdown()
		s.WaitForShutdown()
		return fmt.Errorf("NATS server: not ready on port %d after %s", port, natsReady)
	}
	n.server = s
	return nil
}

// URL returns the server's address with its token.
func (n *NATS) URL() string {
	return (&url.URL{Scheme: "nats", User: url.User(n.token), Host: n.server.Addr().String()}).String()
}

// Port returns the port that the server listens on.
func (n *NATS) Port() int {
	if addr, ok := n.server.Addr().(*net.TCPAddr); ok {
		return addr.Port
	}
	return 0
}

// StreamMaxBytes returns how large one stream may grow: less than the store, and
// the store less than the disk.
func (n *NATS) StreamMaxBytes() int64 { return int64(float64(n.limit) * streamShare) }

// Healthy returns nil while JetStream takes messages. A write that failed, say
// for a full disk, stays with the server until it is restarted.
func (n *NATS) Healthy() error {
	if !n.server.Running() {
		return errors.New("NATS server has ended")
	}
	status := n.server.Healthz(&server.HealthzOptions{})
	if status.Status != "ok" {
		return fmt.Errorf("NATS server: %s", status.Error)
	}
	return nil
}

// Stop ends the server and returns when everything is on disk.
func (n *NATS) Stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

// keptToken returns the token in path, made on first use.
func keptToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(text))) == 48 {
		return strings.TrimSpace(string(text)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("NATS token: %w", err)
	}
	random := make([]byte, 24)
	if _, err := rand.Read(random); err != nil {
		return "", fmt.Errorf("NATS token: %w", err)
	}
	token := hex.EncodeToString(random)
	if err := os.WriteFile(path, []byte(token+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("NATS token: %w", err)
	}
	return token, nil
}

// storeLimit sets the store's limit explicitly: one that the server computes
// itself does not grow with the disk, and is met as a disk error.
func storeLimit(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	free := int64(float64(fs.Bavail) * float64(fs.Bsize) * diskShare)
	return min(max(free, minStore), maxStore), nil
}

// freePort returns wanted, or the first free port from 4222 on.
func freePort(wanted int) (int, error) {
	first, tried := defaultPort, portsTried
	if wanted != 0 {
		first, tried = wanted, 1
	}
	var err error
	for port := first; port < first+tried; port++ {
		var listener net.Listener
		listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("no free port for NATS: %w", err)
}

// quiet passes what the server warns of to slog and drops the rest.
type quiet struct{ log *slog.Logger }

func (q quiet) Noticef(string, ...any) {}
func (q quiet) Debugf(string, ...any)  {}
func (q quiet) Tracef(string, ...any)  {}
func (q quiet) Warnf(format string, args ...any) {
	q.log.Warn("NATS server", "message", fmt.Sprintf(format, args...))
}
func (q quiet) Errorf(format string, args ...any) {
	q.log.Error("NATS server", "message", fmt.Sprintf(format, args...))
}
func (q quiet) Fatalf(format string, args ...any) {
	q.log.Error("NATS server", "message", fmt.Sprintf(format, args...))
}
