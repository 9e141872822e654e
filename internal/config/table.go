package config

import (
	"fmt"
	"strings"
)

// Table returns the reference of all keys as a Markdown table, for the README.
func Table() string {
	var b strings.Builder
	b.WriteString("| key | environment variable | default | meaning |\n|---|---|---|---|\n")
	row := func(key, variables, initial, meaning string) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", key, variables, initial, strings.ReplaceAll(meaning, "|", `\|`))
	}
	for _, s := range settings(new(Config), nil) {
		key := code(s.key)
		if s.flag != "" {
			key = strings.TrimPrefix(key+", "+code(s.flag), ", ")
		}
		variables := code(s.variable())
		if s.also != "" {
			variables += ", " + code(s.also)
		}
		row(key, variables, code(s.initial), s.meaning)
		if s.key == "codat.ca_file" { // the last of its section
			row(code(companiesKey), code(companiesVariable), "", companiesMeaning)
		}
	}
	return b.String()
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}
