package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CheckDir tells why OpenDir, or with postgres set StartPostgres, would refuse a
// data directory; nil: as far as can be seen they would not. It makes and changes
// nothing. That the directory is in use is no matter here.
func CheckDir(ctx context.Context, path string, postgres bool) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	var above string
	if _, err := os.Stat(path); err == nil {
		if err := usable(path); err != nil {
			return err
		}
		if path, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("data directory: %w", err)
		}
		above = filepath.Dir(path)
	} else if above, err = mayMake(path); err != nil {
		return err
	}
	if !postgres {
		return nil
	}
	who, err := accountFor(filepath.Join(path, "postgres"))
	if err != nil {
		return err
	}
	// Into the directory itself StartPostgres lets the account.
	return who.reaches(ctx, above)
}

// usable refuses a path at which a data directory cannot be, one of another user,
// and one that we do not understand.
func usable(path string) error {
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		return fmt.Errorf("data directory %s is not a directory: move it away, or give another --data-dir", path)
	}
	if owner, ok := ownerOf(path); ok && owner != os.Geteuid() {
		return fmt.Errorf("data directory %s belongs to user %s: run pushwatch as that user, or give another --data-dir",
			path, userName(owner))
	}
	version := filepath.Join(path, "version")
	if _, err := os.Stat(version); err != nil {
		return nil // OpenDir writes it
	}
	if found := firstNumber(version); found != layoutVersion {
		return fmt.Errorf("data directory %s was laid out by another version of pushwatch (%d, this one knows %d)", path, found, layoutVersion)
	}
	return nil
}

// mayMake returns the nearest directory above path that is there, in which OpenDir
// would make the rest, or says why it cannot.
func mayMake(path string) (above string, err error) {
	for above = filepath.Dir(path); ; above = filepath.Dir(above) {
		info, err := os.Stat(above)
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
			return "", fmt.Errorf("data directory %s cannot be made: %s is not a directory: give another --data-dir", path, above)
		case err != nil:
			return "", fmt.Errorf("data directory %s cannot be made: %w", path, err)
		}
		const writeAndEnter = 0o3
		if err := syscall.Access(above, writeAndEnter); err != nil {
			return "", fmt.Errorf("data directory %s cannot be made in %s (%w): make it and give it to user %s, or give another --data-dir",
				path, above, err, userName(os.Geteuid()))
		}
		return filepath.EvalSymlinks(above)
	}
}
