package deploy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/config"
)

// inputRows is how many kinds of bad input the page must tell of.
const inputRows = 60

// testsOf returns the tests of the module by name, each with the texts that stand
// in the test files of its package: the names of its cases are among them.
func testsOf(t *testing.T) map[string]map[string]bool {
	t.Helper()
	tests, texts := map[string]map[string]bool{}, map[string]map[string]bool{}
	require.NoError(t, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		folder := filepath.Dir(name)
		if texts[folder] == nil {
			texts[folder] = map[string]bool{}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				if text, err := strconv.Unquote(literal.Value); err == nil {
					texts[folder][text] = true
				}
			}
			return true
		})
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && strings.HasPrefix(f.Name.Name, "Test") {
				tests[f.Name.Name] = texts[folder]
			}
		}
		return nil
	}))
	return tests
}

func TestEveryKindOfBadInputHasTestsThatExist(t *testing.T) {
	tests := testsOf(t)
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| (.*) \|$`).FindAllStringSubmatch(text(t, "docs/bad-input.md"), -1)
	require.Len(t, rows, inputRows)
	for i, row := range rows {
		assert.Equal(t, strconv.Itoa(i+1), row[1], "the rows are numbered in their order")
		cells := strings.Split(row[2], " | ")
		require.Len(t, cells, 3, row[0])
		named := regexp.MustCompile("`(Test[^`]*)`").FindAllStringSubmatch(cells[2], -1)
		assert.NotEmpty(t, named, "row %s names no test", row[1])
		for _, name := range named {
			test, of, has := strings.Cut(name[1], "/")
			if assert.Contains(t, tests, test, "row %s", row[1]) && has {
				assert.True(t, tests[test][of], "row %s: %s has no case %q", row[1], test, of)
			}
		}
	}
}

func TestEveryTestAndKeyThatTheSecurityPageNamesExists(t *testing.T) {
	page, tests, keys := text(t, "docs/security.md"), testsOf(t), config.Table()
	for _, name := range regexp.MustCompile("`(Test[A-Za-z]+)`").FindAllStringSubmatch(page, -1) {
		assert.Contains(t, tests, name[1])
	}
	named := regexp.MustCompile("`((?:codat|http|nats|postgres|events|retention)\\.[a-z_]+)`").FindAllStringSubmatch(page, -1)
	require.NotEmpty(t, named)
	for _, key := range named {
		assert.Contains(t, keys, "`"+key[1]+"`")
	}
}
