//go:build !linux

package embedded

import "syscall"

// tie does nothing where the kernel has no such tie: a throw-away server then
// outlives a killed process.
func tie(*syscall.SysProcAttr) {}
