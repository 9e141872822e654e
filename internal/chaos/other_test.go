//go:build !linux

package chaos

import (
	"syscall"

	"github.com/stretchr/testify/require"
)

func tied() *syscall.SysProcAttr { return nil }

func fullDisks(t *trial) verdict {
	require.Fail(t, "this row mounts file systems as Linux does: run it there")
	return verdict{}
}
