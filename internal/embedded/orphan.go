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

const orphanPatience = 15 * time.Second

// adopt looks for a server that a killed pushwatch left on the cluster. One that
// answers on our socket with our data directory is taken over; one that does not
// answer in time is ended, so that a new one can start. It returns whether a
// server was adopted.
func (p *Postgres) adopt(ctx context.Context) (bool, error) {
	pid := p.recordedPID()
	if pid == 0 || !p.serves(pid) {
		// No server. A pid that now belongs to somebody else is nobody's business:
		// PostgreSQL itself sees that the file is stale.
		return false, p.dropStalePID(pid)
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
			return false, p.end(ctx, pid)
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

// dropStalePID removes a postmaster.pid whose pid belongs to a process that is
// not a PostgreSQL of this cluster: PostgreSQL would take it for its own.
func (p *Postgres) dropStalePID(pid int) error {
	if pid == 0 || syscall.Kill(pid, 0) != nil {
		return nil
	}
	err := os.Remove(filepath.Join(p.cluster, "postmaster.pid"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("stale postmaster.pid: %w", err)
	}
	return nil
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
		if err1 == nil && err2 == nil {
			return strings.HasPrefix(filepath.Base(exe), "postgres") && p.same(cwd)
		}
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
