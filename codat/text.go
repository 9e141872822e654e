package codat

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// unquote decodes a valid JSON string. The result is valid UTF-8 without NUL,
// which PostgreSQL cannot hold: bytes that are no UTF-8, halves of surrogate
// pairs and NUL become U+FFFD, and mended tells that it happened.
func unquote(raw []byte) (decoded string, mended bool) {
	inner := raw[1 : len(raw)-1]
	if bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), false
	}
	var b strings.Builder
	b.Grow(len(inner))
	for len(inner) > 0 {
		r, size, ok := nextRune(inner)
		if !ok {
			r, mended = utf8.RuneError, true
		}
		b.WriteRune(r)
		inner = inner[size:]
	}
	return b.String(), mended
}

// nextRune decodes the first character of the inside of a valid JSON string; ok
// is false where text has no place for it.
func nextRune(inner []byte) (r rune, size int, ok bool) {
	if inner[0] != '\\' {
		r, size = utf8.DecodeRune(inner)
		return r, size, r != utf8.RuneError || size > 1
	}
	switch inner[1] {
	case 'u':
		return nextEscape(inner)
	case 'b':
		return '\b', 2, true
	case 'f':
		return '\f', 2, true
	case 'n':
		return '\n', 2, true
	case 'r':
		return '\r', 2, true
	case 't':
		return '\t', 2, true
	}
	return rune(inner[1]), 2, true // quote, backslash, slash
}

// nextEscape decodes \uXXXX, or two of them that are a surrogate pair.
func nextEscape(inner []byte) (r rune, size int, ok bool) {
	r = hex4(inner)
	if !utf16.IsSurrogate(r) {
		return r, 6, r != 0
	}
	if len(inner) >= 12 && inner[6] == '\\' && inner[7] == 'u' {
		if pair := utf16.DecodeRune(r, hex4(inner[6:])); pair != utf8.RuneError {
			return pair, 12, true
		}
	}
	return utf8.RuneError, 6, false
}

func hex4(escape []byte) rune {
	n, _ := strconv.ParseUint(string(escape[2:6]), 16, 16) // valid JSON: cannot fail
	return rune(n)
}

// sanitised returns raw as valid UTF-8 without NUL, at most limit bytes of it.
func sanitised(raw []byte, limit int) string {
	raw = raw[:min(len(raw), limit)] // replacing may make it longer, never needs more
	clean := strings.ToValidUTF8(string(raw), string(utf8.RuneError))
	clean = strings.ReplaceAll(clean, "\x00", string(utf8.RuneError))
	return cut(clean, limit)
}

// cut returns at most limit bytes of valid text, ending on a rune's border.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// printable returns s for use in a message: what is not printable is escaped, so
// that no terminal and no log reader takes it for a command or a new line, and
// the whole is at most limit bytes.
func printable(s string, limit int) string {
	var b strings.Builder
	for _, r := range cut(strings.ToValidUTF8(s, "?"), limit) {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return cut(b.String(), limit)
}

// withoutBOM strips one byte order mark, which some servers put before JSON.
func withoutBOM(body []byte) []byte { return bytes.TrimPrefix(body, []byte("\xEF\xBB\xBF")) }
