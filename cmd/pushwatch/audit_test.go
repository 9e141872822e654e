package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/internal/audit"
)

// printedAudit returns what the command prints of a report, and what it says beside it.
func printedAudit(t *testing.T, r audit.Report) (printed, said string) {
	var out, told bytes.Buffer
	cmd := &cobra.Command{}
	cmd.SetOut(&out)
	cmd.SetErr(&told)
	require.NoError(t, auditTable(cmd, r))
	return out.String(), told.String()
}

func TestAnAuditAccountsForEveryChange(t *testing.T) {
	printed, said := printedAudit(t, audit.Report{Changes: 12, Published: 9, Waiting: 1, Aside: 2})
	assert.Equal(t, "changes       12\npublished     9\nwaiting       1\nset aside     2\n"+
		"lost          0\nduplicated    0\nout of order  0\nunknown       0\n", printed)
	assert.Equal(t, "1 event is still to be published\n2 events are set aside: see 'pushwatch quarantine list'\n", said)

	printed, said = printedAudit(t, audit.Report{Changes: 30, Published: 20, Lost: 11, OutOfOrder: 1,
		Examples: audit.Examples{Lost: []string{"a-1", "b-1"}, OutOfOrder: []string{"c\n-2"}}})
	assert.Contains(t, printed, "unknown       0\n\nlost          a-1\nlost          b-1\nlost          and 9 more\nout of order  c -2\n")
	assert.Empty(t, said)
}

func TestTheDocumentOfAnAuditNamesItsKindsInOneWord(t *testing.T) {
	encoded, err := json.Marshal(auditDocument(audit.Report{Changes: 3, Waiting: 1, Aside: 2}))
	require.NoError(t, err)
	assert.JSONEq(t, `{"sound": true, "changes": 3, "published": 0, "waiting": 1, "setAside": 2, "damage": [
		{"kind": "lost", "count": 0, "examples": []}, {"kind": "duplicated", "count": 0, "examples": []},
		{"kind": "out_of_order", "count": 0, "examples": []}, {"kind": "unknown", "count": 0, "examples": []}]}`, string(encoded))
}
