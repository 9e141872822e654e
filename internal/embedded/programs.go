package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
)

// ErrNoPrograms says that PostgreSQL is not installed; errors that wrap it say
// what to type.
var ErrNoPrograms = errors.New("PostgreSQL's programs were not found")

const minMajor = 14

var versionPattern = regexp.MustCompile(`PostgreSQL\) (\d+)`)

// usualPlaces are where package managers put PostgreSQL's programs. The same list
// stands in scripts/postgres.sh.
func usualPlaces() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
		"/usr/pgsql-*/bin",                  // PGDG on Fedora and its kin
		"/usr/libexec/postgresql*",          // Alpine
		"/usr/local/pgsql/bin",              // built from source
		"/opt/homebrew/opt/postgresql*/bin", // Homebrew on Apple silicon
		"/usr/local/opt/postgresql*/bin",    // Homebrew on Intel
		"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
}

// programs is a directory that holds initdb, postgres and pg_ctl of one version.
type programs struct {
	dir   string
	major int
}

func (p programs) path(name string) string { return filepath.Join(p.dir, name) }

// findPrograms returns the programs in PATH, else the newest in the places. When
// want is not 0, only those of that major version will do: an existing cluster
// belongs to one. Programs that the account cannot run do not count.
func findPrograms(ctx context.Context, who account, places []string, want int) (programs, error) {
	fits := func(p programs) bool { return p.major >= minMajor && (want == 0 || p.major == want) }
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		if found := inspect(ctx, who, dir); fits(found) {
			return found, nil
		}
	}
	var newest programs
	for _, place := range places {
		dirs, err := filepath.Glob(place)
		if err != nil {
			return programs{}, fmt.Errorf("look for PostgreSQL in %s: %w", place, err)
		}
		for _, dir := range dirs {
			if found := inspect(ctx, who, dir); fits(found) && found.major > newest.major {
				newest = found
			}
		}
	}
	if newest.dir == "" {
		return programs{}, missing(want)
	}
	return newest, nil
}

// inspect returns what dir holds, with a zero version when that is not a whole,
// working set. A lone postgres in PATH may be a wrapper, so the set is looked for
// where postgres really lies, and postgres is asked rather than its path.
func inspect(ctx context.Context, who account, dir string) programs {
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil || !filepath.IsAbs(real) {
		return programs{}
	}
	p := programs{dir: filepath.Dir(real)}
	for _, name := range []string{"initdb", "postgres", "pg_ctl"} {
		if info, err := os.Stat(p.path(name)); err != nil || info.IsDir() {
			return programs{}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, shortProgram)
	defer cancel()
	out, err := who.command(ctx, "/", p.path("postgres"), "-V").Output()
	if err != nil {
		return programs{}
	}
	if match := versionPattern.FindSubmatch(out); match != nil {
		p.major, _ = strconv.Atoi(string(match[1])) // digits alone; what overflows is 0: no version
	}
	return p
}

// missing says what to type to get the programs of a version, 0 for any.
func missing(want int) error {
	if want != 0 {
		return fmt.Errorf("%w in version %d, which made this cluster: type: %s, or move the data with pg_upgrade",
			ErrNoPrograms, want, remedy(runtime.GOOS, strconv.Itoa(want)))
	}
	return fmt.Errorf("%w (initdb, postgres, pg_ctl; %d or newer): type: %s", ErrNoPrograms, minMajor, remedy(runtime.GOOS, ""))
}

// remedy returns the command that installs a version, "" for the newest.
func remedy(system, version string) string {
	if system == "darwin" {
		return "brew install postgresql@" + cmp.Or(version, "17")
	}
	var commands []string
	for _, manager := range []struct{ program, command string }{
		{"/usr/bin/apt-get", "apt-get install " + strings.TrimSuffix("postgresql-"+version, "-")},
		{"/usr/bin/dnf", "dnf install postgresql" + version + "-server"},
		{"/sbin/apk", "apk add postgresql" + version},
		{"/usr/bin/pacman", "pacman -S postgresql"},
		{"/usr/bin/zypper", "zypper install postgresql" + version + "-server"},
	} {
		if _, err := os.Stat(manager.program); err == nil {
			commands = append(commands, manager.command)
		}
	}
	if len(commands) == 0 {
		return "apt-get install postgresql, or what your system has for it"
	}
	if os.Geteuid() != 0 {
		return "sudo " + commands[0]
	}
	return commands[0]
}
