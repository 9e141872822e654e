package chaos

import "syscall"

// tied ends a program when the thread that started it ends, so also when the test
// binary is killed.
func tied() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
