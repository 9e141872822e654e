package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// tailed runs tail until it has printed that many lines in all, and returns them.
func (p *past) tailed(lines int, args ...string) string {
	p.Helper()
	cmd := program(p.Context(), p.T, p.environ, append([]string{"tail", "--since", "1h"}, args...)...)
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(p, cmd.Start())
	require.Eventually(p, func() bool { return strings.Count(out.String(), "\n") >= lines }, 30*time.Second, 10*time.Millisecond, strings.Join(args, " "))
	interrupt(p.T, cmd)
	return out.String()
}

func TestFiltersOfTailTakeCommasAndDataTypesThatAreNone(t *testing.T) {
	t.Parallel()
	p := newPast(t, 12, false) // of each company two operations with invoices, two with bills, two with none
	for args, want := range map[string]int{
		"--data-type invoices,bills":                 16,
		"--data-type invoices --data-type bills":     16,
		"--data-type _":                              8,
		"--status failed,success":                    12,
		"--company " + toft + "," + other:            24,
		"--company " + toft + " --data-type _,bills": 8,
	} {
		out := p.tailed(want, strings.Fields(args)...)
		assert.Equal(t, want, strings.Count(out, "\n"), "%s: %s", args, out)
		assert.NotContains(t, out, "WARN", args)
		assert.Regexp(t, `^\d\d:\d\d:\d\dZ  `, out, args)
	}
}

func TestAFilterOfTailThatMeetsNothingIsTold(t *testing.T) {
	t.Parallel()
	p := newPast(t, 2, false)
	for args, value := range map[string]string{
		"--company nobody": "nobody", "--data-type invoises": "invoises", "--status faild,pending": "faild", "--data-type _": "_",
	} {
		out := p.tailed(1, strings.Fields(args)...)
		assert.Contains(t, out, "no event in the stream meets a filter yet", args)
		assert.Contains(t, out, `"value":"`+value+`"`, args)
	}
	for _, command := range []string{"tail", "replay"} {
		for _, flag := range []string{"--company", "--data-type", "--status"} {
			for _, value := range []string{"", "a,,b", " "} {
				got := run(t, p.environ, command, flag, value)
				assert.Equal(t, exitUsage, got.code, "%s %s %q", command, flag, value)
				assert.Contains(t, got.stderr, flag+": a value is empty; leave the flag out for all")
			}
		}
	}
}
