package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

const (
	largestFile  = 1 << 20
	deepestFlow  = 8   // brackets inside one another
	mostKeys     = 200 // beside those of companies: the parser is quadratic in them
	keysOfAnItem = 2
)

// value is a value as somebody wrote it, and where.
type value struct {
	text   string
	origin string
}

// file is what a configuration file says: values by key, and its companies.
type file struct {
	path      string
	known     []string // every key
	values    map[string]value
	companies []company
}

// company is a company and where it is given.
type company struct {
	Company
	origin string
}

// readFile reads a configuration file in which the known keys may be set.
func readFile(path string, known []string) (*file, error) {
	f := &file{path: path, known: append(slices.Clone(known), companiesKey), values: map[string]value{}}
	source, err := readSource(path)
	if err != nil {
		return nil, err
	}
	return f, f.read(source)
}

func readSource(path string) (string, error) {
	f, err := os.Open(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", failf("", "configuration file: %v; correct --config (PUSHWATCH_CONFIG), or leave it out: none is needed", err)
	case err != nil:
		return "", failf("", "configuration file: %v", err)
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, largestFile+1))
	switch {
	case err != nil:
		return "", failf("", "configuration file: %v", err)
	case len(content) > largestFile:
		return "", failf(path, "larger than 1 MiB")
	case !utf8.Valid(content):
		return "", failf(path, "not UTF-8 text")
	}
	return strings.TrimPrefix(string(content), "\ufeff"), nil
}

func (f *file) at(t *token.Token) string {
	if t == nil || t.Position == nil {
		return f.path
	}
	return fmt.Sprintf("%s:%d:%d", f.path, t.Position.Line, max(t.Position.Column, 1))
}

// read takes up the source. What a configuration does not need is refused before
// it is parsed: aliases could unfold into more than memory holds, and nesting
// could exhaust the stack.
func (f *file) read(source string) error {
	tokens := lexer.Tokenize(source)
	if err := f.checkTokens(tokens); err != nil {
		return err
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		return f.syntaxError(err)
	}
	if len(parsed.Docs) == 0 || parsed.Docs[0].Body == nil {
		return nil
	}
	if len(parsed.Docs) > 1 {
		return failf(f.at(parsed.Docs[1].Start), "a second document begins; a configuration is one document")
	}
	return f.takeSection("", parsed.Docs[0].Body)
}

func (f *file) checkTokens(tokens token.Tokens) error {
	depth, keys, items := 0, 0, 0
	var before token.Type
	for _, t := range tokens {
		switch t.Type {
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return failf(f.at(t), "anchors and aliases are not allowed; quote a value that begins with * or &")
		case token.TagType, token.MappingKeyType, token.DirectiveType:
			return failf(f.at(t), "tags, directives and complex keys are not allowed; quote a value that begins with !, %% or ?")
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			if before == t.Type {
				return failf(f.at(t), "a dash behind a dash; every item of a list must hold something")
			}
			items++
		case token.MappingValueType:
			keys++
		}
		if t.Type == token.MappingStartType {
			items++
		}
		if depth > deepestFlow {
			return failf(f.at(t), "nested too deeply")
		}
		if keys > mostKeys+keysOfAnItem*items {
			return failf(f.at(t), "more keys than a configuration has")
		}
		before = t.Type
	}
	return nil
}

func (f *file) syntaxError(err error) error {
	var syntax yaml.Error
	if !errors.As(err, &syntax) {
		return failf(f.path, "not YAML")
	}
	message := syntax.GetMessage()
	switch {
	case strings.Contains(message, "'\t'"):
		message = "indented with a tab; use spaces"
	case strings.Contains(message, "reserved character"):
		message += "; quote a value that begins with it"
	}
	return failf(f.at(syntax.GetToken()), "not YAML: %s", message)
}

