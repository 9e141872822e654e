package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// install puts programs of a version into a directory, which it returns.
func install(t *testing.T, dir, version string, names ...string) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range names {
		script := fmt.Sprintf("#!/bin/sh\necho '%s (PostgreSQL) %s'\n", name, version)
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestWhichProgramsAreTaken(t *testing.T) {
	root := t.TempDir()
	whole := []string{"initdb", "postgres", "pg_ctl"}
	wrapper := install(t, filepath.Join(root, "wrapper"), "17.1", "postgres")
	places := []string{filepath.Join(root, "lib/*/bin")}
	old := install(t, filepath.Join(root, "lib/13/bin"), "13.20", whole...)
	fifteen := install(t, filepath.Join(root, "lib/15/bin"), "15.4 (Debian 15.4-1)", whole...)
	sixteen := install(t, filepath.Join(root, "lib/16/bin"), "16rc1", whole...)
	install(t, filepath.Join(root, "lib/18/bin"), "18.0", "initdb", "postgres") // half removed
	links := filepath.Join(root, "links")
	require.NoError(t, os.Mkdir(links, 0o755))
	require.NoError(t, os.Symlink(filepath.Join(fifteen, "postgres"), filepath.Join(links, "postgres")))

	for _, c := range []struct {
		name string
		path string
		want int
		dir  string
	}{
		{"the newest of the usual places", "", 0, sixteen},
		{"what is in PATH before that", fifteen, 0, fifteen},
		{"where a link in PATH leads", links, 0, fifteen},
		{"not a lone wrapper in PATH", wrapper, 0, sixteen},
		{"not one in PATH that is too old", old, 0, sixteen},
		{"the one that made the cluster", sixteen, 15, fifteen},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("PATH", c.path)
			found, err := findPrograms(t.Context(), account{}, places, c.want)
			require.NoError(t, err)
			assert.Equal(t, c.dir, found.dir)
		})
	}
}

func TestMissingProgramsSayWhatToType(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := StartPostgres(t.Context(), PostgresConfig{Dir: dataDir(t), places: []string{}})
	require.ErrorIs(t, err, ErrNoPrograms)
	assert.ErrorContains(t, err, "type: ")

	dir := dataDir(t)
	cluster := filepath.Join(dir, "postgres")
	who, err := accountFor(cluster)
	require.NoError(t, err)
	require.NoError(t, who.own(cluster))
	require.NoError(t, os.WriteFile(filepath.Join(cluster, "PG_VERSION"), []byte("16\n"), 0o600))
	_, err = StartPostgres(t.Context(), PostgresConfig{Dir: dir, places: []string{}})
	require.ErrorIs(t, err, ErrNoPrograms)
	assert.ErrorContains(t, err, "in version 16, which made this cluster")
	assert.Equal(t, "brew install postgresql@16", remedy("darwin", "16"))
	assert.Equal(t, "brew install postgresql@17", remedy("darwin", ""))
}

func TestTheScriptLooksWhereTheProgramDoes(t *testing.T) {
	script, err := os.ReadFile(filepath.Join("..", "..", "scripts", "postgres.sh"))
	require.NoError(t, err)
	for _, place := range usualPlaces() {
		assert.Contains(t, strings.Fields(string(script)), place)
	}
}
