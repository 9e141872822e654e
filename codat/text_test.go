package codat

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestUnquote(t *testing.T) {
	for _, c := range []struct {
		name, raw, want string
		mended          bool
	}{
		{"plain text", `"plain é"`, "plain é", false},
		{"every escape", `"\"\\\/\b\f\n\r\tA\u00e9"`, "\"\\/\b\f\n\r\tAé", false},
		{"a surrogate pair", `"\ud83d\ude00"`, "😀", false},
		{"a replacement character that the server wrote", `"\ufffd�"`, "\uFFFD\uFFFD", false},
		{"NUL", `"a\u0000b"`, "a\uFFFDb", true},
		{"half a surrogate pair", `"a\ud800b"`, "a\uFFFDb", true},
		{"the second half alone", `"\udc00"`, "\uFFFD", true},
		{"a half before a whole pair", `"\ud800\ud83d\ude00"`, "\uFFFD😀", true},
		{"a half before another escape", `"\ud800\n"`, "\uFFFD\n", true},
		{"invalid UTF-8", "\"a\xff\xfeb\"", "a\uFFFD\uFFFDb", true},
		{"a surrogate in UTF-8", "\"\xed\xa0\x80\"", "\uFFFD\uFFFD\uFFFD", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.True(t, json.Valid([]byte(c.raw)))
			got, mended := unquote([]byte(c.raw))
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.mended, mended)
		})
	}
}

func TestUnquoteReadsWhatTheStandardLibraryReads(t *testing.T) {
	pieces := rapid.SampledFrom([]string{"a", "é", "😀", `\"`, `\\`, `\/`, `\n`, `\u0041`, `\ud83d`, `\ude00`, `\u0000`, "\xff", "\xe2\x82", "�", `\uFFFD`})
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(`"` + strings.Join(rapid.SliceOf(pieces).Draw(t, "pieces"), "") + `"`)
		var want string
		require.NoError(t, json.Unmarshal(raw, &want))
		got, _ := unquote(raw)
		assert.Equal(t, strings.ReplaceAll(want, "\x00", "\uFFFD"), got)
	})
}

func TestPrintable(t *testing.T) {
	assert.Equal(t, `a\r\nb \x1b[31mred \u202e é`, printable("a\r\nb \x1b[31mred \u202e é", 300))
	assert.Equal(t, "ok?", printable("ok\xff", 300))
	rapid.Check(t, func(t *rapid.T) {
		text, limit := rapid.String().Draw(t, "text"), rapid.IntRange(0, 20).Draw(t, "limit")
		got := printable(text, limit)
		assert.LessOrEqual(t, len(got), limit)
		assert.True(t, utf8.ValidString(got))
		assert.NotContains(t, got, "\n")
	})
}

func TestSanitised(t *testing.T) {
	assert.Equal(t, "a\uFFFDb\uFFFD", sanitised([]byte("a\x00b\xff"), 100))
	rapid.Check(t, func(t *rapid.T) {
		raw, limit := rapid.SliceOf(rapid.Byte()).Draw(t, "raw"), rapid.IntRange(0, 20).Draw(t, "limit")
		got := sanitised(raw, limit)
		assert.LessOrEqual(t, len(got), limit)
		assert.True(t, utf8.ValidString(got))
		assert.NotContains(t, got, "\x00")
	})
}

func TestSplittingFindsWhatTheStandardLibraryFinds(t *testing.T) {
	values := rapid.SampledFrom([]string{`1`, `"a,]}"`, `"\""`, `null`, `[]`, `{}`, `[1, {"x":[]}]`, `{"a":"]"}`, ` true `})
	junk := rapid.SampledFrom([]string{"", "", "", ",", "]", "}", "x", `"`, " "})
	rapid.Check(t, func(t *rapid.T) {
		drawn := rapid.SliceOfN(values, 0, 5).Draw(t, "values")
		raw := "[" + strings.Join(drawn, ",") + junk.Draw(t, "inside") + "]" + junk.Draw(t, "after")
		var want []json.RawMessage
		valid := json.Unmarshal([]byte(raw), &want) == nil
		var got []json.RawMessage
		ok := eachElement([]byte(raw), func(value []byte, depth int) bool {
			got = append(got, value)
			ok := json.Valid(value)
			assert.Equal(t, strings.ContainsAny(string(value[:1]), "[{"), depth > 0)
			valid = valid && ok
			return true
		})
		if valid { // what only json.Valid can refuse is left to it
			require.True(t, ok, raw)
			require.Len(t, got, len(want))
			for i := range want {
				assert.Equal(t, strings.TrimSpace(string(want[i])), string(got[i]))
			}
		}
		if ok && !json.Valid([]byte(raw)) {
			bad := false
			for _, value := range got {
				bad = bad || !json.Valid(value)
			}
			assert.True(t, bad, "%s is invalid, and every part of it valid", raw)
		}
	})
}
