package embedded

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestADataDirectoryHasOneHolder(t *testing.T) {
	path := filepath.Join(dataDir(t), "deep", "data")
	first, err := OpenDir(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	_, err = OpenDir(path)
	var inUse *InUseError
	require.ErrorAs(t, err, &inUse)
	assert.Equal(t, InUseError{Path: path, PID: os.Getpid()}, *inUse)
	assert.Contains(t, err.Error(), path)

	require.NoError(t, first.Close())
	second, err := OpenDir(path)
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func TestADirectoryOfAnotherUserIsRefusedByName(t *testing.T) {
	path := "/" // root's, to a plain user
	owner := "root"
	if os.Geteuid() == 0 {
		path, owner = dataDir(t), userName(65534)
		require.NoError(t, os.Chown(path, 65534, -1))
	}
	_, err := OpenDir(path)
	require.ErrorContains(t, err, "data directory "+path+" belongs to user "+owner)
	require.EqualError(t, CheckDir(t.Context(), path, true), err.Error())
	assert.NoFileExists(t, filepath.Join(path, "lock"), "nothing is written there")
}

func TestADirectoryOfANewerLayoutIsRefused(t *testing.T) {
	path := dataDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(path, "version"), []byte("2\n"), 0o600))
	_, err := OpenDir(path)
	require.ErrorContains(t, err, path+" was laid out by another version")
	require.EqualError(t, CheckDir(t.Context(), path, true), err.Error())
}

func TestACheckOfADirectoryMakesNothing(t *testing.T) {
	parent := dataDir(t)
	for _, path := range []string{parent, filepath.Join(parent, "not", "there")} {
		require.NoError(t, CheckDir(t.Context(), path, true))
	}
	entries, err := os.ReadDir(parent)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestWhatIsNoDirectoryIsRefused(t *testing.T) {
	path := filepath.Join(dataDir(t), "file")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, err := OpenDir(path)
	require.ErrorContains(t, err, path+" is not a directory: move it away")
	require.EqualError(t, CheckDir(t.Context(), path, true), err.Error())
	below := CheckDir(t.Context(), filepath.Join(path, "data"), false)
	require.ErrorContains(t, below, path+" is not a directory")
}

func TestConnectEnvIsForThisUserAndForAShell(t *testing.T) {
	dir, err := OpenDir(dataDir(t))
	require.NoError(t, err)
	defer func() { require.NoError(t, dir.Close()) }()
	_, err = dir.WriteConnectEnv("postgres://old@/", "nats://old")
	require.NoError(t, err)
	path, err := dir.WriteConnectEnv("postgres://u@/db?host=/a&x='", "nats://t@127.0.0.1:1")
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	// The inner shell sees what is exported.
	out, err := exec.CommandContext(t.Context(), "sh", "-c", `. "$1"; sh -c 'echo "$DATABASE_URL $NATS_URL"'`, "sh", path).Output()
	require.NoError(t, err)
	assert.Equal(t, "postgres://u@/db?host=/a&x=' nats://t@127.0.0.1:1\n", string(out))

	path, err = dir.WriteConnectEnv("", "nats://t@127.0.0.1:1")
	require.NoError(t, err)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "DATABASE_URL", "an external server's address is not ours to write down")
}

func TestThrowAwayDirectoriesOfKilledProcessesAreSwept(t *testing.T) {
	t.Setenv("TMPDIR", dataDir(t))
	dead, err := OpenTempDir(t.Context())
	require.NoError(t, err)
	require.NoError(t, dead.lock.Close(), "what the kernel does for a killed process")
	begun, err := os.MkdirTemp(os.TempDir(), throwAwayName) // its process has not locked it yet
	require.NoError(t, err)

	held, err := OpenTempDir(t.Context())
	require.NoError(t, err)
	assert.NoDirExists(t, dead.Path)
	assert.DirExists(t, begun)

	other, err := OpenTempDir(t.Context())
	require.NoError(t, err)
	assert.DirExists(t, held.Path)
	require.NoError(t, other.Close())
	require.NoError(t, held.Close())
	assert.NoDirExists(t, held.Path)
}
