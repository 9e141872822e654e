package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// worksIn reports whether pid is a live postgres that works in the cluster. A pid
// in a file proves nothing: after a restart of the machine, or in a container, it
// may be anybody's.
func worksIn(pid int, cluster string) bool {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		return psShows(pid, cluster)
	}
	proc := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(proc + "stat")
	if err != nil || zombie(stat) {
		return false
	}
	exe, err1 := os.Readlink(proc + "exe")
	cwd, err2 := os.Readlink(proc + "cwd")
	if err := errors.Join(err1, err2); err == nil {
		// An upgrade replaces the file: "postgres (deleted)".
		return strings.HasPrefix(filepath.Base(exe), "postgres") && sameFile(cwd, cluster)
	}
	// In a container, root may not be allowed to look at another user's process,
	// but its command line is open.
	return lineShows(pid, cluster)
}

func lineShows(pid int, cluster string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return false
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	at := slices.Index(args, "-D")
	return filepath.Base(args[0]) == "postgres" && at > 0 && at+1 < len(args) && sameFile(args[at+1], cluster)
}

// exited reports whether a process that is not our child has ended. Where the
// system has handles for processes, a new owner of the pid does not deceive it.
func exited(process *os.Process) bool {
	if errors.Is(process.Signal(syscall.Signal(0)), os.ErrProcessDone) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process.Pid))
	return err == nil && zombie(stat)
}

// zombie reports whether /proc/<pid>/stat is of a process that has ended and that
// nobody has waited for, as in a container without an init.
func zombie(stat []byte) bool {
	afterName := stat[bytes.LastIndexByte(stat, ')')+1:]
	return bytes.HasPrefix(bytes.TrimSpace(afterName), []byte("Z"))
}

func psShows(pid int, cluster string) bool {
	out, err := exec.Command("ps", "-ww", "-o", "state=,command=", "-p", strconv.Itoa(pid)).Output()
	line := strings.TrimSpace(string(out))
	return err == nil && !strings.HasPrefix(line, "Z") &&
		strings.Contains(line, "postgres") && strings.Contains(line+" ", " -D "+cluster+" ")
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	infoA, err1 := os.Stat(a)
	infoB, err2 := os.Stat(b)
	return err1 == nil && err2 == nil && os.SameFile(infoA, infoB)
}
