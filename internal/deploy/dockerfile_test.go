package deploy

import (
	"debug/elf"
	"go/version"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheDockerfilesGoIsNoOlderThanTheModuleAsksFor(t *testing.T) {
	tag := regexp.MustCompile(`(?m)^FROM golang:(\d+\.\d+\.\d+)-`).FindStringSubmatch(text(t, "Dockerfile"))
	require.NotNil(t, tag)
	assert.GreaterOrEqual(t, version.Compare("go"+tag[1], "go"+goMod(t).Go), 0, "go.mod asks for %s", goMod(t).Go)
}

// pinned is an image whose tag names one release, to the last number.
var pinned = regexp.MustCompile(`^[a-z]+:\d+\.\d+(\.\d+)?(-[a-z0-9]+)?$`)

func TestTheImageIsPinnedRunsAsNobodyAndHoldsTheRootCertificates(t *testing.T) {
	dockerfile := text(t, "Dockerfile")
	bases := regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(dockerfile, -1)
	require.Len(t, bases, 2)
	for _, base := range bases {
		assert.Regexp(t, pinned, base[1])
	}
	_, final, _ := strings.Cut(dockerfile, bases[1][0])
	assert.Regexp(t, `(?m)^USER [1-9]\d*:[1-9]\d*$`, final)
	assert.Contains(t, final, `ENTRYPOINT ["pushwatch"]`)
	assert.Contains(t, final, "/etc/ssl/certs/ca-certificates.crt", "Codat is asked over https")
	assert.NotRegexp(t, `(?mi)^(ENV|ARG) .*(KEY|TOKEN|PASSWORD|SECRET)`, dockerfile)
}

// The build itself is TestMain's.
func TestTheDockerfilesProgramNeedsNothingFromTheImageAndRuns(t *testing.T) {
	if program, err := elf.Open(binary); err == nil { // elsewhere than on Linux it is no ELF file
		defer func() { require.NoError(t, program.Close()) }()
		for _, segment := range program.Progs {
			assert.NotEqual(t, elf.PT_INTERP, segment.Type, "the program wants a dynamic linker")
		}
	}
	out, err := exec.CommandContext(t.Context(), binary, "version").CombinedOutput()
	require.NoError(t, err, string(out))
	assert.Contains(t, string(out), "pushwatch ")
}

func TestWhatDockerIgnores(t *testing.T) {
	patterns := []string{".git", "*.md", "**/*_test.go", "**/testdata"}
	for name, want := range map[string]bool{
		".git": true, "README.md": true, "docs/a.md": false, "a_test.go": true, "store/a_test.go": true,
		"event/testdata": true, "testdata": true, "event/schema": false, "main.go": false,
	} {
		assert.Equal(t, want, ignored(patterns, name), name)
	}
}
