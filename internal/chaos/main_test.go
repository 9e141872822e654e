package chaos

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/store/storetest"
)

var (
	formFlag   = flag.String("form", "short", "how often each fault strikes: short (go test), chaos (ten minutes) or nightly")
	rowsFlag   = flag.String("rows", "", "only these rows, such as C1,C5")
	mutantFlag = flag.String("mutants", "C1", "rows whose mutation check runs: all, none, or a list such as C1,C5")
	tableFlag  = flag.String("table", "", "file for the table of results (Markdown)")
)

// server is the PostgreSQL server of all rows that do not break one.
var server *storetest.Server

func TestMain(m *testing.M) {
	storetest.Main(m, func(s *storetest.Server) { server = s })
}

var buildDir string

// program returns the path of pushwatch, built once: as it is shipped, or with
// points to die at and mechanisms that can be left out.
var program, faultyProgram = sync.OnceValues(build("pushwatch")), sync.OnceValues(build("pushwatch-faults", "-tags", "faults"))

func build(name string, flags ...string) func() (string, error) {
	return func() (string, error) {
		path := filepath.Join(buildDir, name)
		args := append(append([]string{"build"}, flags...), "-o", path, "github.com/pushwatch/pushwatch/cmd/pushwatch")
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
		}
		return path, nil
	}
}

// chosen reports whether a list of the command line names a row.
func chosen(list, id string) bool {
	for name := range strings.SplitSeq(list, ",") {
		if name == "all" || strings.EqualFold(name, id) {
			return true
		}
	}
	return false
}

// TestMatrix strikes each row as often as its form says; the oracle must find
// nothing. Then it runs rows without the mechanism that they guard; the oracle must
// find damage.
func TestMatrix(t *testing.T) {
	form, ok := forms[*formFlag]
	require.True(t, ok, "-form %q: short, chaos or nightly", *formFlag)
	buildDir = t.TempDir()
	require.NoError(t, os.Chmod(buildDir, 0o755)) // programs run as other users too
	t.Cleanup(writeTable)
	for _, r := range rows {
		switch {
		case *rowsFlag != "" && !chosen(*rowsFlag, r.id):
			continue
		case *rowsFlag != "" || r.counts[form] > 0:
			t.Run(r.id, func(t *testing.T) {
				t.Parallel()
				v := judged(t, r, max(r.counts[form], 1), "")
				require.True(t, v.sound(), "%s", v)
			})
		}
		if r.mechanism != "" && chosen(*mutantFlag, r.id) {
			t.Run(r.id+"-without-"+r.mechanism, func(t *testing.T) {
				t.Parallel()
				v := judged(t, r, r.mutant, r.mechanism)
				require.False(t, v.sound(), "the row stays green without %s: it does not guard it", r.mechanism)
			})
		}
	}
}
