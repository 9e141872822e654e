package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cores are how many processors were at work, and for whom: what keeps one of them
// busy all the time is what limits the others.
type cores struct {
	Pushwatch  float64 `json:"pushwatch"` // this process, with what it does to measure
	PostgreSQL float64 `json:"postgresql"`
	NATS       float64 `json:"nats"`
}

// spent is the processor time of a run's processes so far.
type spent struct{ own, postgres, nats time.Duration }

// since returns the cores at work since before.
func (s spent) since(before spent, took time.Duration) cores {
	share := func(a, b time.Duration) float64 { return (a - b).Seconds() / took.Seconds() }
	return cores{share(s.own, before.own), share(s.postgres, before.postgres), share(s.nats, before.nats)}
}

// spent reads the processor time of all processes; false on systems that do not
// tell it.
func (r *rig) spent() (s spent, ok bool) {
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return s, false
	}
	s.own = time.Duration(own.Utime.Nano() + own.Stime.Nano())
	postmaster := r.postmaster()
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil || len(processes) == 0 || postmaster == 0 {
		return s, false
	}
	for _, path := range processes {
		p, ok := readProcess(path)
		switch {
		case !ok: // it has ended
		case p.pid == postmaster:
			s.postgres += p.self + p.ended
		case p.parent == postmaster:
			s.postgres += p.self
		case p.pid == r.lazy.cmd.Process.Pid, p.pid == r.strict.cmd.Process.Pid:
			s.nats += p.self
		}
	}
	return s, true
}

// postmaster returns the process that PostgreSQL's others are children of; 0 when
// it cannot be told.
func (r *rig) postmaster() int {
	text, err := os.ReadFile(filepath.Join(r.dir.Path, "postgres", "postmaster.pid"))
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0
	}
	return pid
}

// process is what /proc tells of one.
type process struct {
	pid, parent int
	self, ended time.Duration // of itself, and of its children that have ended
}

// readProcess reads /proc/<pid>/stat, see proc(5).
func readProcess(path string) (p process, ok bool) {
	const tick = time.Second / 100 // USER_HZ, the same on every Linux
	text, err := os.ReadFile(path)
	if err != nil {
		return p, false
	}
	// The name, in parentheses, may hold anything.
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 15 {
		return p, false
	}
	numbers := make([]int, 0, 6)
	for _, i := range []int{1, 11, 12, 13, 14} { // ppid, utime, stime, cutime, cstime
		n, err := strconv.Atoi(fields[i])
		if err != nil {
			return p, false
		}
		numbers = append(numbers, n)
	}
	p.pid, err = strconv.Atoi(filepath.Base(filepath.Dir(path)))
	p.parent = numbers[0]
	p.self, p.ended = time.Duration(numbers[1]+numbers[2])*tick, time.Duration(numbers[3]+numbers[4])*tick
	return p, err == nil
}
