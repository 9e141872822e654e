package house

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/pushwatch/pushwatch/"

// listed is a package as go list tells of it.
type listed struct {
	ImportPath string
	Standard   bool
	Name       string
	Imports    []string // of its code without tests
	Deps       []string // the same, and what those import
}

func (p listed) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func parseList(r io.Reader) ([]listed, error) {
	var all []listed
	for decoder := json.NewDecoder(r); ; {
		var p listed
		switch err := decoder.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, p)
	}
}

func goList(t *testing.T) []listed {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-buildvcs=false", "-deps",
		"-json=ImportPath,Standard,Name,Imports,Deps", "./...")
	list.Dir = root
	var complaint bytes.Buffer
	list.Stderr = &complaint
	out, err := list.Output()
	require.NoError(t, err, complaint.String())
	all, err := parseList(bytes.NewReader(out))
	require.NoError(t, err)
	return all
}

// siblings is what each of these packages may import of this module, directly or
// through others. A package that is not here may import any but cmd.
var siblings = map[string][]string{
	"push":              {},
	"event":             {"push"},
	"codat":             {"push", "internal/fault"},
	"codat/codatsim":    {}, // a second reading of the API
	"poller":            {"push", "internal/fault"},
	"store":             {"push", "event", "migrations", "internal/fault"},
	"publisher":         {"push", "event", "internal/fault"},
	"migrations":        {},
	"internal/embedded": {},
	"internal/fault":    {},
}

// leaves import nothing but the standard library and what siblings says.
var leaves = []string{"push", "event"}

// forTests are packages that no shipped code may contain.
var forTests = []string{"github.com/stretchr/testify", "pgregory.net/rapid", "go.uber.org/goleak", module + "store/storetest"}

// helpsTests are the packages that exist for tests, so that they may contain forTests.
var helpsTests = []string{"store/storetest"}

func checkImports(all []listed) (findings []string) {
	standard := map[string]bool{"C": true, "unsafe": true}
	for _, p := range all {
		standard[p.ImportPath] = standard[p.ImportPath] || p.Standard
	}
	found := func(p listed, what, imported string) {
		findings = append(findings, p.name()+": "+what+" "+imported)
	}
	for _, p := range all {
		if !strings.HasPrefix(p.ImportPath, module) {
			continue
		}
		allowed, limited := siblings[p.name()]
		command := strings.HasPrefix(p.name(), "cmd/")
		for _, dep := range p.Deps {
			sibling, ours := strings.CutPrefix(dep, module)
			switch {
			case ours && strings.HasPrefix(sibling, "cmd/"), ours && limited && !slices.Contains(allowed, sibling):
				found(p, "must not import", dep)
			case !ours && !standard[dep] && slices.Contains(leaves, p.name()):
				found(p, "is a leaf and must not import", dep)
			case !command && strings.HasPrefix(dep, "github.com/spf13/cobra"):
				found(p, "only cmd may import", dep)
			}
		}
		for _, imported := range p.Imports {
			for _, pkg := range forTests {
				if (imported == pkg || strings.HasPrefix(imported, pkg+"/")) && !slices.Contains(helpsTests, p.name()) {
					found(p, "only tests may import", imported)
				}
			}
		}
	}
	return findings
}

func TestImportsFlowOneWay(t *testing.T) {
	all := goList(t)
	assert.Empty(t, checkImports(all))
	for name := range siblings {
		assert.True(t, slices.ContainsFunc(all, func(p listed) bool { return p.name() == name }), "there is no package %s", name)
	}
}

func TestImportsThatFlowOtherwiseAreFound(t *testing.T) {
	ours := func(name string, deps ...string) listed {
		return listed{ImportPath: module + name, Imports: deps, Deps: deps}
	}
	standard := listed{ImportPath: "fmt", Standard: true}
	for name, c := range map[string]struct {
		p   listed
		bad bool
	}{
		"a leaf with the standard library":         {ours("push", "fmt"), false},
		"a leaf with a library":                    {ours("push", "golang.org/x/sync/errgroup"), true},
		"event with push":                          {ours("event", module+"push"), false},
		"push with event":                          {ours("push", module+"event"), true},
		"event with a library":                     {ours("event", "github.com/stretchr/testify/assert"), true},
		"poller with store":                        {ours("poller", module+"store"), true},
		"store with poller":                        {ours("store", module+"poller"), true},
		"codat with publisher":                     {ours("codat", module+"publisher"), true},
		"publisher with codat":                     {ours("publisher", module+"codat"), true},
		"publisher with store through another":     {listed{ImportPath: module + "publisher", Imports: []string{module + "event"}, Deps: []string{module + "event", module + "store"}}, true},
		"store with event":                         {ours("store", module+"event", module+"migrations"), false},
		"the simulator with the client":            {ours("codat/codatsim", module+"codat"), true},
		"the embedded servers with a sibling":      {ours("internal/embedded", module+"internal/config"), true},
		"a new package with a command":             {ours("web", module+"cmd/pushwatch"), true},
		"a new package with anything else":         {ours("web", module+"store", "github.com/jackc/pgx/v5"), false},
		"cobra in a command":                       {ours("cmd/pushwatch", "github.com/spf13/cobra"), false},
		"cobra elsewhere":                          {ours("internal/config", "github.com/spf13/cobra"), true},
		"testify in shipped code":                  {ours("internal/audit", "github.com/stretchr/testify/require"), true},
		"rapid in shipped code":                    {ours("internal/audit", "pgregory.net/rapid"), true},
		"goleak in shipped code":                   {ours("cmd/pushwatch", "go.uber.org/goleak"), true},
		"the tests' database in shipped code":      {ours("cmd/pushwatch", module+"store/storetest"), true},
		"testify in the tests' database":           {ours("store/storetest", "github.com/stretchr/testify/require"), false},
		"a library whose name begins like rapid's": {ours("internal/audit", "pgregory.net/rapidly"), false},
	} {
		findings := checkImports([]listed{standard, c.p})
		assert.Equal(t, c.bad, len(findings) > 0, "%s: %v", name, findings)
	}
}
