package simulation

import (
	"flag"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	oneSeed = flag.Uint64("seed", 0, "replay this seed alone and print its history")
	seeds   = flag.Uint64("seeds", defaultSeeds, "how many seeds TestSeeds runs")
	first   = flag.Uint64("first", 1, "the first of them")
	bare    = flag.Bool("bare", false, "start no PostgreSQL: run the seeds alone")
)

// lines is how much of the history of a failing seed is printed at once.
const lines = 80

// simulate runs a seed to its end.
func simulate(t *testing.T, seed uint64, recording bool) *world {
	w := &world{seed: seed, recording: recording}
	synctest.Test(t, func(*testing.T) {
		time.Sleep(12 * time.Hour) // no day's quota ends in between
		w.live()
	})
	return w
}

// TestSeeds runs thousands of worlds. A failing seed prints the end of its history;
// replayed alone, all of it.
func TestSeeds(t *testing.T) {
	if *oneSeed > 0 {
		w := simulate(t, *oneSeed, true)
		t.Logf("seed %d\n%s", *oneSeed, w.tale(len(w.history)))
		require.Empty(t, w.complaint)
		t.Logf("sound %s after the last fault", w.healed)
		return
	}
	var next, steps, longest atomic.Int64
	next.Store(int64(*first))
	began := time.Now()
	t.Run("all", func(t *testing.T) {
		for range runtime.GOMAXPROCS(0) {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				for !t.Failed() {
					seed := uint64(next.Add(1)) - 1
					if seed >= *first+*seeds {
						return
					}
					w := simulate(t, seed, false)
					steps.Add(int64(w.step))
					for was := longest.Load(); int64(w.healed) > was && !longest.CompareAndSwap(was, int64(w.healed)); was = longest.Load() {
					}
					if w.complaint != "" {
						w = simulate(t, seed, true)
						t.Errorf("seed %d: %s\n%s\nreplay: go test ./internal/simulation -run TestSeeds -seed=%d -v",
							seed, w.complaint, w.tale(lines), seed)
					}
				}
			})
		}
	})
	t.Logf("%d seeds from %d on, %d steps in %s; the slowest was sound %s after its last fault",
		*seeds, *first, steps.Load(), time.Since(began).Round(time.Millisecond), time.Duration(longest.Load()).Round(time.Second))
}

// TestASeedIsOneHistory: whatever the machine does, a seed is the same life.
func TestASeedIsOneHistory(t *testing.T) {
	if *oneSeed > 0 {
		*first, *seeds = *oneSeed, 1
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	for seed := *first; seed < *first+min(*seeds, 30); seed++ {
		runtime.GOMAXPROCS(1)
		one := simulate(t, seed, true)
		runtime.GOMAXPROCS(8)
		many := simulate(t, seed, true)
		require.Greater(t, len(one.history), 100)
		require.Equal(t, one.tale(len(one.history)), many.tale(len(many.history)), "seed %d", seed)
		assert.Equal(t, one.step, simulate(t, seed, false).step, "seed %d without a history", seed)
	}
}
