package config

import (
	"fmt"
	"strings"
	"unicode"
)

// Error is a configuration that cannot be used. Its text is one line and says
// where the mistake is (file, line and column, or the variable or flag), what is
// wrong and what is allowed. It holds no secret.
type Error struct{ problem string }

func (e *Error) Error() string { return e.problem }

// failf returns an Error about what lies at origin, which may be empty.
func failf(origin, format string, args ...any) *Error {
	problem := fmt.Sprintf(format, args...)
	if origin != "" {
		problem = origin + ": " + problem
	}
	return &Error{strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, problem)}
}

// refuse returns the reason why text is no value of a setting.
func refuse(text, wanted string) error {
	const longest = 80
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return fmt.Errorf("%q is not %s", text, wanted)
}
