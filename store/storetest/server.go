package storetest

import (
	"context"
	"fmt"
	"os"

	"github.com/pushwatch/pushwatch/internal/embedded"
)

// start starts the test binary's server. Durability is given up: a test that
// needs it uses embedded.StartPostgres with a directory.
func start(ctx context.Context) (url string, stop func(), err error) {
	postgres, err := embedded.StartPostgres(ctx, embedded.PostgresConfig{UnsafeNoFsync: true})
	if err != nil {
		return "", nil, err
	}
	return postgres.URL(), func() {
		if err := postgres.Stop(context.WithoutCancel(ctx)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}
