package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const shortProgram = 10 * time.Second // bound for programs that only answer a question

// account is the user that PostgreSQL runs as.
type account struct {
	name     string
	uid, gid int
	groups   []uint32
	drop     bool // we are root and must become this user
}

// accountFor returns the user that runs the cluster: for a plain user itself, for
// root the owner of an existing cluster, else postgres, else nobody.
func accountFor(cluster string) (account, error) {
	owner, exists := ownerOf(cluster)
	if uid := os.Geteuid(); uid != 0 {
		if exists && owner != uid {
			return account{}, fmt.Errorf("cluster %s belongs to user %s: run pushwatch as that user, or give another --data-dir",
				cluster, userName(owner))
		}
		return account{name: userName(uid), uid: uid, gid: os.Getegid()}, nil
	}
	if exists && owner != 0 {
		u, err := user.LookupId(strconv.Itoa(owner))
		if err != nil {
			return account{}, fmt.Errorf("cluster %s belongs to uid %d, which is no user of this machine: type: chown -R postgres %s",
				cluster, owner, cluster)
		}
		return dropTo(u)
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		if exists {
			return account{}, fmt.Errorf("cluster %s belongs to root, as whom PostgreSQL refuses to run: type: chown -R %s %s",
				cluster, name, cluster)
		}
		return dropTo(u)
	}
	return account{}, errors.New("PostgreSQL refuses to run as root, and this machine has no user postgres or nobody to run it as: " +
		"type: useradd --system postgres, or run pushwatch as another user")
}

func dropTo(u *user.User) (account, error) {
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return account{}, fmt.Errorf("user %s: %w", u.Username, err)
	}
	a := account{name: u.Username, uid: uid, gid: gid, drop: true}
	ids, err := u.GroupIds()
	if err != nil {
		return a, nil // its own group is enough
	}
	for _, id := range ids {
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			a.groups = append(a.groups, uint32(n))
		}
	}
	return a, nil
}

// command prepares a program under the account, in a session of its own so that
// Ctrl-C at our terminal does not reach it, and without our environment: that
// holds secrets, PG* and a locale.
func (a account) command(ctx context.Context, dir, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if a.drop {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
	}
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC", "PATH=" + filepath.Dir(program) + ":/usr/bin:/bin"}
	for _, name := range []string{"LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value := os.Getenv(name); value != "" {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	// A program's children outlive it in its session; they end with it.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// own makes path a directory that the account alone can enter. Its parent must be
// one that nobody else can write to.
func (a account) own(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if a.drop {
		if err := os.Lchown(path, a.uid, a.gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, 0o700)
}

// admit lets the account pass through dir, our own directory, and refuses one
// that it cannot reach, naming what is in the way.
func (a account) admit(ctx context.Context, dir string) error {
	if !a.drop || a.enters(ctx, dir) {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	// The group passes through and cannot list. What lies in dir guards itself.
	if err := errors.Join(os.Chown(dir, -1, a.gid), os.Chmod(dir, info.Mode().Perm()|0o010)); err != nil {
		return err
	}
	return a.reaches(ctx, dir)
}

// reaches refuses a directory that the account cannot enter, and names what is in
// the way.
func (a account) reaches(ctx context.Context, dir string) error {
	if !a.drop || a.enters(ctx, dir) {
		return nil
	}
	blocking := "/"
	for _, name := range strings.Split(dir, "/") {
		blocking = filepath.Join(blocking, name)
		if !a.enters(ctx, blocking) {
			break
		}
	}
	return fmt.Errorf("user %s, as whom PostgreSQL runs, cannot enter %s: type: chmod o+x %s, or give another --data-dir",
		a.name, blocking, shellQuote(blocking))
}

// enters tries it, because mode bits do not tell of access lists and mounts.
func (a account) enters(ctx context.Context, dir string) bool {
	ctx, cancel := context.WithTimeout(ctx, shortProgram)
	defer cancel()
	return a.command(ctx, dir, "/bin/sh", "-c", "exit 0").Run() == nil
}

// ownerOf returns the uid that owns path, and whether there is such a path.
func ownerOf(path string) (int, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}
