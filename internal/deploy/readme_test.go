package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
)

// Which of README's blocks are run, and which are not:
//
//	sh    every line by bash, in order, but for those of notRun and of make, of
//	      which make -n tells that the targets exist
//	sql   every statement, in the database that those lines have filled
//	yaml  loaded as configuration files (configtable_test.go)
//	json  validated by the schema of the event's type
//	text  read only; the simulator's output is compared with what it prints

// notRun are the commands that nobody runs here, and why. The words behind them
// are looked at all the same (checkUnrun).
var notRun = map[string]string{
	"docker": "there is no engine; docker-compose.yml has tests of its own",
	"nats":   "the nats CLI is no part of this module",
	"go":     "examples/consumer has tests of its own",
}

// block is a fenced block of a page.
type block struct {
	language, text string
	line           int // of its fence
}

// blocks returns README's blocks in a language; all for an empty one.
func blocks(t *testing.T, language string) []block {
	t.Helper()
	return blocksOf(t, "README.md", language)
}

func blocksOf(t *testing.T, page, language string) (found []block) {
	t.Helper()
	var open *block
	for i, line := range strings.Split(text(t, page), "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{language: fence, line: i + 1}
		case isFence:
			if language == "" || open.language == language {
				found = append(found, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	require.Nil(t, open, "a block without an end")
	return found
}

func TestEveryBlockOfREADMEIsOfAKindThatIsTested(t *testing.T) {
	for _, b := range blocks(t, "") {
		assert.Contains(t, []string{"sh", "sql", "yaml", "json", "text"}, b.language, "README.md:%d", b.line)
	}
}

// reader is somebody who types README's commands: one shell after the other, each
// with the variables of those before. Only ports and the data directory are others
// than README's.
type reader struct {
	dir      string // where bin/pushwatch is
	replaced []string
	sim      string // output of the simulator
}

func newReader(t *testing.T) *reader {
	r := &reader{dir: t.TempDir()}
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "bin"), 0o755))
	require.NoError(t, os.Symlink(binary, filepath.Join(r.dir, "bin", "pushwatch")))
	// Not below t.TempDir: the user of the embedded PostgreSQL must enter it.
	parent, err := os.MkdirTemp("", "pushwatch-readme-")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(parent)) })
	require.NoError(t, os.Chmod(parent, 0o755))
	data := filepath.Join(parent, "data")
	r.replaced = []string{"/var/lib/pushwatch", data}
	require.NoError(t, os.WriteFile(r.variables(), []byte("export PUSHWATCH_DATA_DIR="+data+" PUSHWATCH_HTTP_LISTEN=127.0.0.1:0\n"), 0o600))
	return r
}

// variables is the file that carries them from shell to shell.
func (r *reader) variables() string { return filepath.Join(r.dir, "variables") }

func (r *reader) shell(line string) *exec.Cmd {
	line = strings.NewReplacer(r.replaced...).Replace(line)
	cmd := exec.Command("bash", "-euo", "pipefail", "-c", ". "+r.variables()+"\n"+line)
	cmd.Dir = r.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + r.dir, "PGCONNECT_TIMEOUT=10"}
	return cmd
}

// types runs one line.
func (r *reader) types(t *testing.T, line string) {
	switch {
	case strings.HasPrefix(line, "bin/pushwatch codatsim"):
		r.sim = background(t, r.shell("exec "+strings.Replace(line, "127.0.0.1:9090", "127.0.0.1:0", 1)))
		r.replaced = append(r.replaced, "127.0.0.1:9090", said(t, r.sim, simAddress))
	case line == "bin/pushwatch run":
		address := said(t, background(t, r.shell("exec "+line)), httpAddress)
		r.replaced = append(r.replaced, "127.0.0.1:8080", address)
		require.Eventually(t, func() bool { return ready(t, address) }, 30*time.Second, 100*time.Millisecond)
	default:
		if strings.HasPrefix(line, "curl ") {
			line += " --fail" // else an address that is not there passes
		}
		out, err := r.shell(line + "\nexport -p >" + r.variables()).CombinedOutput()
		assert.NoError(t, err, string(out))
	}
}

