package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// root is the module's directory, seen from here.
const root = "../.."

// self is this package's folder: its bad examples break the rules on purpose.
const self = "internal/house/"

// source is one Go file, whatever its build constraints say.
type source struct {
	path string // from the module's root, with slashes
	set  *token.FileSet
	file *ast.File
}

func parse(t *testing.T, name string, text any) source {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	return source{name, set, file}
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// at says where a node is, and what is wrong there.
func (s source) at(n ast.Node, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: ", s.path, s.set.Position(n.Pos()).Line) + fmt.Sprintf(format, args...)
}

// imports returns the paths that the file imports.
func (s source) imports() []string {
	var paths []string
	for _, spec := range s.file.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// imported returns the name by which the file knows a package, "" for none.
func (s source) imported(importPath string) string {
	for i, p := range s.imports() {
		switch name := s.file.Imports[i].Name; {
		case p != importPath:
		case name != nil:
			return name.Name
		default:
			return path.Base(p)
		}
	}
	return ""
}

// sources parses every Go file of the module.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	for _, name := range files(t) {
		if strings.HasSuffix(name, ".go") {
			text, err := os.ReadFile(filepath.Join(root, name))
			require.NoError(t, err)
			all = append(all, parse(t, name, text))
		}
	}
	require.Greater(t, len(all), 100, "the module's source was not found")
	return all
}

// files names the files of the module: what git keeps and what it would, or, in a
// copy without git, all there are.
func files(t *testing.T) []string {
	t.Helper()
	list := exec.CommandContext(t.Context(), "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = root
	if out, err := list.Output(); err == nil {
		var names []string
		for name := range strings.SplitSeq(string(bytes.TrimRight(out, "\x00")), "\x00") {
			if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.Mode().IsRegular() {
				names = append(names, name)
			}
		}
		return names
	}
	var names []string
	require.NoError(t, filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.Name() == ".git":
			return fs.SkipDir
		case entry.Type().IsRegular():
			name, err = filepath.Rel(root, name)
			names = append(names, filepath.ToSlash(name))
		}
		return err
	}))
	return names
}

// exception is a place that may break a rule.
type exception struct{ path, why string }

// except drops the findings of excepted places. One that excuses nothing is
// itself a finding, so that the table does not outlive its reasons.
func except(t *testing.T, findings []string, exceptions []exception) []string {
	t.Helper()
	used := make([]bool, len(exceptions))
	var left []string
	for _, f := range findings {
		excused := false
		for i, e := range exceptions {
			require.NotEmpty(t, e.why, e.path)
			if strings.HasPrefix(f, e.path+":") {
				excused, used[i] = true, true
			}
		}
		if !excused {
			left = append(left, f)
		}
	}
	for i, e := range exceptions {
		if !used[i] {
			left = append(left, e.path+": is an exception and does not need to be")
		}
	}
	return left
}
