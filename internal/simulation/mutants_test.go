package simulation

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/fault"
)

// mutants names mechanisms, and what the oracle says when one is left out. Those of
// the relay and of the quota are left out of the code that runs; those of the store
// out of its model, at the place where the store has them.
var mutants = map[string]string{
	fault.ExpectedSequence: `is in the stream twice|stands behind version`,
	fault.ReadBack:         `after the last fault: .* (is pending|is not in the stream|the stream says)`,
	fault.TailAudit:        `after the last fault: .* (is not in the stream|the stream says)`,
	fault.Adoption:         `was set aside as foreign_instance|is recorded as message \d+, which says`,
	fault.FullIsWaiting:    `was set aside as full`,
	fault.Pause:            `a request is admitted, though Codat has told to wait`,
	fault.Fence:            `a write under token \d+ of lease .* is accepted`,
	fault.Stale:            `a look begun .* overwrites one begun`,
	fault.Takeover:         `after the last fault: `,
	fault.Dispute:          `leaves \w+ for \w+ after a single reading`,
}

// TestWithoutAMechanismASeedGoesRed: what the seeds show is worth as much as they
// would notice. Each mechanism is left out in turn, by a build with faults.
func TestWithoutAMechanismASeedGoesRed(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "simulation.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "faults", "-o", binary, ".")
	said, err := build.CombinedOutput()
	require.NoError(t, err, string(said))
	run := func(t *testing.T, mechanism string, seeds int) (failed bool, said string) {
		cmd := exec.CommandContext(t.Context(), binary, "-test.run", "^TestSeeds$", "-bare", "-seeds", strconv.Itoa(seeds))
		cmd.Env = append(cmd.Environ(), "FAULTS_OFF="+mechanism)
		out, err := cmd.CombinedOutput()
		return err != nil, string(out)
	}
	failed, out := run(t, "", 20)
	require.False(t, failed, out)
	complaint := regexp.MustCompile(`seed \d+: .*`)
	for mechanism, want := range mutants {
		t.Run(mechanism, func(t *testing.T) {
			failed, out := run(t, mechanism, 500)
			require.True(t, failed, out)
			red := complaint.FindString(out)
			assert.Regexp(t, want, red, out)
			t.Logf("without %s: %s", mechanism, red)
		})
	}
}
