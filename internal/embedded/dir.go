package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// DefaultDir returns where data is kept when nothing else is said:
// /var/lib/pushwatch for root, else below XDG_STATE_HOME or ~/.local/state.
func DefaultDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/lib/pushwatch", nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "pushwatch"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no data directory: give --data-dir (%w)", err)
	}
	return filepath.Join(home, ".local", "state", "pushwatch"), nil
}

// InUseError says that another process holds a data directory.
type InUseError struct {
	Path string
	PID  int // 0 when it could not be read
}

func (e *InUseError) Error() string {
	holder := "another process"
	if e.PID != 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s: stop it, or give another --data-dir", e.Path, holder)
}

// Dir is a data directory that this process alone uses.
type Dir struct {
	Path string
	lock *os.File
}

// OpenDir makes the directory if need be and locks it for the life of this
// process: the kernel lets go of the lock however the process ends, so there is
// no stale one. An *InUseError says that another process holds it.
func OpenDir(path string) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := ours(path); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		held, _ := os.ReadFile(lock.Name())
		pid, _ := strconv.Atoi(strings.TrimSpace(string(held)))
		return nil, errors.Join(&InUseError{Path: path, PID: pid}, lock.Close())
	}
	if err = lock.Truncate(0); err == nil {
		_, err = lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), lock.Close())
	}
	return &Dir{Path: path, lock: lock}, nil
}

// ours refuses a directory that another user made.
func ours(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(stat.Uid) == os.Geteuid() {
		return nil
	}
	owner := strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(owner); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("data directory %s belongs to user %s: run pushwatch as that user, or give another --data-dir", path, owner)
}

// Close lets another process use the directory.
func (d *Dir) Close() error { return d.lock.Close() }

// WriteConnectEnv keeps the addresses of both servers in connect.env, readable
// by this user alone, for psql and nats; it returns the file's path.
func (d *Dir) WriteConnectEnv(databaseURL, natsURL string) (string, error) {
	path := filepath.Join(d.Path, "connect.env")
	text := fmt.Sprintf("# set -a; . %s; set +a\nDATABASE_URL=%s\nNATS_URL=%s\n", shellQuote(path), shellQuote(databaseURL), shellQuote(natsURL))
	temporary := path + ".new"
	if err := os.WriteFile(temporary, []byte(text), 0o600); err != nil {
		return "", fmt.Errorf("write connect.env: %w", err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return "", fmt.Errorf("write connect.env: %w", err)
	}
	return path, nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
