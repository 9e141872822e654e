package publisher

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/pushwatch/pushwatch/event"
)

func operationOf(p *event.Pending) event.Operation {
	return event.Operation{CompanyID: p.CompanyID, Key: p.Key, Bucket: p.Bucket}
}

// adopt puts p, and what waits behind it, behind events of its operation that have
// its place in the stream: those of an earlier database, or of commits that this one
// has lost. p is not published under its present id: what is left to tell is pending
// anew.
func (b *batch) adopt(ctx context.Context, p *event.Pending, v verdict) error {
	if b.archive == nil {
		b.reject(ctx, p, v.class, v.detail)
		return nil
	}
	there, err := inherited(ctx, b.stream, p.Filter)
	if err != nil {
		return err
	}
	there = slices.DeleteFunc(there, func(f event.Foreign) bool { return 0 < f.Event.Version && f.Event.Version < p.Version })
	if len(there) == 0 {
		return nil // gone meanwhile: the next pass decides anew
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	adopted, err := b.archive.Adopt(ctx, operationOf(p), b.known.Epoch, there)
	switch {
	case err != nil:
		return err
	case !adopted:
		b.Metrics.resolved.WithLabelValues(byRejected).Inc()
		b.reject(ctx, p, v.class, v.detail)
		return nil
	}
	b.result.Adopted++
	b.Metrics.adopted.Inc()
	b.Metrics.resolved.WithLabelValues(byAdopted).Inc()
	b.log.WarnContext(ctx, "an operation goes on behind events in the stream that the database did not know",
		"company_id", p.CompanyID, "operation", p.Key, "version", there[len(there)-1].Event.Version, "reason", v.detail)
	return nil
}

// inherited returns every message of filter, in order, decoded. One that is no event
// has version 0: somebody else published here, and what there is is no history.
func inherited(ctx context.Context, s Stream, filter string) ([]event.Foreign, error) {
	var all []event.Foreign
	for from := uint64(1); ; {
		msg, err := s.Get(ctx, Query{Next: filter, Sequence: from})
		if err != nil || msg == nil {
			return all, err
		}
		f := event.Foreign{Sequence: msg.Sequence, StoredAt: msg.Time}
		if err := json.Unmarshal(msg.Data, &f.Event); err != nil {
			f.Event = event.Event{}
		}
		all = append(all, f)
		from = msg.Sequence + 1
	}
}
