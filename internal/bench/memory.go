package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

const (
	memoryFactor = 10 // events that wait the second time, to those of the first
	heapLook     = 2 * time.Millisecond
)

// memories are the two worlds of the memory measurement, closed: a relay in a
// process of its own opens each.
type memories struct{ few, many backlog }

// backlog is a world in which events wait.
type backlog struct {
	place   place
	history history
	made    int // operations so far
	relayed int
}

// relayOrders tell a process to relay so many events and to watch its memory.
type relayOrders struct {
	Place  place
	Events int
}

// peak is the most memory that the process had.
type peak struct {
	Heap     uint64  // bytes of objects, sampled
	Resident uint64  // bytes, as the kernel kept it
	Seconds  float64 // that the events took
}

// measureMemory relays 10,000 events of 10,000 that wait and of 100,000, each in a
// process of its own, and compares their memory at its highest.
func measureMemory(ctx context.Context, r *rig) (samples, error) {
	if r.remembers == nil {
		r.remembers = &memories{few: backlog{history: history{salt: "few"}}, many: backlog{history: history{salt: "many"}}}
	}
	few, err := r.relayBacklog(ctx, &r.remembers.few, r.waiting)
	if err != nil {
		return nil, err
	}
	many, err := r.relayBacklog(ctx, &r.remembers.many, memoryFactor*r.waiting)
	if err != nil {
		return nil, err
	}
	return samples{"heap-few": mebibytes(few.Heap), "heap-many": mebibytes(many.Heap),
		"rss-few": mebibytes(few.Resident), "rss-many": mebibytes(many.Resident),
		"relay-few": float64(r.waiting) / few.Seconds, "relay-many": float64(r.waiting) / many.Seconds}, nil
}

func mebibytes(n uint64) float64 { return float64(n) / (1 << 20) }

// relayBacklog fills a backlog up to so many events and has some of them relayed.
func (r *rig) relayBacklog(ctx context.Context, b *backlog, waiting int) (peak, error) {
	if err := r.fill(ctx, b, waiting); err != nil {
		return peak{}, err
	}
	var p peak
	relay, err := spawn(ctx, relayOnce, relayOrders{b.place, r.waiting}, &p)
	if err != nil {
		return peak{}, err
	}
	if err := relay.stop(); err != nil {
		return peak{}, err
	}
	return p, r.checkBacklog(ctx, b, waiting)
}

// fill opens the backlog's world, at first a new one, and adds what is missing.
func (r *rig) fill(ctx context.Context, b *backlog, waiting int) (err error) {
	var w *world
	if b.made == 0 {
		w, err = r.world(ctx, emptyDatabase, r.lazy)
	} else {
		w, err = openWorld(ctx, b.place)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if b.made == 0 {
		b.place, b.history.newest = w.place, w.store.Now()
	}
	var operations []push.Operation
	for ; b.made-b.relayed < waiting; b.made++ {
		operations = append(operations, b.history.operation(b.made, false))
	}
	if _, err := w.sweep(ctx, push.RowsOf(operations...), sweepPage); err != nil {
		return err
	}
	return r.analyze(ctx, w)
}

// checkBacklog counts what was relayed; the process may have begun with more when
// it was told to end.
func (r *rig) checkBacklog(ctx context.Context, b *backlog, waiting int) (err error) {
	w, err := openWorld(ctx, b.place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	unsent, _, err := w.store.Backlog(ctx)
	if err != nil {
		return err
	}
	left := int(unsent)
	if left > waiting-r.waiting {
		return fmt.Errorf("%d events are left of %d, at most %d should be", left, waiting, waiting-r.waiting)
	}
	b.relayed = b.made - left
	return w.expect(ctx, counts{operations: b.made, transitions: b.made, waiting: left, publications: b.relayed, messages: b.relayed})
}

// relayAlone is the process: a relay and nothing else.
func relayAlone(in io.Reader, out io.Writer) (err error) {
	ctx := context.Background()
	orders := json.NewDecoder(in)
	var o relayOrders
	if err := orders.Decode(&o); err != nil {
		return err
	}
	w, err := openWorld(ctx, o.Place)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	var p peak
	now := time.Now
	watching := begin(ctx, p.watch)
	started := now()
	err = errors.Join(w.drain(ctx, o.Events), watching.stop())
	if err != nil {
		return err
	}
	p.Seconds = now().Sub(started).Seconds()
	if p.Resident, err = peakResident(); err != nil {
		return err
	}
	return answerAndWait(orders, out, p)
}

// watch keeps the highest heap until ctx ends.
func (p *peak) watch(ctx context.Context) error {
	ticker := time.NewTicker(heapLook)
	defer ticker.Stop()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	for {
		metrics.Read(sample)
		p.Heap = max(p.Heap, sample[0].Value.Uint64())
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// peakResident returns the most memory that this process ever had from the
// system. On Linux getrusage tells that of whoever started it, if that is more.
func peakResident() (uint64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return maxResident()
	}
	for line := range bytes.Lines(status) {
		if value, ok := strings.CutPrefix(string(line), "VmHWM:"); ok {
			kib, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
			return kib << 10, wrapped("read /proc/self/status", err)
		}
	}
	return 0, errors.New("/proc/self/status has no VmHWM")
}

func maxResident() (uint64, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, err
	}
	if runtime.GOOS == "darwin" {
		return uint64(used.Maxrss), nil // in bytes there, in KiB elsewhere
	}
	return uint64(used.Maxrss) << 10, nil
}