func ready(t *testing.T, address string) bool {
	response, err := http.Get("http://" + address + "/readyz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode == http.StatusOK
}

func TestTheCommandsOfREADMERun(t *testing.T) {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	r := newReader(t)
	unrun := map[string]bool{}
	for _, b := range blocks(t, "sh") {
		for line := range strings.Lines(b.text) {
			line = strings.TrimSpace(line)
			program, _, _ := strings.Cut(line, " ")
			t.Logf("README.md:%d: %s", b.line, line)
			switch {
			case program == "make":
				dry := exec.CommandContext(t.Context(), "make", append([]string{"-n"}, strings.Fields(line)[1:]...)...)
				dry.Dir = root
				out, err := dry.CombinedOutput()
				assert.NoError(t, err, string(out))
			case notRun[program] != "":
				unrun[program] = true
				checkUnrun(t, line)
			default:
				r.types(t, line)
			}
		}
	}
	assert.Len(t, unrun, len(notRun), "notRun names a command that README does not")
	require.NotEmpty(t, r.sim, "README starts no simulator")
	r.compareOutput(t)
	r.queries(t)
}

// checkUnrun looks at what can be known of a command that is not run.
func checkUnrun(t *testing.T, line string) {
	words := strings.Fields(strings.ReplaceAll(line, "'", ""))
	switch words[0] {
	case "nats":
		for _, word := range words {
			if strings.HasPrefix(word, "codat.") {
				assert.True(t, matches(word, failedInvoice(t).Subject), "%s does not match the subject of a failed invoice", word)
			}
		}
	case "go":
		assert.Equal(t, "run", words[1])
		_, err := os.Stat(filepath.Join(root, words[2], "main.go"))
		assert.NoError(t, err)
	case "docker":
		assert.Equal(t, "compose", words[1])
	}
}

// matches reports whether a filter takes a subject.
func matches(filter, subject string) bool {
	have := strings.Split(subject, ".")
	for i, token := range strings.Split(filter, ".") {
		if token == ">" {
			return i < len(have)
		}
		if i >= len(have) || token != "*" && token != have[i] {
			return false
		}
		have[i] = ""
	}
	return strings.Join(have, "") == ""
}

// compareOutput compares the simulator's output with the one that README shows.
func (r *reader) compareOutput(t *testing.T) {
	printed, err := os.ReadFile(r.sim)
	require.NoError(t, err)
	shown := false
	for _, b := range blocks(t, "text") {
		if strings.Contains(b.text, "PUSHWATCH_CODAT_BASE_URL=") {
			shown = true
			assert.Equal(t, strings.NewReplacer(r.replaced...).Replace(b.text), string(printed), "README.md:%d", b.line)
		}
	}
	assert.True(t, shown)
}

// queries runs README's SQL.
func (r *reader) queries(t *testing.T) {
	out, err := r.shell(`. "$PUSHWATCH_DATA_DIR/connect.env"; printf %s "$DATABASE_URL"`).Output()
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), string(out))
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	statements := blocks(t, "sql")
	require.NotEmpty(t, statements)
	for _, b := range statements {
		_, err := conn.Exec(t.Context(), b.text)
		assert.NoError(t, err, "README.md:%d", b.line)
	}
}

// failedInvoice is the message of README's event.
func failedInvoice(t *testing.T) (message struct{ Subject string }) {
	var e event.Event
	require.NoError(t, json.Unmarshal([]byte(blocks(t, "json")[0].text), &e))
	message.Subject = fmt.Sprintf("codat.push.%s.%s.%s.%s", e.CompanyID, *e.DataType, e.PushOperationKey, e.Event)
	return message
}

func TestTheEventOfREADMEIsValidByItsSchema(t *testing.T) {
	examples := blocks(t, "json")
	require.Len(t, examples, 1)
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(examples[0].text)))
	require.NoError(t, err)
	typ := event.Type(document.(map[string]any)["type"].(string))
	raw, err := event.Schema(typ)
	require.NoError(t, err)
	schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	require.NoError(t, compiler.AddResource(event.SchemaURN(typ), schema))
	compiled, err := compiler.Compile(event.SchemaURN(typ))
	require.NoError(t, err)
	assert.NoError(t, compiled.Validate(document))
}

func TestTheMetricsOfREADMEAreThePrograms(t *testing.T) {
	program := text(t, "publisher/metrics.go") + text(t, "poller/metrics.go") + text(t, "poller/ledger.go") +
		text(t, "cmd/pushwatch/databasemetrics.go")
	readme := text(t, "README.md")
	for _, name := range regexp.MustCompile(`\bpushwatch_[a-z_]+`).FindAllString(readme, -1) {
		if name != "pushwatch_reporting" {
			assert.Contains(t, program, `"`+name+`"`)
		}
	}
	names := regexp.MustCompile(`"(pushwatch_[a-z_]+)"`).FindAllStringSubmatch(program, -1)
	require.Greater(t, len(names), 15)
	for _, name := range names {
		assert.Contains(t, readme, name[1])
	}
}

func TestFiltersMatchAsNATSMatches(t *testing.T) {
	for filter, want := range map[string]bool{
		"a.b.c": true, "a.*.c": true, "a.>": true, "a.b.>": true, "*.*.*": true,
		"a.b": false, "a.b.c.>": false, "a.b.c.*": false, "a.c.>": false, "*.*": false,
	} {
		assert.Equal(t, want, matches(filter, "a.b.c"), filter)
	}
}

func TestTheCommandsThatREADMEListsAreThoseOfTheProgram(t *testing.T) {
	listed := map[string]bool{"completion": true, "help": true} // cobra's own
	for _, row := range regexp.MustCompile("(?m)^\\| `pushwatch ([a-z]+)").FindAllStringSubmatch(text(t, "README.md"), -1) {
		listed[row[1]] = true
	}
	out, err := exec.CommandContext(t.Context(), binary, "--help").Output()
	require.NoError(t, err)
	_, commands, _ := strings.Cut(string(out), "Available Commands:\n")
	commands, _, _ = strings.Cut(commands, "\n\n")
	known := map[string]bool{}
	for command := range strings.Lines(commands) {
		known[strings.Fields(command)[0]] = true
	}
	assert.Equal(t, known, listed)
}
