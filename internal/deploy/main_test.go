package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// root is the module's directory, seen from here.
const root = "../.."

// binary is the program, built as the Dockerfile builds it.
var binary string

func TestMain(m *testing.M) { goleak.VerifyTestMain(withBinary(m.Run)) }

// withBinary is a run of tests around which the program exists.
type withBinary func() int

// Run implements goleak.TestingM.
func (run withBinary) Run() int {
	dir, err := os.MkdirTemp("", "pushwatch-deploy-")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // litter in the temporary directory
		binary = filepath.Join(dir, "pushwatch")
		err = buildAsDocker(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return run()
}

var buildCommand = regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=0 go build .*) -o /pushwatch (\./cmd/pushwatch)$`)

// buildAsDocker runs the Dockerfile's command on a copy of what .dockerignore
// leaves of the module.
func buildAsDocker(dir string) error {
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return err
	}
	command := buildCommand.FindSubmatch(dockerfile)
	if command == nil {
		return fmt.Errorf("Dockerfile: no line is like %s", buildCommand)
	}
	src := filepath.Join(dir, "src")
	if err := copyContext(src); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf("%s -o '%s' %s", command[1], binary, command[2]))
	build.Dir = src
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("the Dockerfile's build: %w: %s", err, out)
	}
	return os.RemoveAll(src)
}

// ignored returns whether .dockerignore keeps a file out of the image's context.
// It knows the forms of pattern that stand there: a path from the root, with *
// within a name, or **/ and a name.
func ignored(patterns []string, name string) bool {
	for _, pattern := range patterns {
		anywhere, deep := strings.CutPrefix(pattern, "**/")
		if deep {
			if ok, _ := path.Match(anywhere, path.Base(name)); ok { // a bad pattern matches nothing
				return true
			}
		} else if ok, _ := path.Match(pattern, name); ok {
			return true
		}
	}
	return false
}

func copyContext(to string) error {
	text, err := os.ReadFile(filepath.Join(root, ".dockerignore"))
	if err != nil {
		return err
	}
	var patterns []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			patterns = append(patterns, line)
		}
	}
	return filepath.WalkDir(root, func(from string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, from)
		switch {
		case err != nil:
			return err
		case ignored(patterns, filepath.ToSlash(name)) && entry.IsDir():
			return fs.SkipDir
		case ignored(patterns, filepath.ToSlash(name)):
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, name), content, 0o644)
	})
}

// background starts a command whose output goes to a file, and returns the file.
// The test ends the command by SIGINT and waits for it, so the command must not
// be bound to the test's context, which ends earlier and kills.
func background(t *testing.T, cmd *exec.Cmd) (output string) {
	t.Helper()
	output = filepath.Join(t.TempDir(), "output")
	file, err := os.Create(output)
	require.NoError(t, err)
	cmd.Stdout, cmd.Stderr = file, file
	require.NoError(t, cmd.Start())
	require.NoError(t, file.Close()) // the command has its own
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended by itself, which Wait tells
		if err := cmd.Wait(); err != nil {
			text, _ := os.ReadFile(output)
			t.Errorf("%s: %v\n%s", cmd, err, text)
		}
	})
	return output
}

// said waits until a file holds what pattern describes, and returns its group.
func said(t *testing.T, output string, pattern *regexp.Regexp) string {
	t.Helper()
	found := func() [][]byte {
		text, err := os.ReadFile(output)
		assert.NoError(t, err)
		return pattern.FindSubmatch(text)
	}
	if !assert.Eventually(t, func() bool { return found() != nil }, time.Minute, 20*time.Millisecond, "%s was not said", pattern) {
		text, _ := os.ReadFile(output)
		require.FailNow(t, "what was said instead", string(text))
	}
	return string(found()[1])
}

var (
	simAddress  = regexp.MustCompile(`(?m)^PUSHWATCH_CODAT_BASE_URL=http://(.*)$`)
	httpAddress = regexp.MustCompile(`"msg":"running".*"http":"([^"]*)"`)
)

// text returns a file of the module.
func text(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	require.NoError(t, err)
	return string(content)
}

// goMod is what go.mod says.
func goMod(t *testing.T) (mod struct {
	Go      string
	Require []struct{ Path, Version string }
}) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json").Output()
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, &mod))
	return mod
}
