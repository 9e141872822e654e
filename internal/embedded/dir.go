package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// layoutVersion changes when an older pushwatch must not use a newer directory.
const layoutVersion = 1

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
	// Path is absolute and without symbolic links, as the servers' processes see it.
	Path string

	lock      *os.File
	throwAway bool
}

// OpenDir makes the directory if need be, for this user alone, and locks it for
// the life of this process: the kernel lets go of the lock however the process
// ends, so there is no stale one. An *InUseError says that another process holds
// it; a directory that another user made, or that another version of pushwatch
// laid out, is refused.
func OpenDir(path string) (*Dir, error) {
	path, err := makeDir(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := usable(path); err != nil {
		return nil, err
	}
	lock, err := lockFile(path, os.O_CREATE)
	if err != nil {
		return nil, err
	}
	d := &Dir{Path: path, lock: lock}
	if err := d.take(); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), lock.Close())
	}
	return d, nil
}

func makeDir(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// lockFile opens and locks the lock file of a data directory.
func lockFile(path string, flags int) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_RDWR|syscall.O_NOFOLLOW|flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	// Programs that we start do not inherit the lock: Go opens with O_CLOEXEC.
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	defer func() { _ = lock.Close() }()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	return nil, &InUseError{Path: path, PID: firstNumber(lock.Name())}
}

// take notes who holds the directory, and how it is laid out.
func (d *Dir) take() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return err
	}
	version := filepath.Join(d.Path, "version")
	if _, err := os.Stat(version); errors.Is(err, os.ErrNotExist) {
		return writeFile(version, strconv.Itoa(layoutVersion)+"\n")
	}
	return nil
}

// Close lets another process use the directory, and removes a throw-away one. The
// servers must have been stopped.
func (d *Dir) Close() error {
	var err error
	if d.throwAway {
		err = discard(d.Path)
	}
	return errors.Join(err, d.lock.Close())
}

// WriteConnectEnv keeps the addresses of both servers in connect.env, readable by
// this user alone, for psql and nats in a shell that reads it with "."; an empty
// address is left out. It returns the file's path.
func (d *Dir) WriteConnectEnv(databaseURL, natsURL string) (string, error) {
	path := filepath.Join(d.Path, "connect.env")
	var text strings.Builder
	fmt.Fprintf(&text, "# written by pushwatch at every start; in a shell: . %s\n", shellQuote(path))
	for _, line := range []struct{ name, value string }{{"DATABASE_URL", databaseURL}, {"NATS_URL", natsURL}} {
		if line.value != "" {
			fmt.Fprintf(&text, "%s=%s\nexport %s\n", line.name, shellQuote(line.value), line.name)
		}
	}
	if err := writeFile(path, text.String()); err != nil {
		return "", fmt.Errorf("write connect.env: %w", err)
	}
	return path, nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// writeFile puts a small file, readable by this user alone, in place at once: if
// we crash, the old content or the new is there, never half of it.
func writeFile(path, text string) error {
	fresh, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = fresh.WriteString(text)
	err = errors.Join(err, fresh.Sync(), fresh.Close())
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// firstNumber returns the number in the first line of a file, 0 when there is none.
func firstNumber(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return n
}
