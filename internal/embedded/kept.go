package embedded

import (
	"errors"
	"os"
	"path/filepath"
)

// Keeps tells what a data directory holds already: a PostgreSQL cluster, and what
// a NATS server keeps. It looks and makes nothing; of a directory that is not there
// neither is true.
func Keeps(dir string) (postgres, nats bool, err error) {
	version, err := clusterVersion(filepath.Join(dir, "postgres"))
	switch {
	case errors.Is(err, os.ErrPermission):
		version = 1 // somebody's cluster, into which only its owner sees
	case err != nil:
		return false, false, err
	}
	_, err = os.Stat(filepath.Join(dir, "nats", "token"))
	return version != 0, err == nil || errors.Is(err, os.ErrPermission), nil
}
