package store

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Holder names a process that holds leases, so that its peers can tell whether
// it lives: host, boot, process namespace, pid and start time.
type Holder string

// NewHolder returns the name of this process.
func NewHolder() Holder {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return Holder(fmt.Sprintf("%s/%s/%d/%s", host, machine(), os.Getpid(), startTime(os.Getpid())))
}

// machine identifies the set of pids that a pid belongs to: this boot of this
// kernel and the process namespace. It is empty where /proc does not tell.
func machine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + "+" + namespace
}

// startTime returns when a live process was started, in clock ticks since boot,
// or "" when /proc knows no such process: a pid alone may belong to another
// process by now.
func startTime(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	// The second field is the program's name in parentheses, which may hold
	// anything; start time is field 22 of proc(5), the 20th after it.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 20 || fields[0] == "Z" { // a zombie has ended
		return ""
	}
	return fields[19]
}

// dead reports whether the process is known to have ended: it ran on this
// machine, and its pid is free or belongs to a process that started at another
// time. In doubt it lives, and its lease runs out by itself.
func (h Holder) dead() bool {
	parts := strings.Split(string(h), "/")
	if len(parts) != 4 || parts[1] == "" || parts[1] != machine() || parts[3] == "" {
		return false
	}
	pid, err := strconv.Atoi(parts[2])
	if err != nil {
		return false
	}
	return startTime(pid) != parts[3]
}
