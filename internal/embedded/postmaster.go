package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	fastStop  = 10 * time.Second // for SIGINT: roll back, checkpoint
	quickStop = 7 * time.Second  // for SIGQUIT: PostgreSQL itself kills stragglers after 5 s
	lookAgain = 50 * time.Millisecond
)

// postmaster is a PostgreSQL server's first process: our child, or one that an
// earlier pushwatch left.
type postmaster struct {
	process *os.Process
	done    chan struct{} // closed when it has ended
	letGo   func()        // ends the watch over one that is not our child
}

// spawn starts a postmaster. With tied, it is ended when this process dies.
func spawn(cmd *exec.Cmd, tied bool) (*postmaster, error) {
	m := &postmaster{done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		defer close(m.done)
		if tied {
			// The kernel ties the server to this thread rather than to the process,
			// so the thread stays with this goroutine until the server has ended.
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			tie(cmd.SysProcAttr)
		}
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended stands in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	m.process = cmd.Process
	return m, nil
}

// takeOver makes a postmaster of a process that is not our child, and watches it
// until it ends or is let go.
func takeOver(process *os.Process) *postmaster {
	letGo := make(chan struct{})
	m := &postmaster{process: process, done: make(chan struct{}), letGo: sync.OnceFunc(func() { close(letGo) })}
	go func() {
		ticker := time.NewTicker(lookAgain)
		defer ticker.Stop()
		for !exited(process) {
			select {
			case <-letGo:
				return
			case <-ticker.C:
			}
		}
		close(m.done)
	}()
	return m
}

func (m *postmaster) ended() bool {
	select {
	case <-m.done:
		return true
	default:
		return false
	}
}

// end stops the server: with SIGINT, which is PostgreSQL's fast stop, while ctx
// allows; then with SIGQUIT, its immediate one, which the next start recovers
// from; at last with SIGKILL. It returns when the server is gone.
func (m *postmaster) end(ctx context.Context) error {
	patient, cancel := context.WithTimeout(ctx, fastStop)
	defer cancel()
	if m.signal(patient, syscall.SIGINT) {
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGQUIT, syscall.SIGKILL} {
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), quickStop)
		defer cancel()
		if m.signal(patient, signal) {
			return nil
		}
	}
	return fmt.Errorf("PostgreSQL (pid %d) does not end", m.process.Pid)
}

// signal sends a signal, wakes a stopped server so that it hears it, and reports
// whether the server ended before ctx did.
func (m *postmaster) signal(ctx context.Context, signal syscall.Signal) bool {
	for _, send := range []syscall.Signal{signal, syscall.SIGCONT} {
		if m.ended() {
			return true
		}
		if err := m.process.Signal(send); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return false // not permitted: the last error tells
		}
	}
	select {
	case <-m.done:
		return true
	case <-ctx.Done():
		return m.ended()
	}
}
