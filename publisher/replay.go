package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/pushwatch/pushwatch/event"
)

// History is what a replay publishes. It is used by one goroutine.
type History interface {
	// Next returns the next events, at most max, and none only at the end. Those of
	// one operation come in the order of their versions. An error ends the replay.
	Next(ctx context.Context, max int) ([]event.Message, error)
}

// ReplayConfig says where a replay publishes, and as which.
type ReplayConfig struct {
	Prefix  string // of its subjects; see [CheckReplayPrefix]
	Live    string // the stream of live events, whose name no other gets; empty: none
	ID      string // see [event.ValidReplayID]
	Resumed bool   // something of it may have been published before
	Rate    int    // events a second; 0: as fast as the stream takes them
	// Progress is told how many events are in the stream; nil: nobody is.
	Progress func(done int64)
	// Now is the clock of the rate; nil: time.Now.
	Now func() time.Time
}

// Replay publishes history again into a stream beside the live one. Like the
// relay it expects, with each message, the sequence of the operation's last one,
// and where an answer is not clear it reads back what the stream holds. Ids are a
// function of the event and of the replay. So a replay may be interrupted at any
// point, even be run twice at once, and as long as the stream keeps what it took,
// each event is in it once for each replay id.
//
// No progress is kept anywhere: a resumed replay starts from the beginning and
// asks the stream, event by event, what it has. Within an operation the order is
// that of versions, always; over all of them it is that of the history, as long as
// no message is lost on its way to the stream.
type Replay struct {
	config  ReplayConfig
	stream  Stream
	is      jetstream.StreamConfig
	timeout time.Duration // for the answers to one batch
	give    time.Duration // up when nothing goes forward for so long
	cas     bool          // false only in tests
	look    bool          // false only in tests
}

// ReplayResult is how far a replay came.
type ReplayResult struct {
	Published int64 `json:"published"` // now
	Already   int64 `json:"already"`   // in the stream before
}

// Done is how many events are in the stream.
func (r ReplayResult) Done() int64 { return r.Published + r.Already }

const (
	replayBatch    = 256 // is finished when a replay is stopped
	replayTimeout  = 10 * time.Second
	replayPatience = 30 * time.Second
	replayPause    = 250 * time.Millisecond
)

// Run publishes the history until its end, or until ctx ends: then with what is
// under way, and ctx's error. It returns how far it came in any case. The same
// replay may be run again after any error.
func (r *Replay) Run(ctx context.Context, history History) (result ReplayResult, err error) {
	size := replayBatch
	if r.config.Rate > 0 {
		size = min(max(r.config.Rate/4, 1), size)
	}
	due := r.config.Now()
	for {
		events, err := history.Next(ctx, replayBatch)
		if err != nil || len(events) == 0 {
			return result, err
		}
		for len(events) > 0 {
			if err := wait(ctx, due.Sub(r.config.Now())); err != nil {
				return result, err
			}
			n := distinct(events[:min(size, len(events))])
			began, before := r.config.Now(), result.Published
			if err := r.publish(ctx, events[:n], &result); err != nil {
				return result, err
			}
			due = r.next(due, began, result.Published-before)
			events = events[n:]
		}
	}
}

// next returns when the rate grants the next batch, after published events were
// granted at due and sent from began on. Time that was lost is not made up for.
func (r *Replay) next(due, began time.Time, published int64) time.Time {
	if began.After(due) {
		due = began
	}
	if r.config.Rate > 0 {
		due = due.Add(time.Duration(published) * time.Second / time.Duration(r.config.Rate))
	}
	return due
}

// distinct returns how many events there are before the second one of an
// operation: that one waits for the answer to the first.
func distinct(events []event.Message) int {
	seen := make(map[string]bool, len(events))
	for i, e := range events {
		if seen[e.Filter] {
			return i
		}
		seen[e.Filter] = true
	}
	return len(events)
}

// wait waits for d, or returns the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// publish brings events of different operations into the stream, trying until
// the stream says of each that it is there.
//
// True if we crash here: some are there and nobody knows. The replay finds them
// when it is resumed, by their ids.
func (r *Replay) publish(ctx context.Context, events []event.Message, result *ReplayResult) error {
	open := make([]attempt, len(events))
	for i := range events {
		open[i] = attempt{pending: &event.Pending{Message: events[i]}}
	}
	forward := r.config.Now()
	for again := r.config.Resumed; len(open) > 0; again = true {
		before := result.Done()
		trouble, err := r.round(ctx, &open, again, result)
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case result.Done() > before:
			forward = r.config.Now()
			r.config.Progress(result.Done())
		}
		if len(open) == 0 {
			continue
		}
		if r.config.Now().Sub(forward) >= r.give {
			return &UnavailableError{Op: fmt.Sprintf("publish event %s to stream %s", open[0].pending.ID, r.is.Name), Err: trouble}
		}
		if err := wait(ctx, replayPause); err != nil {
			return err
		}
	}
	return nil
}

// round tries each open event once and leaves those open that must be tried
// again, with the trouble of one of them. An error is one that trying does not mend.
func (r *Replay) round(ctx context.Context, open *[]attempt, again bool, result *ReplayResult) (trouble, err error) {
	absent, err := r.absent(ctx, *open, again)
	if err != nil {
		return err, nil
	}
	result.Already += int64(len(*open) - len(absent))
	*open = nil
	for i, answer := range publish(r.stream, r.is.Name, absent, r.cas, r.timeout) {
		switch answer.outcome {
		case stored:
			result.Published++
		case unclear:
			if errors.Is(answer.err, errDuplicate) {
				result.Already++ // it was taken within the window, whatever became of it since
				continue
			}
			trouble = answer.err
			*open = append(*open, absent[i])
		case full:
			err = fmt.Errorf("stream %s takes nothing: %w; %s", r.is.Name, answer.err, roomCommand(r.is, answer.err.Error()))
		default:
			err = fmt.Errorf("publish event %s to stream %s: %w", absent[i].pending.ID, r.is.Name, answer.err)
		}
	}
	return trouble, err
}

// absent returns the attempts whose events are not in the stream, each behind the
// last message of its operation. Of this replay's own, versions came in order, so
// its last one tells. Behind another replay's, the event's own id is looked for,
// but for the first time of a replay that is new.
func (r *Replay) absent(ctx context.Context, attempts []attempt, again bool) ([]attempt, error) {
	lasts, err := lasts(ctx, r.stream, attempts)
	if err != nil {
		return nil, err
	}
	absent := make([]attempt, 0, len(attempts))
	for i, a := range attempts {
		last, there := lasts[i], false
		if last != nil && r.look {
			if there, err = r.holds(ctx, a.pending, last, again); err != nil {
				return nil, err
			}
		}
		if there {
			continue
		}
		if a.after = 0; last != nil {
			a.after = last.Sequence
		}
		absent = append(absent, a)
	}
	return absent, nil
}

// holds reports whether the event is in the stream, where last is the last message
// of its operation.
func (r *Replay) holds(ctx context.Context, p *event.Pending, last *StoredMessage, again bool) (bool, error) {
	newest, ours := event.ParseReplayedID(last.ID, r.config.ID)
	if ours {
		own, ok := event.ParseReplayedID(p.ID, r.config.ID)
		return ok && newest.Version >= own.Version, nil
	}
	if !again {
		return false, nil
	}
	msg, err := find(ctx, r.stream, p.Filter, p.ID)
	return msg != nil, err
}
