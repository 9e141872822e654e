package embedded

import "syscall"

// tie has the kernel end a program at once (SIGQUIT is PostgreSQL's immediate
// stop) when the thread that starts it ends.
func tie(attributes *syscall.SysProcAttr) { attributes.Pdeathsig = syscall.SIGQUIT }
