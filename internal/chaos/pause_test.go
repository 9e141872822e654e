package chaos

import (
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/store"
)

// pausedReplicas stops replicas in the middle of looks for longer than their leases
// last, and lets them go on: what they write then must be refused.
func pausedReplicas(t *trial) verdict {
	const replicas, atOnce, term = 6, 4, 15 * time.Second
	w := newWorld(t, options{})
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
		answer := w.holdAnswers()
		for _, j := range stopped {
			require.NoError(t, all[j].Process.Signal(syscall.SIGSTOP))
		}
		since := time.Now()
		answer()
		w.recoversEverywhere(&v, since)
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
	v = w.settle(v)
	for _, d := range all {
		w.stop(d)
	}
	return v
}

// holdAnswers holds the answers to all requests back, and returns when one of each
// company waits: whoever is stopped then has something to write when it goes on. What
// it returns lets the answers go.
func (w *world) holdAnswers() (answer func()) {
	var mu sync.Mutex
	waiting, answered := map[string]bool{}, make(chan struct{})
	hold := spoiler(func(_ http.ResponseWriter, r *http.Request) bool {
		mu.Lock()
		for _, company := range w.companies {
			if strings.Contains(r.URL.Path, company) {
				waiting[company] = true
			}
		}
		mu.Unlock()
		select {
		case <-answered:
		case <-r.Context().Done():
		}
		return false
	})
	w.spoil.Store(&hold)
	w.within(10*time.Second, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(waiting) == len(w.companies)
	})
	return func() {
		w.spoil.Store(nil)
		close(answered)
	}
}
