package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat/codatsim"
)

type simOptions struct {
	listen    string
	companies int
	seed      uint64
	rate      float64
	history   int
	dayLimit  int
}

func newCodatsim() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use: "codatsim", Short: "Run the simulated Codat API alone",
		Long: "Serves a simulated Codat API until SIGINT or SIGTERM. Its API key is that of CODAT_API_KEY, or\n" +
			"\"" + demoKey + "\". Prints the variables that point a daemon at it.",
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error { return runCodatsim(cmd, o) },
	}
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:9090", "address to serve on")
	cmd.Flags().IntVar(&o.companies, "companies", 3, "how many companies push, 1 to 1000")
	cmd.Flags().Uint64Var(&o.seed, "seed", 1, "seed of the simulated world")
	cmd.Flags().Float64Var(&o.rate, "rate", 6, "new operations per company and minute")
	cmd.Flags().IntVar(&o.history, "history", 100, "operations per company from before the start")
	cmd.Flags().IntVar(&o.dayLimit, "day-limit", 0, "requests a day; 0: 1000 x (1 + companies)")
	return cmd
}

func runCodatsim(cmd *cobra.Command, o simOptions) error {
	if o.companies < 1 || o.companies > 1000 {
		return &usageError{fmt.Errorf("--companies %d: allowed are 1 to 1000", o.companies)}
	}
	key := os.Getenv("CODAT_API_KEY")
	if key == "" {
		key = demoKey
	}
	companies := codatsim.MakeCompanies(o.seed, o.companies)
	sim, err := codatsim.New(codatsim.Config{Seed: o.seed, Companies: companies, Key: key,
		Rate: o.rate, History: o.history, DayLimit: o.dayLimit})
	if err != nil {
		return &usageError{err}
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(cmd.Context(), "tcp", o.listen)
	if err != nil {
		return &serviceError{"--listen", err}
	}
	if key == demoKey { // no secret
		fmt.Fprintln(cmd.OutOrStdout(), "CODAT_API_KEY="+demoKey)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "PUSHWATCH_CODAT_BASE_URL=http://%s\nPUSHWATCH_COMPANIES=", listener.Addr())
	for i, c := range companies {
		if i > 0 {
			fmt.Fprint(cmd.OutOrStdout(), ",")
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s", c.ID)
	}
	fmt.Fprintln(cmd.OutOrStdout())
	err = serve(cmd.Context(), listener, sim)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}
