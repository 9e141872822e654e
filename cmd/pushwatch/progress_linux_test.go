package main

import (
	"bytes"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/store"
)

func TestTheDemoDrawsBarsOnATerminalAndLinesElsewhere(t *testing.T) {
	show := func(s *demoShown) {
		s.show(4*time.Second, store.Counts{Operations: 7, Transitions: 9, Published: 5, Waiting: 4})
		s.show(10*time.Second+time.Millisecond, store.Counts{Operations: 8, Transitions: 12, Published: 12})
		s.close()
	}
	terminal, screen := openTerminal(t)
	size := [4]uint16{30, 120} // rows, columns
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, terminal.Fd(), syscall.TIOCSWINSZ, uintptr(unsafe.Pointer(&size)))
	require.Zero(t, errno)
	show(newDemoProgress(terminal, 10*time.Second))
	drawn := screen()
	assert.Contains(t, drawn, "12 of 12 changes of 8 operations")
	assert.Contains(t, drawn, "10s of 10s", "the last state stays on the screen")

	var plain bytes.Buffer
	show(newDemoProgress(&plain, 10*time.Second))
	assert.Equal(t, "   4s  operations     7  changes     9  published     5  waiting   4\n"+
		"  10s  operations     8  changes    12  published    12  waiting   0\n", plain.String())
	assert.False(t, strings.ContainsRune(plain.String(), '\x1b'))
}
