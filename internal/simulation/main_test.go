package simulation

import (
	"flag"
	"runtime/debug"
	"testing"

	"go.uber.org/goleak"

	"github.com/pushwatch/pushwatch/store/storetest"
)

var server *storetest.Server

// TestMain starts PostgreSQL for the tests that hold the models against it. To
// replay a seed, or to run some, needs none.
func TestMain(m *testing.M) {
	flag.Parse()
	debug.SetGCPercent(400) // many small worlds, one after another
	if *oneSeed > 0 || *bare {
		goleak.VerifyTestMain(m)
	}
	storetest.Main(m, func(s *storetest.Server) { server = s })
}
