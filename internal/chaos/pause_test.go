package chaos

import (
	"net/http"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/store"
)

// pausedReplicas stops replicas in the middle of looks for longer than their leases
// last, and lets them go on: what they write then must be refused.
func pausedReplicas(t *trial) verdict {
	const replicas, atOnce, term = 6, 4, 15 * time.Second
	const late, pages = 300 * time.Millisecond, 2 // of a look at what there is after a few times
	w := newWorld(t, options{})
	slow := spoiler(func(_ http.ResponseWriter, r *http.Request) bool {
		select { // so that most replicas wait for an answer when they are stopped
		case <-time.After(late):
		case <-r.Context().Done():
		}
		return false
	})
	w.spoil.Store(&slow)
	all := make([]*daemon, replicas)
	for i := range all {
		all[i] = w.daemon()
	}
	var v verdict
	w.recovers(&v, all[0].started, 30*time.Second)
	v.Recovery = nil
	for i := 0; i < t.n; i += atOnce {
		t.wait(t.between(time.Second, 2*time.Second))
		stopped := t.random.Perm(replicas)[:atOnce]
		for _, j := range stopped {
			require.NoError(t, all[j].Process.Signal(syscall.SIGSTOP))
		}
		since := time.Now()
		w.recoversEverywhere(&v, since, pages*late)
		t.wait(term + time.Second - time.Since(since))
		for _, j := range stopped {
			require.NoError(t, all[j].Process.Signal(syscall.SIGCONT))
		}
		t.struck(i + atOnce)
	}
	refused := func() int { return w.log.count(store.ErrFenced.Error()) }
	w.within(10*time.Second, func() bool { return refused() > 0 })
	v.figure("%d late writes refused", refused())
	v.demand(refused() > 0, "no late write was seen to be refused")
	w.spoil.Store(nil)
	v = w.settle(v)
	for _, d := range all {
		w.stop(d)
	}
	return v
}
