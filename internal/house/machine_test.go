package house

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// somebodys matches paths that exist on one developer's machine.
var somebodys = regexp.MustCompile(`(?:^|[^\w./~}-])(/home/\w[\w.-]*|/Users/\w[\w.-]*|/(?:root|work)/)`)

// everybodys are paths that only look so: they are the same on every machine.
var everybodys = map[string]string{
	"/home/linuxbrew": "where Homebrew installs on Linux",
}

// checkPaths: nothing that is kept names a place of the machine it was made on.
func checkPaths(name string, text []byte) (findings []string) {
	if bytes.IndexByte(text, 0) >= 0 {
		return nil // no text
	}
	line := 0
	for l := range bytes.Lines(text) {
		line++
		for _, match := range somebodys.FindAllSubmatch(l, -1) {
			if everybodys[string(match[1])] == "" {
				findings = append(findings, fmt.Sprintf("%s:%d: a path of somebody's machine: %s", name, line, match[1]))
			}
		}
	}
	return findings
}

func TestNoFileNamesAPathOfOneMachine(t *testing.T) {
	var findings []string
	for _, name := range files(t) {
		if strings.HasPrefix(name, self) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, name))
		require.NoError(t, err)
		findings = append(findings, checkPaths(name, text)...)
	}
	assert.Empty(t, findings)
}

func TestPathsOfOneMachineAreFound(t *testing.T) {
	const shared = "/" + "work" // this file names no such path either
	for text, bad := range map[string]int{
		"see /home/anna/pushwatch": 1,
		"/home/anna":               1,
		"cd " + shared + "/x && cp x \"/" + "root/.ssh\"": 2,
		"one\ntwo=/Users/anna/x\n":                        1,
		"/home/linuxbrew/.linuxbrew/opt":                  0,
		"https://example.com" + shared + "/items":         0,
		"docs" + shared + "/plan.md, ~" + shared + "/x":   0,
		"${HOME}" + shared + "/x and $HOME" + shared:      0,
		"the /root directory":                             0,
		"\x00 /" + "root/":                                0,
	} {
		assert.Len(t, checkPaths("a.md", []byte(text)), bad, text)
	}
}
