package config

import (
	"fmt"
	"strings"
	"unicode"
)

const longestCompanyID = 256 // bytes; the database's limit

// takeCompanies sets the companies: those of the variable, which replaces the
// whole list, else those of the file.
func (l *loader) takeCompanies(read *file) error {
	companies, origin := read.companies, first(read.path, companiesVariable)
	if text := l.variables[companiesVariable]; text != "" {
		companies, origin = nil, companiesVariable
		for entry := range strings.SplitSeq(text, ",") {
			id, name, _ := strings.Cut(strings.TrimSpace(entry), "=")
			companies = append(companies, company{Company{id, name}, companiesVariable})
		}
	}
	if len(companies) == 0 && !l.args.WithoutCompanies {
		return failf(origin, "%s: none is configured; list them under companies, or set %s=id[=name],…", companiesKey, companiesVariable)
	}
	seen := map[string]int{}
	for i, c := range companies {
		if problem := wrongID(c.ID); problem != "" {
			return failf(c.origin, "%s: the id of number %d %s", companiesKey, i+1, problem)
		}
		if before, ok := seen[c.ID]; ok {
			return failf(c.origin, "%s: %q is configured twice, as number %d and number %d", companiesKey, c.ID, before, i+1)
		}
		seen[c.ID] = i + 1
		l.config.Companies = append(l.config.Companies, Company{ID: c.ID, Name: strings.TrimSpace(c.Name)})
	}
	return nil
}

func wrongID(id string) string {
	switch {
	case id == "":
		return "is empty"
	case strings.ContainsFunc(id, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }):
		return fmt.Sprintf("has white space or control characters in it: %q", id)
	case len(id) > longestCompanyID:
		return fmt.Sprintf("is longer than %d bytes", longestCompanyID)
	}
	return ""
}
