package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// outputFlag adds -o, --output with the forms that a command knows; the first is
// the default.
func outputFlag(cmd *cobra.Command, forms ...string) *string {
	form := cmd.Flags().StringP("output", "o", forms[0], "form of the output: "+strings.Join(forms, ", "))
	// It fails only for a flag that does not exist.
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(forms, cobra.ShellCompDirectiveNoFileComp))
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		if !slices.Contains(forms, *form) {
			return &usageError{fmt.Errorf("-o %q: allowed are %s", *form, strings.Join(forms, ", "))}
		}
		if before != nil {
			return before(cmd, args)
		}
		return nil
	}
	return form
}

// writeJSON writes one indented document.
func writeJSON(out io.Writer, value any) error {
	var document bytes.Buffer
	encoder := json.NewEncoder(&document)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err
	}
	_, err := out.Write(shown(out, document.Bytes()))
	return err
}

// printable returns text from elsewhere for a terminal: one line, and nothing
// that a terminal would take for a command.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case commands(r):
			return -1
		}
		return r
	}, text)
}

// commands reports whether a terminal may take a character for a command: control
// characters, and those that turn the direction of what follows.
func commands(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }

// shown returns JSON for out. On a terminal the characters that JSON lets stand
// but the terminal would act on are escaped: it is the same document.
func shown(out io.Writer, document []byte) []byte {
	if !isTerminal(out) || !utf8.Valid(document) {
		return document
	}
	var b bytes.Buffer
	for _, r := range string(document) {
		if r >= 0x7f && r <= 0xffff && commands(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.Bytes()
}

// listing is rows under heads, for -o table and -o csv.
type listing struct {
	heads []string // in lower case
	rows  [][]string
}

func (l *listing) add(cells ...string) { l.rows = append(l.rows, cells) }

// write prints the listing: as CSV every cell as it is, but on a terminal, as a
// table for people.
func (l *listing) write(out io.Writer, form string) error {
	if form == "csv" {
		rows := append([][]string{l.heads}, l.rows...)
		if isTerminal(out) {
			for i, row := range rows {
				rows[i] = make([]string, len(row))
				for j, cell := range row {
					rows[i][j] = printable(cell)
				}
			}
		}
		return csv.NewWriter(out).WriteAll(rows)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, strings.ToUpper(strings.ReplaceAll(strings.Join(l.heads, "\t"), "_", " ")))
	for _, row := range l.rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			if cells[i] = printable(cell); cell == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(table, strings.Join(cells, "\t"))
	}
	return table.Flush()
}

// ago returns how long before now a moment was, in one unit; "" for the zero time.
func ago(now, at time.Time) string {
	d := max(now.Sub(at), 0)
	switch {
	case at.IsZero():
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// moment returns a time for people: UTC, to the millisecond; "-" for none.
func moment(at *time.Time) string {
	if at == nil || at.IsZero() {
		return "-"
	}
	return at.UTC().Format("2006-01-02 15:04:05.000Z")
}

// optionalTime returns nil for the zero time: null in JSON.
func optionalTime(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// plural returns "1 thing" or "n things".
func plural(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// printableLines is printable for text of several lines.
func printableLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// facts are named values, one a line.
type facts []string

func (f *facts) add(name, value string) { *f = append(*f, name+"\t"+printable(value)) }

func (f *facts) write(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, line := range *f {
		fmt.Fprintln(table, line)
	}
	return table.Flush()
}
