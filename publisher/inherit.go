package publisher

import (
	"context"

	"github.com/pushwatch/pushwatch/event"
)

// older reports whether the first of the stream's events was made by another
// database, so that an earlier one published here: the fresh one began later. Once
// max_age has taken those events there is nothing left to take over.
func older(ctx context.Context, s Stream, events, instance string) (bool, error) {
	first, err := s.Get(ctx, Query{Next: events, Sequence: 1})
	if err != nil || first == nil {
		return false, err
	}
	id, ok := event.ParseID(first.ID)
	return !ok || id.Instance != instance, nil
}

// inherit looks a page of operations without a version up in a stream to which an
// earlier database published. Those that it told of go on behind that; the others
// are settled.
//
// True if we crash anywhere in here: an operation was either taken over or settled,
// for ever, or it is looked up again.
func (p *pass) inherit(ctx context.Context) error {
	if p.heirs == nil || p.archive == nil || !p.older {
		return nil
	}
	if p.known.Epoch == "" {
		if _, err := p.identify(ctx); err != nil {
			return err
		}
	}
	heirs, err := p.nextHeirs(ctx)
	if err != nil || len(heirs) == 0 {
		return err
	}
	histories := make([][]event.Foreign, len(heirs))
	err = inParallel(ctx, len(heirs), func(ctx context.Context, i int) (err error) {
		histories[i], err = inherited(ctx, p.stream, heirs[i].Filter)
		return err
	})
	if err != nil {
		return err
	}
	var settled []event.Heir
	for i, h := range heirs {
		adopted := false
		if len(histories[i]) > 0 {
			if adopted, err = p.takeOver(ctx, h, histories[i]); err != nil {
				return err
			}
		}
		if !adopted {
			settled = append(settled, h)
		}
	}
	p.result.Compared += len(heirs)
	return p.settle(ctx, settled)
}

func (p *pass) nextHeirs(ctx context.Context) ([]event.Heir, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return p.heirs.Heirs(ctx, p.batch)
}

func (p *pass) takeOver(ctx context.Context, h event.Heir, there []event.Foreign) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	adopted, err := p.archive.Adopt(ctx, h.Operation, p.known.Epoch, there)
	if adopted {
		p.result.Adopted++
		p.Metrics.adopted.Inc()
	}
	return adopted, err
}

func (p *pass) settle(ctx context.Context, heirs []event.Heir) error {
	if len(heirs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return p.heirs.Settle(ctx, heirs)
}
