package publisher

import (
	"context"

	"github.com/pushwatch/pushwatch/event"
)

// older reports whether the stream begins with an event that another database
// made, so that an earlier one published here: the fresh one began later. Once
// max_age has taken those events there is nothing left to take over.
func (s *Stream) older(ctx context.Context, instance string) (bool, error) {
	first, err := get(ctx, s.nc, s.want.Name, getRequest{Next: s.want.Subjects[0], Sequence: 1})
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
func (b *batch) inherit(ctx context.Context) error {
	if b.heirs == nil || b.archive == nil || !b.older {
		return nil
	}
	if b.known.epoch == "" {
		if err := b.identify(ctx); err != nil {
			return err
		}
	}
	heirs, err := b.nextHeirs(ctx)
	if err != nil || len(heirs) == 0 {
		return err
	}
	histories := make([][]event.Foreign, len(heirs))
	err = inParallel(ctx, len(heirs), func(ctx context.Context, i int) (err error) {
		histories[i], err = b.stream.history(ctx, heirs[i].Filter)
		return err
	})
	if err != nil {
		return b.stream.withRemedy(err)
	}
	var settled []event.Heir
	for i, h := range heirs {
		adopted := false
		if len(histories[i]) > 0 {
			if adopted, err = b.takeOver(ctx, h, histories[i]); err != nil {
				return err
			}
		}
		if !adopted {
			settled = append(settled, h)
		}
	}
	b.result.Compared += len(heirs)
	return b.settle(ctx, settled)
}

func (b *batch) nextHeirs(ctx context.Context) ([]event.Heir, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return b.heirs.Heirs(ctx, b.batch)
}

func (b *batch) takeOver(ctx context.Context, h event.Heir, there []event.Foreign) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	adopted, err := b.archive.Adopt(ctx, h.Operation, b.known.epoch, there)
	if adopted {
		b.result.Adopted++
		b.Metrics.adopted.Inc()
	}
	return adopted, err
}

func (b *batch) settle(ctx context.Context, heirs []event.Heir) error {
	if len(heirs) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, outboxTimeout)
	defer cancel()
	return b.heirs.Settle(ctx, heirs)
}
