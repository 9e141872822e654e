// Command pushwatch watches Codat push operations, keeps their history in
// PostgreSQL and publishes every change to NATS JetStream. This package only
// wires the others: one file a command.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(execute(os.Args[1:]))
}

// execute runs one command and returns the exit code. The first SIGINT or SIGTERM
// ends its context; the second ends the process at once, by the signal's own
// default.
func execute(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	// A reader that goes away, such as head, is a failed write and not the end: the
	// embedded servers that a command started must still be stopped.
	signal.Ignore(syscall.SIGPIPE)
	root := newRoot()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, "pushwatch: "+oneLine(err))
	}
	return exitCode(err)
}

// oneLine returns the error on one line, with nothing that a terminal would act on.
// What several causes tell alike is told once.
func oneLine(err error) string {
	var told []string
	var line strings.Builder
	for part := range strings.SplitSeq(err.Error(), "\n") {
		part = strings.TrimSpace(part)
		if part == "" || slices.Contains(told, part) {
			continue
		}
		switch before := line.String(); {
		case before == "":
		case strings.HasSuffix(before, ":"):
			line.WriteString(" ")
		default:
			line.WriteString("; ")
		}
		line.WriteString(part)
		told = append(told, part)
	}
	return printable(line.String())
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "pushwatch",
		Short:         "Watch Codat push operations and publish every change to NATS JetStream",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          usage(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
	})
	root.AddCommand(newRun(), newDemo(), newCheck(), newStatus(), newShow(), newTail(), newQuarantine(), newAudit(), newReplay(),
		newOptions(), newMigrate(), newCodatsim(), newVersion())
	complete(root)
	return root
}

// arguments wants one argument for each of names, and no other.
func arguments(names ...string) cobra.PositionalArgs {
	return usage(func(_ *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return fmt.Errorf("missing: %s", strings.Join(names[len(args):], " "))
		case len(names) == 0 && len(args) > 0:
			return fmt.Errorf("%q: no argument is taken", args[0])
		case len(args) > len(names):
			return fmt.Errorf("%q: one argument too many behind %s", args[len(names)], strings.Join(names, " "))
		}
		return nil
	})
}

// usage turns a wrong number of arguments into wrong usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return &usageError{fmt.Errorf("%w; see '%s --help'", err, cmd.CommandPath())}
		}
		return nil
	}
}
