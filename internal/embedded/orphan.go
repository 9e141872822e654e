package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanSilence is how long an orphan may say nothing before it is ended.
const orphanSilence = 5 * time.Second

// pidFile is what a cluster's postmaster.pid tells.
type pidFile struct {
	pid     int
	sockets string
	status  string // starting, stopping, ready, standby
}

// adopt looks for a server that a killed pushwatch left on the cluster, and
// reports whether it took one over. One that starts is waited for; one that stops
// or does not answer is ended, so that a new one can start.
func (p *Postgres) adopt(ctx context.Context) (bool, error) {
	found, ok := readPIDFile(p.cluster)
	if !ok {
		return false, nil
	}
	process, err := os.FindProcess(found.pid)
	// Looked at after the handle was taken, so that a signal through the handle
	// reaches this very process or none.
	if err != nil || !worksIn(found.pid, p.cluster) {
		return false, p.dropStale(found.pid)
	}
	orphan := takeOver(process)
	if p.answers(ctx, orphan) {
		p.postmaster = orphan
		p.config.Logger.Info("took over PostgreSQL from an earlier pushwatch", "pid", found.pid)
		return true, nil
	}
	if ctx.Err() != nil {
		orphan.letGo()
		return false, fmt.Errorf("wait for PostgreSQL of an earlier pushwatch (pid %d): %w", found.pid, ctx.Err())
	}
	p.config.Logger.Warn("end PostgreSQL of an earlier pushwatch, which takes no sessions", "pid", found.pid)
	if err := orphan.end(ctx); err != nil {
		orphan.letGo()
		return false, err
	}
	return false, p.dropStale(found.pid)
}

// answers waits for an orphan to take sessions on this cluster, and then uses its
// socket. It returns false when the orphan ends, stops or stays silent.
func (p *Postgres) answers(ctx context.Context, orphan *postmaster) bool {
	patience := time.NewTimer(orphanSilence)
	defer patience.Stop()
	for {
		found, ok := readPIDFile(p.cluster)
		if ok && found.sockets != "" {
			heard, _ := p.ask(ctx, found.sockets) // no answer is told by what was heard
			switch {
			case heard.ready && sameFile(heard.dataDir, p.cluster):
				p.sockets = found.sockets
				return true
			case heard.starting && found.status == "stopping":
				return false
			case heard.starting:
				patience.Reset(orphanSilence)
			}
		}
		select {
		case <-orphan.done:
			return false
		case <-patience.C:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(lookAgain):
		}
	}
}

// readPIDFile reads postmaster.pid, which PostgreSQL fills line by line.
func readPIDFile(cluster string) (pidFile, bool) {
	text, err := os.ReadFile(filepath.Join(cluster, "postmaster.pid"))
	if err != nil {
		return pidFile{}, false
	}
	lines := append(strings.Split(string(text), "\n"), make([]string, 8)...)
	// A single-user server writes its pid with a minus sign.
	pid, err := strconv.Atoi(strings.TrimPrefix(strings.TrimSpace(lines[0]), "-"))
	if err != nil || pid < 2 {
		return pidFile{}, false
	}
	return pidFile{pid: pid, sockets: strings.TrimSpace(lines[4]), status: strings.TrimSpace(lines[7])}, true
}

// dropStale removes the lock files of a server that is gone but whose pid is
// taken, by a stranger or by a dead process that nobody has waited for: PostgreSQL
// would take it for a server. Backends that outlive their server are not guarded
// against by these files alone: the shared memory that they hold makes PostgreSQL
// refuse to start.
func (p *Postgres) dropStale(pid int) error {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return nil // PostgreSQL sees for itself
	}
	for _, stale := range []string{filepath.Join(p.cluster, "postmaster.pid"), filepath.Join(p.sockets, socketName+".lock")} {
		if err := os.Remove(stale); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("lock file of a server that is gone: %w", err)
		}
	}
	return nil
}