// takeSection takes up what is below the keys that path names; path is empty, or
// ends in a dot.
func (f *file) takeSection(path string, node ast.Node) error {
	entries, err := f.entries(node, path)
	if err != nil {
		return err
	}
	first := map[string]*token.Token{}
	for _, entry := range entries {
		name, at := scalarText(entry.Key), entry.Key.GetToken()
		key := path + name
		if key == "data_dir" {
			return failf(f.at(at), "unknown key %q; the data directory is set by --data-dir or PUSHWATCH_DATA_DIR", key)
		}
		if !f.isKey(key) && !f.isSection(key) {
			return f.unknown(path, name, at, nearestKey(key, f.known))
		}
		if before := first[name]; before != nil {
			return failf(f.at(at), "key %q is set again; first in line %d", key, before.Position.Line)
		}
		first[name] = at
		if err := f.take(key, entry.Value); err != nil {
			return err
		}
	}
	return nil
}

// keyLike are names that somebody may have meant for a key.
var keyLike = regexp.MustCompile(`^[A-Za-z_.-]{1,40}$`)

// unknown is the error about a key that is none. What is like no key is not shown: in
// {secret} the secret is a key to YAML.
func (f *file) unknown(path, name string, at *token.Token, near string) error {
	if !keyLike.MatchString(name) {
		return failf(f.at(at), "unknown key, not shown because it may be a secret; a key is made of letters and _ and followed by ': '")
	}
	return failf(f.at(at), "unknown key %q; the nearest is %q", path+name, near)
}

func (f *file) take(key string, node ast.Node) error {
	switch {
	case node.Type() == ast.NullType:
		return nil
	case key == companiesKey:
		return f.takeCompanies(node)
	case f.isSection(key):
		return f.takeSection(key+".", node)
	case !isScalar(node):
		return failf(f.at(begin(node)), "%s: wanted a single value", key)
	}
	f.values[key] = value{scalarText(node), f.at(node.GetToken())}
	return nil
}

func (f *file) takeCompanies(node ast.Node) error {
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		return failf(f.at(begin(node)), "%s: wanted a list of companies, each with an id", companiesKey)
	}
	for i, item := range list.Values {
		c := company{origin: f.at(begin(item))}
		entries, err := f.entries(item, fmt.Sprintf("%s[%d].", companiesKey, i))
		if err != nil {
			return err
		}
		first := map[string]*token.Token{}
		for _, entry := range entries {
			name, at := scalarText(entry.Key), entry.Key.GetToken()
			to := map[string]*string{"id": &c.ID, "name": &c.Name}[name]
			if to == nil {
				return f.unknown(companiesKey+".", name, at, companiesKey+"."+nearest(name, []string{"id", "name"}))
			}
			if before := first[name]; before != nil {
				return failf(f.at(at), "key %q is set again; first in line %d", companiesKey+"."+name, before.Position.Line)
			}
			first[name] = at
			switch {
			case entry.Value.Type() == ast.NullType:
				continue
			case !isScalar(entry.Value):
				return failf(f.at(entry.Value.GetToken()), "%s.%s: wanted a single value", companiesKey, name)
			}
			*to = scalarText(entry.Value)
			if name == "id" {
				c.origin = f.at(entry.Value.GetToken())
			}
		}
		f.companies = append(f.companies, c)
	}
	return nil
}

// entries returns the keys and values of a mapping.
func (f *file) entries(node ast.Node, path string) ([]*ast.MappingValueNode, error) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	case *ast.NullNode:
		return nil, nil
	}
	where := "a configuration"
	if path != "" {
		where = strings.TrimSuffix(path, ".")
	}
	return nil, failf(f.at(begin(node)), "%s: wanted keys and values", where)
}

func (f *file) isKey(key string) bool { return slices.Contains(f.known, key) }

func (f *file) isSection(key string) bool {
	return slices.ContainsFunc(f.known, func(k string) bool { return strings.HasPrefix(k, key+".") })
}

// begin returns the token at which a node begins; that of a mapping in the parser's
// eyes is its first colon.
func begin(node ast.Node) *token.Token {
	switch n := node.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 && !n.IsFlowStyle {
			return n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken()
	}
	return node.GetToken()
}

func isScalar(node ast.Node) bool {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode, *ast.SequenceNode:
		return false
	}
	return true
}

// scalarText returns a scalar as it is written, without quotes: 1_000 stays so,
// for its key to refuse.
func scalarText(node ast.Node) string {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value
	case *ast.LiteralNode:
		return strings.TrimSuffix(n.Value.Value, "\n")
	}
	return node.GetToken().Value
}
