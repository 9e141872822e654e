package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/push"
)

func newOptions() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true}
	cmd := &cobra.Command{
		Use: "options COMPANY CONNECTION DATATYPE", Short: "Show what a push of a data type may contain",
		Long: "Asks Codat (get_model_options) which fields a push of DATATYPE, such as invoices, takes for a\n" +
			"company's connection, and shows them as a tree: * marks what is required. It spends one request.",
		Example: "  pushwatch options 8a210b68-6988-11ed-a1eb-0242ac120002 2e9d2c44-f675-40ba-8049-353bfcb5e171 invoices",
		Args:    arguments("COMPANY", "CONNECTION", "DATATYPE"),
	}
	placeFlags(cmd, &flags)
	form := outputFlag(cmd, "tree", "json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return showOptions(cmd, flags, *form, args) }
	return cmd
}

func showOptions(cmd *cobra.Command, flags config.Flags, form string, args []string) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, running, err := attachRunning(c, log)
	if err != nil {
		return err
	}
	gate := &counted{} // nothing is started for the sake of counting one request
	if running || c.Postgres.External {
		gate = openGate(cmd.Context(), s, log)
	}
	defer gate.Close()
	api := s.codat
	api.Gate, api.UserAgent = gate, "pushwatch/"+version()
	client, err := codat.New(api)
	if err != nil {
		return &configError{err}
	}
	defer client.Close()
	option, err := client.Options(cmd.Context(), args[0], args[1], args[2])
	var refused *push.AskError
	if errors.As(err, &refused) && refused.Kind == push.KindNotFound {
		return fmt.Errorf("%w; check the company, the connection and the data type (as in invoices, bills, journalEntries)", err)
	}
	if err != nil {
		return err
	}
	if form == "json" {
		return writeJSON(cmd.OutOrStdout(), option)
	}
	return writeTree(cmd.OutOrStdout(), args[2], option)
}

// writeTree draws an option with its properties below it, required ones first.
func writeTree(out io.Writer, name string, root codat.Option) error {
	var b strings.Builder
	fmt.Fprintln(&b, optionLine(name, root))
	writeBranch(&b, "", root)
	_, err := io.WriteString(out, b.String())
	return err
}

func writeBranch(b *strings.Builder, indent string, o codat.Option) {
	var lines []string
	for _, choice := range o.Choices {
		line := "= " + printable(choice.Value)
		if choice.DisplayName != "" && choice.DisplayName != choice.Value {
			line += "  " + printable(choice.DisplayName)
		}
		lines = append(lines, line)
	}
	if o.Validation != nil {
		for _, remark := range o.Validation.Warnings {
			lines = append(lines, "! "+printable(remark.Details))
		}
		for _, remark := range o.Validation.Information {
			lines = append(lines, "i "+printable(remark.Details))
		}
	}
	names := slices.SortedFunc(maps.Keys(o.Properties), func(a, b string) int {
		if x, y := o.Properties[a].Required, o.Properties[b].Required; x != y {
			if x {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	last := len(lines) + len(names) - 1
	for i, line := range lines {
		fmt.Fprintln(b, indent+twig(i == last)+line)
	}
	for i, name := range names {
		end := len(lines)+i == last
		fmt.Fprintln(b, indent+twig(end)+optionLine(name, o.Properties[name]))
		deeper := indent + "│  "
		if end {
			deeper = indent + "   "
		}
		writeBranch(b, deeper, o.Properties[name])
	}
}

func twig(last bool) string {
	if last {
		return "└─ "
	}
	return "├─ "
}

// optionLine tells one field: name, whether it is required, type and meaning.
func optionLine(name string, o codat.Option) string {
	line := printable(name)
	if o.Required {
		line += "*"
	}
	line += "  " + printable(o.Type)
	meaning := o.Description
	if meaning == "" {
		meaning = o.DisplayName
	}
	if meaning = strings.TrimSpace(printable(meaning)); meaning != "" && !strings.EqualFold(meaning, name) {
		line += "  " + meaning
	}
	return line
}
