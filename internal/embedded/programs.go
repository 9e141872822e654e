package embedded

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

// ErrNoPrograms says that PostgreSQL is not installed, and what to type.
var ErrNoPrograms = errors.New("PostgreSQL's programs (initdb, postgres; 14 or newer) were not found: " +
	"type 'apt-get install postgresql' (Debian, Ubuntu), 'dnf install postgresql-server' (Fedora), " +
	"'apk add postgresql' (Alpine) or 'brew install postgresql@17' (macOS), or set DATABASE_URL to a server of your own")

const minMajor = 14

// places are where the machine's package managers put PostgreSQL's programs.
var places = []string{
	"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/libexec/postgresql*", "/usr/local/pgsql/bin",
	"/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin", "/opt/homebrew/bin", "/usr/local/bin",
}

var versionPattern = regexp.MustCompile(`PostgreSQL\) (\d+)`)

// findPrograms returns the directory that holds initdb and postgres, and their
// major version: the newest among PATH and the usual places, or, when want is not
// 0, the one that fits an existing cluster.
func findPrograms(want int) (dir string, major int, err error) {
	var dirs []string
	if initdb, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(initdb))
	}
	for _, place := range places {
		found, err := filepath.Glob(place)
		if err != nil {
			return "", 0, fmt.Errorf("look for PostgreSQL in %s: %w", place, err)
		}
		dirs = append(dirs, found...)
	}
	slices.Sort(dirs)
	for _, candidate := range slices.Compact(dirs) {
		version := versionOf(candidate)
		if version >= minMajor && version > major && (want == 0 || version == want) {
			dir, major = candidate, version
		}
	}
	switch {
	case dir != "":
		return dir, major, nil
	case want != 0:
		return "", 0, fmt.Errorf("the cluster was made by PostgreSQL %d, whose programs were not found: "+
			"install that version (apt-get install postgresql-%d), or move the data with pg_upgrade", want, want)
	}
	return "", 0, ErrNoPrograms
}

// versionOf returns the major version of the programs in dir, 0 when they are
// not all there.
func versionOf(dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	match := versionPattern.FindSubmatch(out)
	if match == nil {
		return 0
	}
	version, err := strconv.Atoi(string(match[1]))
	if err != nil {
		return 0
	}
	return version
}
