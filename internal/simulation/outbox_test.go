package simulation

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/fault"
	"github.com/pushwatch/pushwatch/push"
)

// owned are the buckets that a process holds, with its fences.
type owned map[int16]push.Fence

// pending returns of each operation the lowest version that is not published, behind
// a place.
func (d *database) pending(o owned, after int64, most int) (pending []event.Pending, more bool) {
	lowest := map[id]int64{}
	for _, r := range d.outbox {
		if v, ok := lowest[id{r.CompanyID, r.Key}]; !ok || r.Version < v {
			lowest[id{r.CompanyID, r.Key}] = r.Version
		}
	}
	for _, r := range d.outbox {
		name := id{r.CompanyID, r.Key}
		if _, ok := o[r.Bucket]; !ok && !fault.Off(fault.BucketLease) || r.rejected != "" || lowest[name] != r.Version || r.id <= after || len(pending) == most {
			continue
		}
		p := r.Pending
		p.Place, p.ReadAt = r.id, d.now()
		if before, ok := d.places[version{name, r.Version - 1}]; ok {
			p.PreviousSequence, p.PreviousAt = before.sequence, before.at
		}
		pending = append(pending, p)
	}
	return pending, len(pending) == most
}

// markSent takes events out of the outbox, but for those whose lease was lost.
func (d *database) markSent(o owned, sent []event.Sent) (n int) {
	for _, s := range sent {
		p := s.Pending
		i := slices.IndexFunc(d.outbox, func(r *row) bool {
			return r.CompanyID == p.CompanyID && r.Key == p.Key && r.Version == p.Version && r.CreatedAt.Equal(p.CreatedAt)
		})
		if i < 0 || d.fence(o[p.Bucket]) != nil {
			continue
		}
		r := d.outbox[i]
		r.place = place{d.now(), s.Sequence, s.Epoch}
		if at := s.At.Add(time.Minute); at.Before(r.at) {
			r.at = at
		}
		d.outbox = slices.Delete(d.outbox, i, i+1)
		d.sent = append(d.sent, r)
		d.places[version{id{p.CompanyID, p.Key}, p.Version}] = r.place
		if n++; d.witness != nil {
			d.witness.recorded(r.ID)
		}
	}
	slices.SortStableFunc(d.sent, func(a, b *row) int {
		return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.sequence, b.sequence))
	})
	return n
}

// requeue makes published events pending again, as they were.
func (d *database) requeue(o owned, lost []event.Lost, within time.Duration) (n int, err error) {
	for _, l := range lost {
		if fenced := d.fence(o[l.Bucket]); fenced != nil {
			err = fenced
			continue
		}
		d.sent = slices.DeleteFunc(d.sent, func(r *row) bool {
			gone := r.CompanyID == l.CompanyID && r.Key == l.Key && r.Version > l.Above && d.young(r, within)
			if gone {
				d.ids++
				r.id = d.ids
				r.Header = maps.Clone(r.Header)
				r.Header[event.HeaderReplayed] = "1"
				d.outbox = append(d.outbox, r)
				delete(d.places, version{id{l.CompanyID, l.Key}, r.Version})
				n++
			}
			return gone
		})
	}
	return n, err
}

func (d *database) reject(o owned, p event.Pending, class string) (waited bool, err error) {
	if err := d.fence(o[p.Bucket]); err != nil {
		return false, err
	}
	for _, r := range d.outbox {
		if r.ID == p.ID {
			r.rejected, waited = class, true
		}
	}
	return waited, nil
}

// young reports whether an event was published within an age, 0 for any.
func (d *database) young(r *row, within time.Duration) bool {
	return within == 0 || d.now().Sub(r.at) <= within
}

// published returns what is kept of published events, oldest first.
func (d *database) published(o owned, within time.Duration) []event.Kept {
	var all []event.Kept
	for _, r := range d.sent {
		if _, ok := o[r.Bucket]; ok && d.young(r, within) {
			all = append(all, event.Kept{Operation: event.Operation{CompanyID: r.CompanyID, Key: r.Key, Bucket: r.Bucket},
				Version: r.Version, ID: r.ID, Filter: r.Filter, Sequence: r.sequence, PublishedAt: r.at})
		}
	}
	return all
}

func (d *database) newest(o owned, within time.Duration, most int) []event.Kept {
	all := d.published(o, within)
	slices.Reverse(all)
	return all[:min(most, len(all))]
}

func (d *database) behind(last event.Kept, o owned, within time.Duration, most int) []event.Kept {
	all := slices.DeleteFunc(d.published(o, within), func(k event.Kept) bool {
		return cmp.Or(k.PublishedAt.Compare(last.PublishedAt), cmp.Compare(k.Sequence, last.Sequence)) <= 0
	})
	return all[:min(most, len(all))]
}

