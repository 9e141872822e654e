package deploy

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// everything is the text of all Go files of the module.
func everything(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	require.NoError(t, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		content, err := os.ReadFile(name)
		all.Write(content)
		return err
	}))
	return all.String()
}

func TestEveryTestAndFunctionThatTheArchitectureNamesExists(t *testing.T) {
	page, code := text(t, "docs/architecture.md"), everything(t)
	tests := regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, tests)
	for _, name := range tests {
		assert.Contains(t, code, "func "+name[1]+"(t *testing.T)")
	}
	functions := regexp.MustCompile("`(?:store|publisher)\\.(?:[A-Z][A-Za-z]+\\.)?([A-Z][A-Za-z]+)`").FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, functions)
	for _, name := range functions {
		assert.Regexp(t, `(?m)^(func \(\w+ \*\w+\) `+name[1]+`\(|type `+name[1]+` )`, code)
	}
}

func TestEveryStepOfTheArchitectureSaysWhatIsTrueAfterACrash(t *testing.T) {
	_, steps, _ := strings.Cut(text(t, "docs/architecture.md"), "| # | step |")
	steps, _, _ = strings.Cut(steps, "\n\n")
	rows := strings.Split(steps, "\n")[2:]
	assert.GreaterOrEqual(t, len(rows), 9)
	for i, row := range rows {
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		require.Len(t, cells, 6, row)
		assert.Equal(t, strconv.Itoa(i+1), cells[0], "the steps are numbered in their order")
		for _, cell := range cells {
			assert.NotEmpty(t, strings.TrimSpace(cell), row)
		}
	}
}

func TestEveryDependencyOfTheModuleHasAParagraph(t *testing.T) {
	adr := text(t, "docs/adr/0005-dependencies.md")
	required := goMod(t).Require
	code := everything(t)
	for _, r := range required {
		if strings.Contains(code, `"`+r.Path) {
			short := strings.TrimPrefix(r.Path, "github.com/")
			assert.Contains(t, adr, short, "%s is imported", r.Path)
		}
	}
}
