package deploy

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/poller"
)

var update = flag.Bool("update", false, "write README's table of configuration keys")

const (
	tableBegin = "<!-- configuration:begin -->\n"
	tableEnd   = "<!-- configuration:end -->\n"
)

func TestTheConfigurationTableIsThePrograms(t *testing.T) {
	readme := text(t, "README.md")
	before, rest, begun := strings.Cut(readme, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	require.True(t, begun && ended, "README.md has lost the marks around its table")
	want := before + tableBegin + config.Table() + tableEnd + after
	if *update {
		require.NoError(t, os.WriteFile(filepath.Join(root, "README.md"), []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, readme, "type: go test ./internal/deploy -run ConfigurationTable -update")
}

func TestTheConfigurationFilesOfREADMEAreTaken(t *testing.T) {
	files := blocks(t, "yaml")
	require.NotEmpty(t, files)
	schedule := func(spec string) error { _, err := poller.ParseSchedule(spec); return err }
	for _, b := range files {
		file := filepath.Join(t.TempDir(), "pushwatch.yaml")
		require.NoError(t, os.WriteFile(file, []byte(b.text), 0o600))
		_, warnings, err := config.Load(config.Flags{File: file, CheckSchedule: schedule}, []string{"CODAT_API_KEY=k"})
		assert.NoError(t, err, "README.md:%d", b.line)
		assert.Empty(t, warnings)
	}
}
