package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const orphanPatience = 10 * time.Second

// adopt looks for a server that a killed pushwatch left on the cluster. One that
// answers on our socket with our data directory is taken over; one that does not
// answer in time is ended, so that a new one can start. It returns whether a
// server was adopted.
func (p *Postgres) adopt(ctx context.Context) (bool, error) {
	pid := p.recordedPID()
	if pid == 0 || !p.serves(pid) {
		// No server. A pid that now belongs to somebody else is nobody's business:
		// PostgreSQL itself sees that the file is stale.
		return false, p.dropStalePID(ctx, pid)
	}
	deadline := time.NewTimer(orphanPatience)
	defer deadline.Stop()
	for p.serves(pid) {
		dir, err := p.probe(ctx)
		if err == nil && p.same(dir) {
			p.pid, p.exited = pid, nil
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, fmt.Errorf("PostgreSQL of an earlier start (pid %d): %w", pid, ctx.Err())
		case <-deadline.C:
			if err := p.end(ctx, pid, syscall.SIGQUIT, syscall.SIGKILL); err != nil {
				return false, err
			}
			return false, p.dropStalePID(ctx, pid)
		case <-time.After(lookAgain):
		}
	}
	return false, nil
}

// recordedPID returns the pid in postmaster.pid, 0 when there is none.
func (p *Postgres) recordedPID() int {
	text, err := os.ReadFile(filepath.Join(p.cluster, "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid < 2 {
		return 0
	}
	return pid
}

// dropStalePID removes lock files (postmaster.pid and the socket's) whose pid is no PostgreSQL of this cluster
// any more but is taken, by a stranger or by a dead process that nobody has
// reaped: PostgreSQL would take it for its own. They also guard against backends
// that outlive their server, so they stay until the last of those is gone.
func (p *Postgres) dropStalePID(ctx context.Context, pid int) error {
	if pid == 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil
	}
	deadline := time.NewTimer(orphanPatience)
	defer deadline.Stop()
	for p.busy() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("backends of an earlier PostgreSQL: %w", ctx.Err())
		case <-deadline.C:
			return fmt.Errorf("processes of an earlier PostgreSQL still work in %s: end them", p.cluster)
		case <-time.After(lookAgain):
		}
	}
	for _, stale := range []string{
		filepath.Join(p.cluster, "postmaster.pid"), filepath.Join(p.sockets, ".s.PGSQL.5432.lock"),
	} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("lock file of a server that is gone: %w", err)
		}
	}
	return nil
}

// busy reports whether any process of PostgreSQL works in this cluster, as far
// as /proc tells.
func (p *Postgres) busy() bool {
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return false
	}
	for _, process := range processes {
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil && p.serves(pid) {
			return true
		}
	}
	return false
}

// serves reports whether pid is a live postgres that works in this cluster: by
// its working directory where /proc tells it, else by its command line.
func (p *Postgres) serves(pid int) bool {
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		after := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
		if strings.HasPrefix(strings.TrimSpace(after), "Z") {
			return false
		}
		exe, err1 := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		cwd, err2 := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		return err1 == nil && err2 == nil && strings.HasPrefix(filepath.Base(exe), "postgres") && p.same(cwd)
	}
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && strings.Contains(string(out), "postgres") && strings.Contains(string(out), "-D "+p.cluster)
}

// same reports whether dir is the cluster's directory, under whatever name.
func (p *Postgres) same(dir string) bool {
	a, err1 := os.Stat(dir)
	b, err2 := os.Stat(p.cluster)
	return err1 == nil && err2 == nil && os.SameFile(a, b)
}
