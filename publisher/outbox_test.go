package publisher

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
)

const instance = "0badcafe"

var errFault = errors.New("injected fault")

// outbox is an outbox in memory that can be made to fail, each call either
// before it takes effect or after (the effect is there, the answer is lost).
// Relays may share it: like the real one without its leases, so as to let them
// race.
type outbox struct {
	mu     sync.Mutex
	rows   []*row
	now    func() time.Time
	before map[string]int // method to how many calls fail so
	after  map[string]int
	calls  map[string]int
	onSent func() // called when Sent begins, without the mutex
}

type row struct {
	event.Pending
	published bool
	forgotten bool // its bytes are not kept any more
	vanished  bool // recorded, but the stream lost it
	sequence  uint64
	epoch     string
	at        time.Time
	rejected  string // class
}

func newOutbox() *outbox {
	return &outbox{now: time.Now, before: map[string]int{}, after: map[string]int{}, calls: map[string]int{}}
}

// add puts the next version of an operation into the outbox.
func (o *outbox) add(company, key, name string) *row {
	o.mu.Lock()
	defer o.mu.Unlock()
	version, previous := int64(1), ""
	for _, r := range o.rows {
		if r.CompanyID == company && r.Key == key {
			version, previous = r.Version+1, r.ID
		}
	}
	stem := event.Subjects(prefix, company, "invoices", key)
	id := event.ID(instance, company, key, version)
	r := &row{Pending: event.Pending{
		Message: event.Message{ID: id, Subject: stem.Subject(name), Filter: stem.Filter(),
			Header: map[string]string{"ce-id": id, "content-type": "application/json"},
			Data:   fmt.Appendf(nil, `{"id":%q}`, id)},
		CompanyID: company, Key: key, Version: version, CreatedAt: o.now(), PreviousID: previous,
	}}
	o.rows = append(o.rows, r)
	return r
}

// fill adds versions of each of so many operations: pending, success, failed, …
func (o *outbox) fill(operations, versions int) {
	names := []string{"pending", "success", "failed", "timedout"}
	for v := range versions {
		for i := range operations {
			o.add("company", fmt.Sprintf("operation.%d", i), names[v%len(names)])
		}
	}
}

// vanish records an event at a sequence at which the stream does not have it.
func (o *outbox) vanish(r *row) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.published, r.vanished, r.sequence, r.at = true, true, 9999, o.now()
}

// arm makes the next calls of method fail.
func (o *outbox) arm(when map[string]int, method string, calls int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	when[method] = calls
}

func (o *outbox) begin(method string) error {
	o.calls[method]++
	if o.before[method] > 0 {
		o.before[method]--
		return fmt.Errorf("%s before its effect: %w", method, errFault)
	}
	return nil
}

func (o *outbox) end(method string) error {
	if o.after[method] > 0 {
		o.after[method]--
		return fmt.Errorf("%s after its effect: %w", method, errFault)
	}
	return nil
}

func (o *outbox) Pending(_ context.Context, after int64, max int) ([]event.Pending, bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.begin("Pending"); err != nil {
		return nil, false, err
	}
	var pending []event.Pending
	waiting, last := map[string]bool{}, map[string]*row{}
	for i, r := range o.rows {
		if place := int64(i + 1); !r.published && r.rejected == "" && !waiting[r.Filter] && place > after && len(pending) < max {
			p := r.Pending
			p.Place, p.ReadAt = place, o.now()
			if before := last[r.Filter]; before != nil {
				p.PreviousSequence, p.PreviousAt = before.sequence, before.at
			}
			pending = append(pending, p)
		}
		waiting[r.Filter] = waiting[r.Filter] || !r.published
		last[r.Filter] = r
	}
	return pending, len(pending) == max, o.end("Pending")
}

func (o *outbox) Sent(_ context.Context, sent []event.Sent) (int, error) {
	if o.onSent != nil {
		o.onSent()
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.begin("Sent"); err != nil {
		return 0, err
	}
	n := 0
	for _, s := range sent {
		if r := o.row(s.Pending.ID); !r.published {
			r.published, r.sequence, r.epoch, r.at = true, s.Sequence, s.Epoch, s.At
			n++
		}
	}
	return n, o.end("Sent")
}

func (o *outbox) Requeue(_ context.Context, lost []event.Lost, within time.Duration) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.begin("Requeue"); err != nil {
		return 0, err
	}
	n := 0
	for _, r := range o.rows {
		for _, l := range lost {
			if r.CompanyID == l.CompanyID && r.Key == l.Key && r.published && r.Version > l.Above && !r.forgotten && (within == 0 || o.now().Sub(r.at) <= within) {
				r.published, r.vanished, r.sequence, r.at = false, false, 0, time.Time{}
				n++
			}
		}
	}
	return n, o.end("Requeue")
}

func (o *outbox) Reject(_ context.Context, p event.Pending, class, _ string) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.begin("Reject"); err != nil {
		return false, err
	}
	r := o.row(p.ID)
	if r.published {
		return false, nil
	}
	r.rejected = class
	return true, o.end("Reject")
}

func (o *outbox) row(id string) *row {
	for _, r := range o.rows {
		if r.ID == id {
			return r
		}
	}
	panic("no event " + id)
}

// count returns how many events are published, pending and rejected.
func (o *outbox) count() (published, pending, rejected int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, r := range o.rows {
		switch {
		case r.published:
			published++
		case r.rejected != "":
			rejected++
		default:
			pending++
		}
	}
	return published, pending, rejected
}

// check holds the stream against the outbox: what is recorded is in the stream
// where the record says; and, per operation, each event once and in order.
func (o *outbox) check(t *testing.T, messages []StoredMessage) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	sequences, versions := map[string]uint64{}, map[string]int64{}
	for _, m := range messages {
		id, ok := event.ParseID(m.ID)
		require.True(t, ok, "message %d has the id %q", m.Sequence, m.ID)
		require.NotContains(t, sequences, m.ID, "stored twice")
		require.Equal(t, versions[id.Operation]+1, id.Version, "out of order at %d", m.Sequence)
		sequences[m.ID], versions[id.Operation] = m.Sequence, id.Version
		require.Equal(t, o.row(m.ID).Subject, m.Subject)
		require.Equal(t, o.row(m.ID).Data, m.Data)
	}
	for _, r := range o.rows {
		if r.published && !r.vanished {
			assert.Equal(t, sequences[r.ID], r.sequence, "event %s is recorded at another place than it is", r.ID)
		}
	}
}

// finished asserts that everything is published, recorded and sound.
func (o *outbox) finished(t *testing.T, messages []StoredMessage) {
	t.Helper()
	o.check(t, messages)
	published, pending, rejected := o.count()
	assert.Zero(t, pending, "still pending")
	assert.Zero(t, rejected, "rejected")
	assert.Len(t, messages, published)
}
