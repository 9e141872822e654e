package main

import "github.com/spf13/cobra"

// complete tells a shell what may stand behind the flags of a command, and that
// where nothing is known it is not the name of a file.
func complete(cmd *cobra.Command) {
	cmd.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	statuses := []cobra.Completion{"pending", "success", "failed", "timedout"}
	if cmd.Name() == "tail" { // of events, which are named so too
		statuses = append(statuses, "stalled", "gone")
	}
	for flag, completion := range map[string]cobra.CompletionFunc{
		"config": func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		"data-dir": func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		"log-level": words("debug", "info", "warn", "error"),
		"status":    words(statuses...),
	} {
		// It fails for a flag that this command has not.
		_ = cmd.RegisterFlagCompletionFunc(flag, completion)
	}
	for _, sub := range cmd.Commands() {
		complete(sub)
	}
}

func words(all ...cobra.Completion) cobra.CompletionFunc {
	return cobra.FixedCompletions(all, cobra.ShellCompDirectiveNoFileComp)
}
