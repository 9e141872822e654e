package embedded

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAThrowAwayServerEndsWithItsKilledProcess(t *testing.T) {
	t.Setenv("TMPDIR", dataDir(t))
	c := startChild(t, childCommand(t, "throw away", ""))
	pid, err := strconv.Atoi(c.said[0])
	require.NoError(t, err)
	process, err := os.FindProcess(pid)
	require.NoError(t, err)
	require.False(t, exited(process))
	kill(c.Cmd)
	require.Eventually(t, func() bool { return exited(process) }, 10*time.Second, lookAgain)
}

func TestAProcessIsKnownByItsCommandLineToo(t *testing.T) {
	p := startPostgres(t, dataDir(t))
	pid := p.postmaster.process.Pid
	assert.True(t, worksIn(pid, p.cluster))
	assert.True(t, psShows(pid, p.cluster))
	assert.True(t, lineShows(pid, p.cluster))
	for _, shows := range []func(int, string) bool{worksIn, psShows, lineShows} {
		assert.False(t, shows(pid, filepath.Dir(p.cluster)))
		assert.False(t, shows(os.Getpid(), p.cluster))
		assert.False(t, shows(1<<30, p.cluster))
	}
}
