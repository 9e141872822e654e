package publisher

import (
	"context"
	"encoding/json"

	"github.com/pushwatch/pushwatch/event"
)

func operationOf(p *event.Pending) event.Operation {
	return event.Operation{CompanyID: p.CompanyID, Key: p.Key, Bucket: p.Bucket}
}

// adopt puts the operation of p, of which this database has published nothing,
// behind what an earlier database published of it. p is not published under its
// present id: what is left to tell is pending anew.
func (b *batch) adopt(ctx context.Context, p *event.Pending, v verdict) error {
	if b.archive == nil {
		b.reject(ctx, p, classForeignInstance, v.detail)
		return nil
	}
	there, err := inherited(ctx, b.stream, p.Filter)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	adopted, err := b.archive.Adopt(ctx, operationOf(p), b.known.Epoch, there)
	switch {
	case err != nil:
		return err
	case !adopted:
		b.Metrics.resolved.WithLabelValues(byRejected).Inc()
		b.reject(ctx, p, classForeignInstance, v.detail)
		return nil
	}
	b.result.Adopted++
	b.Metrics.adopted.Inc()
	b.Metrics.resolved.WithLabelValues(byAdopted).Inc()
	b.log.WarnContext(ctx, "an operation goes on behind what an earlier database published of it",
		"company_id", p.CompanyID, "operation", p.Key, "version", there[len(there)-1].Event.Version)
	return nil
}

// inherited returns every message of filter, in order, decoded; none of them when one
// is no event: somebody else published here, and what there is is no history.
func inherited(ctx context.Context, s Stream, filter string) ([]event.Foreign, error) {
	var all []event.Foreign
	for from := uint64(1); ; {
		msg, err := s.Get(ctx, Query{Next: filter, Sequence: from})
		if err != nil || msg == nil {
			return all, err
		}
		f := event.Foreign{Sequence: msg.Sequence, StoredAt: msg.Time}
		if err := json.Unmarshal(msg.Data, &f.Event); err != nil {
			return nil, nil
		}
		all = append(all, f)
		from = msg.Sequence + 1
	}
}
