package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// throwAwayName begins the names of throw-away directories.
const throwAwayName = "pushwatch-tmp-"

// OpenTempDir makes a throw-away data directory in the system's temporary
// directory, which Close removes; PostgreSQL's user can enter it. It also removes
// those that killed processes of this user left behind.
func OpenTempDir(ctx context.Context) (*Dir, error) {
	parent := tempParent(ctx)
	sweep(parent)
	path, err := os.MkdirTemp(parent, throwAwayName)
	if err != nil {
		return nil, fmt.Errorf("throw-away directory: %w", err)
	}
	d, err := OpenDir(path)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(path))
	}
	d.throwAway = true
	return d, nil
}

// tempParent returns the temporary directory that PostgreSQL's user can enter:
// root's own TMPDIR may be closed to others.
func tempParent(ctx context.Context) string {
	who, err := accountFor("")
	if err != nil || !who.drop {
		return os.TempDir()
	}
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if who.enters(ctx, dir) {
			return dir
		}
	}
	return os.TempDir()
}

// sweep removes throw-away directories whose process is gone. One whose lock file
// names nobody yet is being made just now.
func sweep(parent string) {
	found, err := filepath.Glob(filepath.Join(parent, throwAwayName+"*"))
	if err != nil {
		return
	}
	for _, path := range found {
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || firstNumber(filepath.Join(path, "lock")) == 0 {
			continue
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Uid) != os.Geteuid() {
			continue
		}
		if lock, err := lockFile(path, 0); err == nil {
			_ = discard(path) // litter that stays is tried again by the next sweep
			_ = lock.Close()
		}
	}
}

// discard removes a directory, with the socket directory that belongs to it. A
// server that a killed process left on its cluster is ended first.
func discard(path string) error {
	cluster := filepath.Join(path, "postgres")
	if found, ok := readPIDFile(cluster); ok {
		process, err := os.FindProcess(found.pid)
		if err == nil && worksIn(found.pid, cluster) {
			hurry, cancel := context.WithCancel(context.Background())
			cancel() // nothing of it will be needed
			if err := takeOver(process).end(hurry); err != nil {
				return fmt.Errorf("remove %s: %w", path, err)
			}
		}
	}
	var err error
	if sockets, readErr := os.ReadFile(filepath.Join(path, socketNote)); readErr == nil {
		err = os.RemoveAll(strings.TrimSpace(string(sockets)))
	}
	return errors.Join(err, os.RemoveAll(path))
}
