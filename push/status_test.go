package push_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/push"
)

func TestStatusClasses(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		status     push.Status
		documented push.Status // empty: unknown
		terminal   bool
		certain    *bool
	}{
		{"Pending", push.Pending, false, nil},
		{"PENDING", push.Pending, false, nil},
		{"Success", push.Success, true, &yes},
		{"success", push.Success, true, &yes},
		{"Failed", push.Failed, true, &yes},
		{"fAILED", push.Failed, true, &yes},
		{"TimedOut", push.TimedOut, true, &no},
		{"timedout", push.TimedOut, true, &no},
		{"Timed Out", "", false, &no},
		{"Processing", "", false, &no},
		{"Cancelled", "", false, &no},
		{"Succes", "", false, &no},
		{"ſuccess", "", false, &no}, // U+017F folds to s, but is not it
		{" Success", "", false, &no},
		{"", "", false, &no},
	} {
		t.Run(string(c.status), func(t *testing.T) {
			documented, ok := c.status.Documented()
			assert.Equal(t, c.documented, documented)
			assert.Equal(t, c.documented != "", ok)
			assert.Equal(t, c.terminal, c.status.Terminal())
			assert.Equal(t, c.certain, c.status.OutcomeCertain())
		})
	}
}

func TestParseStatusTrimsAndKeepsTheRest(t *testing.T) {
	for raw, want := range map[string]push.Status{
		"Pending": "Pending", "  Success\t\r\n": "Success", "\u00a0Failed\u2003": "Failed",
		"timedOut": "timedOut", "Partly done": "Partly done", " \t": "", "": "",
	} {
		assert.Equal(t, want, push.ParseStatus(raw), "%q", raw)
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.String().Draw(t, "raw")
		got := string(push.ParseStatus(raw))
		if !strings.Contains(raw, got) || got != string(push.ParseStatus(got)) {
			t.Fatalf("%q became %q", raw, got)
		}
	})
}
