package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const (
	socketName = ".s.PGSQL.5432"
	socketNote = "socket-dir" // names the socket directory where it is not run/
	// longestSocket is what every system takes: 104 bytes with the final NUL on
	// macOS, 108 on Linux.
	longestSocket = 103
)

// clusterVersion returns the major version that made a cluster, 0 when there is
// no cluster.
func clusterVersion(cluster string) (int, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the cluster's version: %w", err)
	}
	version, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("cluster %s has version %q: not a cluster of PostgreSQL", cluster, text)
	}
	return version, nil
}

// initialise makes the cluster beside its place and then moves it there. If we
// crash before the move, the next start finds no cluster and begins again, under
// another name, because initdb may still be at work.
func (p *Postgres) initialise(ctx context.Context) error {
	base := filepath.Dir(p.cluster)
	leftovers, err := filepath.Glob(p.cluster + ".init-*")
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	for _, leftover := range leftovers {
		_ = os.RemoveAll(leftover) // an initdb at work may still add to it; the next start takes the rest
	}
	fresh, err := os.MkdirTemp(base, filepath.Base(p.cluster)+".init-")
	if err != nil {
		return fmt.Errorf("make a cluster: %w", err)
	}
	err = p.account.own(fresh)
	if err == nil {
		err = p.initdb(ctx, fresh)
	}
	if err == nil {
		err = os.Rename(fresh, p.cluster)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("make a cluster: %w", err), os.RemoveAll(fresh))
	}
	return syncDir(base)
}

func (p *Postgres) initdb(ctx context.Context, fresh string) error {
	args := []string{"-D", fresh, "-U", "pushwatch", "-E", "UTF8", "--locale=C", "--data-checksums",
		"--auth-local=trust", "--auth-host=reject", "--no-instructions"}
	if p.config.UnsafeNoFsync {
		args = append(args, "--no-sync")
	}
	out, err := p.account.command(ctx, "/", p.programs.path("initdb"), args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb as user %s: %w: %s", p.account.name, err, lastLines(out))
	}
	return nil
}

// socketDir returns the directory of the socket, made if need be: run/ in the data
// directory, or, where that path is too long for a socket, one in the system's
// temporary directory. That one gets a name which nobody can guess and take
// first, and the note makes it the same at the next start.
func (p *Postgres) socketDir(ctx context.Context) (string, error) {
	base := filepath.Dir(p.cluster)
	dir := filepath.Join(base, "run")
	if len(filepath.Join(dir, socketName)) <= longestSocket {
		return dir, p.account.own(dir)
	}
	note := filepath.Join(base, socketNote)
	if text, err := os.ReadFile(note); err == nil {
		dir = strings.TrimSpace(string(text))
		if info, err := os.Lstat(dir); err == nil && info.IsDir() && info.Mode().Perm() == 0o700 {
			if owner, ok := ownerOf(dir); ok && owner == p.account.uid {
				return dir, nil
			}
		}
	}
	for _, parent := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if len(filepath.Join(parent, "pushwatch-0123456789", socketName)) > longestSocket || !p.account.enters(ctx, parent) {
			continue
		}
		dir, err := os.MkdirTemp(parent, "pushwatch-")
		if err != nil {
			continue
		}
		return dir, errors.Join(p.account.own(dir), writeFile(note, dir+"\n"))
	}
	return "", fmt.Errorf("no temporary directory that user %s can enter has a path short enough for a socket: "+
		"give a --data-dir of fewer than %d characters", p.account.name, longestSocket-len("/run/"+socketName))
}
