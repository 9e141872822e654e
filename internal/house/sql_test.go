package house

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	everything = regexp.MustCompile(`(?i)\bselect\s+(distinct\s+)?(\w+\.)?\*|(?i)\breturning\s+(\w+\.)?\*`)
	rowLock    = regexp.MustCompile(`(?i)\bfor\s+(no\s+key\s+update|update|key\s+share|share)\b`)
	statement  = regexp.MustCompile(`(?i)\bselect\b`)
	lineNote   = regexp.MustCompile(`(?m)--.*$`)
	reason     = regexp.MustCompile(`(?i)\b(un)?lock(s|ed|ing)?\b|"for (no key )?update"|"for (key )?share"`)
)

// checkColumns: SQL lists its columns, so that one more changes nothing.
func checkColumns(s source) (findings []string) {
	s.texts(func(n ast.Node, text string) {
		if everything.MatchString(lineNote.ReplaceAllString(text, "")) {
			findings = append(findings, s.at(n, "columns are not listed"))
		}
	})
	return findings
}

// checkRowLocks: whoever locks a row says why, in a comment within or above the
// declaration that holds the statement.
func checkRowLocks(s source) (findings []string) {
	s.texts(func(n ast.Node, text string) {
		lock := rowLock.FindString(lineNote.ReplaceAllString(text, ""))
		if lock == "" || !statement.MatchString(text) || reason.MatchString(strings.Join(lineNote.FindAllString(text, -1), "\n")) {
			return
		}
		for _, d := range s.file.Decls {
			if d.Pos() <= n.Pos() && n.End() <= d.End() && s.explained(d, n) {
				return
			}
		}
		findings = append(findings, s.at(n, "%q and no comment that says why it locks", lock))
	})
	return findings
}

// explained reports whether a comment of the declaration speaks of locks. In a
// group of constants or variables only that of the statement's own counts.
func (s source) explained(d ast.Decl, n ast.Node) bool {
	var around ast.Node = d
	docs := []*ast.CommentGroup{}
	switch d := d.(type) {
	case *ast.FuncDecl:
		docs = append(docs, d.Doc)
	case *ast.GenDecl:
		if !d.Lparen.IsValid() {
			docs = append(docs, d.Doc)
		}
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok && v.Pos() <= n.Pos() && n.End() <= v.End() {
				around = v
				docs = append(docs, v.Doc, v.Comment)
			}
		}
	}
	for _, c := range s.file.Comments {
		if around.Pos() <= c.Pos() && c.End() <= around.End() {
			docs = append(docs, c)
		}
	}
	for _, c := range docs {
		if reason.MatchString(c.Text()) {
			return true
		}
	}
	return false
}

// texts calls f with every string literal of the file. Literals that are put
// together with + are seen one by one.
func (s source) texts(f func(ast.Node, string)) {
	ast.Inspect(s.file, func(n ast.Node) bool {
		if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
			if text, err := strconv.Unquote(literal.Value); err == nil {
				f(literal, text)
			}
		}
		return true
	})
}

func TestSQLKeepsTheRules(t *testing.T) {
	var columns, locks []string
	for _, s := range sources(t) {
		if strings.HasPrefix(s.path, self) {
			continue
		}
		columns = append(columns, checkColumns(s)...)
		locks = append(locks, checkRowLocks(s)...)
	}
	scripts := 0
	for _, name := range files(t) {
		if !strings.HasSuffix(name, ".sql") {
			continue
		}
		scripts++
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		if found := everything.Find(lineNote.ReplaceAll(text, nil)); found != nil {
			columns = append(columns, name+": columns are not listed: "+string(found))
		}
	}
	assert.Positive(t, scripts, "the migrations were not found")
	assert.Empty(t, columns)
	assert.Empty(t, locks)
}

func TestSQLThatBreaksARuleIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		check func(source) []string
		text  string
		bad   int
	}{
		"all columns":                    {checkColumns, "const q = `SELECT *\nfrom t`", 1},
		"all columns over two lines":     {checkColumns, "const q = `select\n  * from t`", 1},
		"all columns of one table":       {checkColumns, "const q = `select t.* from t`", 1},
		"all distinct columns":           {checkColumns, "func f() { g(`select distinct * from t`) }", 1},
		"all columns handed back":        {checkColumns, "const q = `delete from t returning *`", 1},
		"all columns in a note":          {checkColumns, "const q = `select a -- never select *\nfrom t`", 0},
		"a count":                        {checkColumns, "const q = `select count(*) from t`", 0},
		"a product":                      {checkColumns, "const q = `select a * b from t`", 0},
		"a lock that says nothing":       {checkRowLocks, "func f() { g(`select a from t for update`) }", 1},
		"a lock in capitals":             {checkRowLocks, "const q = `SELECT a FROM t\nFOR  UPDATE skip locked`", 1},
		"a share lock":                   {checkRowLocks, "const q = `select a from t for key share`", 1},
		"a lock without the key":         {checkRowLocks, "const q = `select a from t for no key update`", 1},
		"a lock and another comment":     {checkRowLocks, "// f gets a.\nfunc f() { g(`select a from t for update`) }", 1},
		"a lock beside an explained one": {checkRowLocks, "// f locks the row against takeovers.\nfunc f() {}\nfunc h() { g(`select a from t for update`) }", 1},
		"a lock in a group beside one":   {checkRowLocks, "const (\n// p locks.\np = `select a from t for update`\nq = `select a from t for share`)", 1},
		"a lock explained above":         {checkRowLocks, "// q locks the row against takeovers.\nconst q = `select a from t for update`", 0},
		"a lock explained inside":        {checkRowLocks, "func f() {\n// Locked, because two may come.\ng(`select a from t for update`) }", 0},
		"a lock explained in SQL":        {checkRowLocks, "const q = `select a from t\n-- locks what the next statement writes\nfor update`", 0},
		"prose":                          {checkRowLocks, "const q = `ready for update`", 0},
	} {
		findings := c.check(parse(t, "store/a.go", "package store\n"+c.text))
		assert.Len(t, findings, c.bad, "%s: %v", name, findings)
	}
}
