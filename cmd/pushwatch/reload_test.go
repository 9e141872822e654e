package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

// writers are the ways in which configuration files change.
var writers = map[string]func(t *testing.T, file string) (write func(text string)){
	"in place": func(t *testing.T, file string) func(string) {
		return func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	},
	"by a rename, as editors do": func(t *testing.T, file string) func(string) {
		return func(text string) {
			fresh := file + ".new"
			require.NoError(t, os.WriteFile(fresh, []byte(text), 0o600))
			require.NoError(t, os.Rename(fresh, file))
		}
	},
	// The file is a link to ..data/file, and ..data one to a directory of the version.
	"by swapping a link, as Kubernetes does": func(t *testing.T, file string) func(string) {
		mount, name := filepath.Split(file)
		data, fresh := filepath.Join(mount, "..data"), filepath.Join(mount, "..data_tmp")
		require.NoError(t, os.Symlink(filepath.Join("..data", name), file))
		return func(text string) {
			version, err := os.MkdirTemp(mount, "..version_")
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(version, name), []byte(text), 0o600))
			old, _ := os.Readlink(data) // the first time there is none
			require.NoError(t, os.Symlink(filepath.Base(version), fresh))
			require.NoError(t, os.Rename(fresh, data))
			if old != "" {
				require.NoError(t, os.RemoveAll(filepath.Join(mount, old)))
			}
		}
	},
}

func TestCompaniesAndSchedulesChangeWithoutARestart(t *testing.T) {
	for name, writer := range writers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pushwatch.yaml")
			changesWithoutARestart(t, file, writer(t, file))
		})
	}
}

func changesWithoutARestart(t *testing.T, file string, write func(text string)) {
	w := newWorld(t, codatsim.Config{Companies: codatsim.MakeCompanies(7, 2)})
	says := func(what string) {
		t.Helper()
		require.Eventually(t, func() bool { return strings.Contains(w.log.String(), what) }, 30*time.Second, 20*time.Millisecond, what)
	}
	asked := func(company int) int { return w.sim.Stats().ByCompany[w.companies[company]] }
	grows := func(company int) {
		t.Helper()
		before := asked(company)
		require.Eventually(t, func() bool { return asked(company) > before+1 }, 30*time.Second, 20*time.Millisecond)
	}
	one := fmt.Sprintf("companies: [{id: %s}]\n", w.companies[0])
	both := fmt.Sprintf("companies: [{id: %s}, {id: %s, name: Second}]\n", w.companies[0], w.companies[1])
	write(one)
	environ := w.environ("PUSHWATCH_COMPANIES=", "PUSHWATCH_POLL_TRACK=", "PUSHWATCH_LOG_LEVEL=", "PUSHWATCH_QUOTA_RESERVE=")
	cmd := program(t.Context(), t, environ, "run", "--http-listen", "127.0.0.1:0", "--config", file)
	cmd.Stdout, cmd.Stderr = &w.log, &w.log
	require.NoError(t, cmd.Start())
	w.awaitRequests(t, 3)
	assert.Zero(t, asked(1))

	write(both + "poll: {track: '@every 1s'}\nlog: {level: debug}\n")
	says("configuration reloaded")
	grows(1)
	grows(0)
	says("level=DEBUG")

	write(both + "pol: {}\n")
	says("configuration not reloaded; the old one stays in force")
	says(`2:1: unknown key \"pol\"`)
	grows(1)

	write(both + "nats: {max_age: 1h}\n")
	says("changed keys take effect at the next start")
	says("nats.max_age")

	write(both + "nats: {max_age: 1h}\nquota: {reserve: 0.25}\n")
	says(`msg="configuration reloaded" keys=[quota.reserve]`)

	write(one)
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.Eventually(t, func() bool {
		return w.query(t, `select count(*) from pushwatch.lease where holder is not null and name like 'company/%'`) == 1
	}, 30*time.Second, 50*time.Millisecond)
	grows(0)
	assert.Equal(t, int64(2), w.query(t, `select count(*) from pushwatch.walk where kind = 'baseline'`), "nothing was begun anew")
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	require.NoError(t, cmd.Wait())
}
