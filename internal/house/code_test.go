package house

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

const mostMethods = 4

// clocks are the places outside cmd that may read the clock by themselves instead
// of taking it from their caller.
var clocks = []exception{}

// waits are the tests outside a bubble that wait for a time and for nothing else.
var waits = []exception{
	{"cmd/pushwatch/replicas_test.go", "processes are killed every two seconds, and Codat takes its time to answer"},
	{"internal/chaos/trial_test.go", "faults strike processes at random moments and for a while"},
	{"internal/chaos/codat_test.go", "a body trickles"},
	{"internal/embedded/orphan_test.go", "a start is killed at each of its moments"},
}

// checkSleeps: a test waits for a signal, or sleeps in virtual time. A timer beside a
// signal says how long that is waited for; alone it is a sleep. It sees what is
// received from, not what a name stands for.
func checkSleeps(s source) (findings []string) {
	if !s.test() || s.imported("testing/synctest") != "" {
		return nil
	}
	findings = s.calls("time.Sleep without testing/synctest", "Sleep")
	beside := map[ast.Node]bool{} // the receives beside a signal
	ast.Inspect(s.file, func(n ast.Node) bool {
		if cases, ok := n.(*ast.SelectStmt); ok {
			var timers []ast.Node
			signals := 0
			for _, c := range cases.Body.List {
				received := received(c.(*ast.CommClause).Comm)
				switch {
				case received != nil && s.timer(received.X):
					timers = append(timers, received)
				case received == nil || !over(received.X):
					signals++
				}
			}
			for _, timer := range timers {
				beside[timer] = signals > 0
			}
		}
		if r, ok := n.(*ast.UnaryExpr); ok && r.Op == token.ARROW && s.timer(r.X) && !beside[r] {
			findings = append(findings, s.at(r, "a wait for a time and nothing else"))
		}
		return true
	})
	return findings
}

// received is what a case of a select receives from; nil if it sends, or is the default.
func received(s ast.Stmt) *ast.UnaryExpr {
	var x ast.Expr
	switch s := s.(type) {
	case *ast.ExprStmt:
		x = s.X
	case *ast.AssignStmt:
		x = s.Rhs[0]
	}
	r, _ := x.(*ast.UnaryExpr)
	return r
}

// timer reports whether a channel is C of a timer, time.After's or time.Tick's.
func (s source) timer(channel ast.Expr) bool {
	if field, ok := channel.(*ast.SelectorExpr); ok {
		return field.Sel.Name == "C"
	}
	for _, name := range []string{"After", "Tick"} {
		if pkg, ok := called(channel, name).(*ast.Ident); ok && pkg.Name == s.imported("time") {
			return true
		}
	}
	return false
}

// over reports whether a channel tells that a context is.
func over(channel ast.Expr) bool {
	of := called(channel, "Done")
	ctx, ok := of.(*ast.Ident)
	return ok && ctx.Name == "ctx" || called(of, "Context") != nil
}

// called is what a method, or a package's function, of that name is called of; nil if
// x is no such call.
func called(x ast.Expr, name string) ast.Expr {
	call, ok := x.(*ast.CallExpr)
	if !ok {
		return nil
	}
	if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == name {
		return f.X
	}
	return nil
}

// checkClock: the clock is a value that is handed in, so that a test can have its
// own. To name time.Now as the default of one is fine; to call it is not.
func checkClock(s source) []string {
	if s.test() || strings.HasPrefix(s.path, "cmd/") {
		return nil
	}
	return s.calls("the clock is read here", "Now", "Since", "Until")
}

// calls finds calls of functions of package time.
func (s source) calls(what string, names ...string) (findings []string) {
	name := s.imported("time")
	if name == "" {
		return nil
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		pkg, ok := selector.X.(*ast.Ident)
		for _, f := range names {
			if ok && pkg.Name == name && selector.Sel.Name == f {
				findings = append(findings, s.at(n, "%s: time.%s", what, f))
			}
		}
		return true
	})
	return findings
}

// checkInit: nothing happens before main.
func checkInit(s source) (findings []string) {
	for _, d := range s.file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
			findings = append(findings, s.at(f, "func init"))
		}
	}
	return findings
}

// checkInterfaces: a small interface is declared where it is called. An embedded
// one counts with its methods where the file declares it too, else as one.
func checkInterfaces(s source) (findings []string) {
	declared := map[string]*ast.InterfaceType{}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if i, ok := spec.Type.(*ast.InterfaceType); ok {
				declared[spec.Name.Name] = i
			}
		}
		return true
	})
	var methods func(*ast.InterfaceType) int
	methods = func(i *ast.InterfaceType) (n int) {
		for _, field := range i.Methods.List {
			embedded, _ := field.Type.(*ast.Ident)
			switch {
			case embedded == nil:
				n += max(1, len(field.Names))
			case declared[embedded.Name] != nil:
				n += methods(declared[embedded.Name])
			default:
				n++
			}
		}
		return n
	}
	ast.Inspect(s.file, func(n ast.Node) bool {
		if i, ok := n.(*ast.InterfaceType); ok && methods(i) > mostMethods {
			findings = append(findings, s.at(n, "an interface of %d methods, at most %d", methods(i), mostMethods))
		}
		return true
	})
	return findings
}

