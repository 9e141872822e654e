package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
)

func TestAnIDTellsItsPartsAgain(t *testing.T) {
	id := event.ID("0badcafe", "company", "key", 12)

	got, ok := event.ParseID(id)

	assert.True(t, ok)
	assert.Equal(t, "0badcafe", got.Instance)
	assert.Equal(t, int64(12), got.Version)
	assert.Equal(t, id, got.Instance+"-"+got.Operation+"-12")
	other, _ := event.ParseID(event.ID("0badcafe", "company", "other", 12))
	assert.NotEqual(t, got.Operation, other.Operation)
}

func TestIDsOfDifferentEventsDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type identity struct {
			company, key string
			version      int64
		}
		draw := rapid.Custom(func(t *rapid.T) identity {
			// Few letters, so that one text's end is often another's beginning.
			text := rapid.StringMatching(`[ab-]{1,4}`)
			return identity{text.Draw(t, "company"), text.Draw(t, "key"), rapid.Int64Range(1, 12).Draw(t, "version")}
		})
		a, b := draw.Draw(t, "a"), draw.Draw(t, "b")
		idA, idB := event.ID("0badcafe", a.company, a.key, a.version), event.ID("0badcafe", b.company, b.key, b.version)
		require.Equal(t, a == b, idA == idB)
		parsed, ok := event.ParseID(idA)
		require.True(t, ok)
		require.Equal(t, a.version, parsed.Version)
		other, _ := event.ParseID(idB)
		require.Equal(t, a.company == b.company && a.key == b.key, parsed.Operation == other.Operation)
	})
}

func TestWhatIDNeverMadeIsNoID(t *testing.T) {
	const operation = "0123456789abcdef0123456789abcdef"
	for name, id := range map[string]string{
		"empty":                        "",
		"somebody's own id":            "order-17",
		"without a version":            "0badcafe-" + operation,
		"version zero":                 "0badcafe-" + operation + "-0",
		"negative version":             "0badcafe-" + operation + "--1",
		"version with a plus":          "0badcafe-" + operation + "-+1",
		"version with a leading zero":  "0badcafe-" + operation + "-01",
		"version beyond 64 bits":       "0badcafe-" + operation + "-9223372036854775808",
		"short instance":               "0badcaf-" + operation + "-1",
		"instance in capitals":         "0BADCAFE-" + operation + "-1",
		"short operation":              "0badcafe-" + operation[1:] + "-1",
		"operation that is no hex":     "0badcafe-" + operation[1:] + "g-1",
		"something behind the version": "0badcafe-" + operation + "-1-2",
	} {
		t.Run(name, func(t *testing.T) {
			_, ok := event.ParseID(id)
			assert.False(t, ok)
		})
	}
}
