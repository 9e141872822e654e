package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	pageName = "performance.md"
	plotName = "performance.svg"

	// What stands between these lines of the page is written by this program.
	docsBegin = "<!-- bench:begin -->"
	docsEnd   = "<!-- bench:end -->"

	scaleBegin = "<!-- bench-scale:begin -->"
	scaleEnd   = "<!-- bench-scale:end -->"
)

// updateDocs writes the tables into the page in a directory, and the plot beside
// it. A run of some measurements alone is refused: it would take the others away.
func (r *report) updateDocs(dir string) error {
	if some, all := len(r.Ratios), len(comparisons()); some < all {
		return fmt.Errorf("-update: %d of %d ratios were measured, all are needed", some, all)
	}
	if err := updatePage(dir, docsBegin, docsEnd, r.markdown()); err != nil {
		return err
	}
	picture, err := r.plot()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, plotName), picture, 0o644)
}

// updatePage writes text between two lines of the page in a directory.
func updatePage(dir, begin, end, text string) error {
	path := filepath.Join(dir, pageName)
	page, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, err = between(page, begin, end, text)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, page, 0o644)
}

// between replaces what stands between the markers of a page.
func between(page []byte, begin, end, text string) ([]byte, error) {
	before, rest, ok := bytes.Cut(page, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return nil, fmt.Errorf("the lines %s and %s are needed", begin, end)
	}
	return slices.Concat(before, []byte(begin+"\n"+text+end), after), nil
}

// markdown is the report as the page shows it.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", r.how())
	b.WriteString("| what | median | range | target | |\n|---|---|---|---|---|\n")
	for _, c := range r.Ratios {
		fmt.Fprintf(&b, "| %s | %s | %s to %s | %s | %s |\n", c.Title, number(c.Median), number(c.Min), number(c.Max), c.wanted(), c.verdict())
	}
	b.WriteString("\n| rates behind them | median | range | unit |\n|---|---|---|---|\n")
	for _, m := range r.Measurements {
		fmt.Fprintf(&b, "| %s | %s | %s to %s | %s |\n", m.Title, number(m.Median), number(m.Min), number(m.Max), m.Unit)
	}
	b.WriteString("\n| cores at work meanwhile | pushwatch | PostgreSQL | NATS |\n|---|---|---|---|\n")
	for _, c := range r.Busy {
		fmt.Fprintf(&b, "| %s | %.2f | %.2f | %.2f |\n", c.Title, c.Pushwatch, c.PostgreSQL, c.NATS)
	}
	return b.String()
}