// anywhere matches names that say nothing of what is inside.
var anywhere = regexp.MustCompile(`(^|/|_)\w*(util|utils|common|helper|helpers|manager|managers|types)$`)

// checkName: a package is named by its domain.
func checkName(s source) []string {
	name := strings.TrimSuffix(s.file.Name.Name, "_test")
	folder, _, _ := cutLast(s.path, "/")
	if anywhere.MatchString(name) || anywhere.MatchString(folder) {
		return []string{s.at(s.file.Name, "package %s in %s: a name by the domain says more", name, folder)}
	}
	return nil
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return "", s, false
}

// checkPackageComments: every package says what it guarantees, in words that
// begin with its name as go doc shows it.
func checkPackageComments(all []source) (findings []string) {
	folders, said := map[string]source{}, map[string]bool{}
	for _, s := range all {
		if s.test() {
			continue
		}
		folder, _, _ := cutLast(s.path, "/")
		if _, ok := folders[folder]; !ok {
			folders[folder] = s
		}
		begins := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			begins = "" // a command begins as it likes
		}
		doc := s.file.Doc.Text()
		said[folder] = said[folder] || doc != "" && strings.HasPrefix(doc, begins)
	}
	for folder, s := range folders {
		if !said[folder] {
			findings = append(findings, s.at(s.file.Name, "package %s has no package comment", s.file.Name.Name))
		}
	}
	return findings
}

// checkLeaks: where a package starts goroutines and has tests, they look for those
// that are left.
func checkLeaks(all []source) (findings []string) {
	starts, tested, looks := map[string]source{}, map[string]bool{}, map[string]bool{}
	for _, s := range all {
		folder, _, _ := cutLast(s.path, "/")
		if _, ok := starts[folder]; !ok && s.startsGoroutines() {
			starts[folder] = s
		}
		tested[folder] = tested[folder] || s.test()
		looks[folder] = looks[folder] || s.test() && (s.mentions("goleak", "VerifyTestMain") || s.mentions("storetest", "Main"))
	}
	for folder, s := range starts {
		if tested[folder] && !looks[folder] {
			findings = append(findings, s.at(s.file.Name, "package %s starts goroutines, and its tests do not look for leaks", s.file.Name.Name))
		}
	}
	return findings
}

// startsGoroutines reports whether the file has a go statement, or calls the Go of a
// group.
func (s source) startsGoroutines() (starts bool) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			starts = true
		case *ast.CallExpr:
			f, ok := n.Fun.(*ast.SelectorExpr)
			starts = starts || ok && f.Sel.Name == "Go"
		}
		return !starts
	})
	return starts
}

// mentions reports whether the file names something of a package.
func (s source) mentions(pkg, name string) (does bool) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if f, ok := n.(*ast.SelectorExpr); ok && f.Sel.Name == name {
			of, ok := f.X.(*ast.Ident)
			does = does || ok && of.Name == pkg
		}
		return !does
	})
	return does
}

func TestTheCodeKeepsTheRules(t *testing.T) {
	all := sources(t)
	each := func(check func(source) []string) (findings []string) {
		for _, s := range all {
			findings = append(findings, check(s)...)
		}
		return findings
	}
	assert.Empty(t, except(t, each(checkSleeps), waits), "tests that sleep")
	assert.Empty(t, except(t, each(checkClock), clocks), "clocks that nobody can set")
	assert.Empty(t, each(checkInit), "init functions")
	assert.Empty(t, each(checkInterfaces), "large interfaces")
	assert.Empty(t, each(checkName), "names that say nothing")
	assert.Empty(t, checkPackageComments(all), "packages without a comment")
	assert.Empty(t, checkLeaks(all), "goroutines that nobody looks after")
}

func TestCodeThatBreaksARuleIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		check      func(source) []string
		path, text string
		bad        int
	}{
		"a test that sleeps":                       {checkSleeps, "a/a_test.go", `package a; import "time"; func f() { time.Sleep(1) }`, 1},
		"a test that sleeps, time by another name": {checkSleeps, "a/a_test.go", `package a; import x "time"; func f() { go x.Sleep(1) }`, 1},
		"a test that sleeps in a bubble":           {checkSleeps, "a/a_test.go", `package a; import ("time"; "testing/synctest"); func f() { time.Sleep(1); synctest.Wait() }`, 0},
		"code that sleeps":                         {checkSleeps, "a/a.go", `package a; import "time"; func f() { time.Sleep(1) }`, 0},
		"a test that waits":                        {checkSleeps, "a/a_test.go", `package a; import "time"; func f() { <-time.After(1); <-time.Tick(1); t := time.NewTimer(1); <-t.C }`, 3},
		"a test that waits or is over": {checkSleeps, "a/a_test.go",
			`package a; import "time"; func f(t testing.T) { select { case <-time.After(1): case <-t.Context().Done(): } }`, 1},
		"a test that waits for something": {checkSleeps, "a/a_test.go",
			`package a; import "time"; func f(c chan int) { select { case n := <-c: use(n); case <-time.After(1): }; <-c; <-f() }`, 0},

		"code that reads the clock":        {checkClock, "a/a.go", `package a; import "time"; var t = time.Now().UTC()`, 1},
		"code that reads the clock unsaid": {checkClock, "a/a.go", `package a; import "time"; func f(t time.Time) { _ = time.Since(t); _ = time.Until(t) }`, 2},
		"the clock as a default":           {checkClock, "a/a.go", `package a; import "time"; func f() { c := time.Now; c() }`, 0},
		"a method of that name":            {checkClock, "a/a.go", `package a; import "time"; func f(c interface{ Now() time.Time }) { c.Now() }`, 0},
		"a command that reads the clock":   {checkClock, "cmd/a/a.go", `package main; import "time"; func f() { time.Now() }`, 0},
		"a test that reads the clock":      {checkClock, "a/a_test.go", `package a; import "time"; func f() { time.Now() }`, 0},
		"another package's Now":            {checkClock, "a/a.go", `package a; import ("time"; "b"); func f() { b.Now(time.Second) }`, 0},

		"init":          {checkInit, "a/a.go", `package a; func init() {}`, 1},
		"a method init": {checkInit, "a/a.go", `package a; type t int; func (t) init() {}`, 0},

		"five methods":                  {checkInterfaces, "a/a.go", `package a; type i interface { A(); B(); C(); D(); E() }`, 1},
		"four methods":                  {checkInterfaces, "a/a.go", `package a; type i interface { A(); B(); C(); D() }`, 0},
		"five methods by embedding":     {checkInterfaces, "a/a.go", `package a; type i interface { A(); B(); C() }; type j interface { i; D(); E() }`, 1},
		"five methods in an expression": {checkInterfaces, "a/a.go", `package a; func f(i interface { A(); B(); C(); D(); E() }) {}`, 1},
		"five methods, one from afar":   {checkInterfaces, "a/a.go", `package a; import "io"; type i interface { io.Reader; B(); C(); D(); E() }`, 1},

		"package util":               {checkName, "a/b.go", `package util`, 1},
		"package pgutils":            {checkName, "a/b.go", `package pgutils`, 1},
		"package types":              {checkName, "a/b.go", `package types`, 1},
		"tests of package helpers":   {checkName, "a/b_test.go", `package helpers_test`, 1},
		"a folder common":            {checkName, "internal/common/b.go", `package b`, 1},
		"a folder's file manager.go": {checkName, "internal/b/manager.go", `package b`, 0},
		"package uncommonly":         {checkName, "a/b.go", `package uncommonly`, 0},

		"no package comment":        {one(checkPackageComments), "a/a.go", "package a", 1},
		"a package comment":         {one(checkPackageComments), "a/a.go", "// Package a is good.\npackage a", 0},
		"a comment on another":      {one(checkPackageComments), "a/a.go", "// Package b is good.\npackage a", 1},
		"a comment that is not one": {one(checkPackageComments), "a/a.go", "// Package a is good.\n\npackage a", 1},
		"a command's comment":       {one(checkPackageComments), "cmd/a/a.go", "// A does good.\npackage main", 0},
		"a test without one":        {one(checkPackageComments), "a/a_test.go", "package a", 0},

		"a goroutine in a test":            {one(checkLeaks), "a/a_test.go", `package a; func f() { go f() }`, 1},
		"a goroutine of a group":           {one(checkLeaks), "a/a_test.go", `package a; func f() { group.Go(f) }`, 1},
		"a goroutine that is looked after": {one(checkLeaks), "a/a_test.go", `package a; func f() { go f(); goleak.VerifyTestMain(m) }`, 0},
		"a goroutine without any tests":    {one(checkLeaks), "a/a.go", `package a; func f() { go f() }`, 0},
	} {
		findings := c.check(parse(t, c.path, c.text))
		assert.Len(t, findings, c.bad, "%s: %v", name, findings)
	}
}

func TestExceptionsThatExcuseNothingAreFound(t *testing.T) {
	findings := []string{"a/a.go:3: bad", "a/b.go:4: bad"}
	assert.Equal(t, []string{"a/b.go:4: bad"}, except(t, findings, []exception{{"a/a.go", "it must"}}))
	assert.Len(t, except(t, findings, []exception{{"a/c.go", "it must"}}), 3)
}

func one(check func([]source) []string) func(source) []string {
	return func(s source) []string { return check([]source{s}) }
}