// heirs returns operations without a version that were not compared with the stream.
func (d *database) heirs(o owned, most int) []event.Heir {
	var heirs []event.Heir
	for _, c := range d.companies {
		for key, op := range c.ops {
			bucket := d.bucketOf(id{c.ID, key})
			if _, ok := o[bucket]; ok && op.versions == 0 && !op.compared {
				heirs = append(heirs, event.Heir{Operation: event.Operation{CompanyID: c.ID, Key: key, Bucket: bucket},
					Filter: event.Subjects(event.DefaultPrefix, c.ID, op.subjectDataType, key).Filter()})
			}
		}
	}
	slices.SortFunc(heirs, func(a, b event.Heir) int {
		return cmp.Or(strings.Compare(a.CompanyID, b.CompanyID), strings.Compare(a.Key, b.Key))
	})
	return heirs[:min(most, len(heirs))]
}

func (d *database) settle(o owned, heirs []event.Heir) {
	for _, h := range heirs {
		if d.fence(o[h.Bucket]) == nil {
			d.companies[h.CompanyID].ops[h.Key].compared = true
		}
	}
}

// adopt puts the events of an operation that wait behind others of it in the stream.
func (d *database) adopt(own owned, op event.Operation, epoch string, there []event.Foreign) (bool, error) {
	if err := d.fence(own[op.Bucket]); err != nil {
		return false, err
	}
	o := d.companies[op.CompanyID].ops[op.Key]
	var rows []*row
	aside := false
	for _, r := range d.outbox {
		if r.CompanyID == op.CompanyID && r.Key == op.Key {
			rows, aside = append(rows, r), aside || r.rejected != ""
		}
	}
	slices.SortFunc(rows, func(a, b *row) int { return cmp.Compare(a.Version, b.Version) })
	told := o.versions - int64(len(rows))
	switch {
	case aside, len(rows) == 0 && o.versions > 0, !gapless(there):
		return false, nil
	case len(rows) > 0 && (rows[0].Version != told+1 || rows[len(rows)-1].Version != o.versions):
		return false, nil
	case told > 0 && (there[0].Event.Version != told+1 || there[0].Event.PreviousStatus == nil ||
		*there[0].Event.PreviousStatus != *rows[0].created.PreviousStatus):
		return false, nil
	}
	o.history = slices.DeleteFunc(o.history, func(e event.Event) bool { return e.Version > told })
	for _, m := range there {
		o.history = append(o.history, m.Event)
		d.places[version{id{op.CompanyID, op.Key}, m.Event.Version}] = place{m.StoredAt, m.Sequence, epoch}
		if d.witness != nil {
			d.witness.recorded(m.Event.ID)
		}
	}
	before := there[len(there)-1].Event
	o.versions = before.Version
	if d.witness != nil { // versions go on behind it, whether there is anything to tell or not
		d.witness.committed(d, before, time.Time{})
	}
	if len(rows) == 0 {
		d.compare(o, before)
		return true, nil
	}
	d.outbox = slices.DeleteFunc(d.outbox, func(r *row) bool { return slices.Contains(rows, r) })
	for _, r := range rows {
		e := r.created
		if e.Status == before.Status {
			continue // the stream tells it already
		}
		previous := before.Status
		e.ID, e.Version = event.ID(d.instance, op.CompanyID, op.Key, before.Version+1), before.Version+1
		e.PreviousStatus, e.Baseline = &previous, false
		moved := d.announce(o, e, time.Time{})
		moved.id, moved.CreatedAt, moved.PreviousID = r.id, r.CreatedAt, before.ID
		before = e
	}
	slices.SortFunc(d.outbox, func(a, b *row) int { return cmp.Compare(a.id, b.id) })
	return true, nil
}

// gapless reports whether messages are one history, which may begin late.
func gapless(messages []event.Foreign) bool {
	for i, m := range messages {
		if m.Event.Version < 1 || i > 0 && m.Event.Version != messages[i-1].Event.Version+1 {
			return false
		}
	}
	return len(messages) > 0
}

// compare judges an operation without versions by the last event that is there.
func (d *database) compare(o *operation, before event.Event) {
	source := push.FromList
	if !o.gotAt.IsZero() && o.gotAt.Equal(o.known.LookedAt) {
		source = push.FromGet
	}
	known := push.Known{Status: before.Status}
	switch push.Observe(&known, push.Sight{Status: o.Status, LookedAt: o.known.LookedAt, Source: source}) {
	case push.Changed:
		e := event.New(d.instance, o.Operation, before.Version+1)
		e.PreviousStatus, e.ObservedAt, e.Source = &known.Status, event.Timestamp(o.lastChangedAt), source
		d.announce(o, e, time.Time{})
	case push.Disputed:
		o.known.DisputedStatus, o.known.DisputedAt = o.Status, o.known.LookedAt
		o.Status, o.known.Status = before.Status, before.Status
	}
}
