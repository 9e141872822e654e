package publisher

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
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
	stream  *Stream
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
	replayTimeout  = 10 * time.Second
	replayPatience = 30 * time.Second
	replayPause    = 250 * time.Millisecond
)

// CheckReplayPrefix says what is wrong with prefix as the beginning of the
// subjects of a replay, beside the prefix of live ones: it must be legal, and no
// subject may be below both, or live subscribers would take history for news.
func CheckReplayPrefix(prefix, live string) error {
	for token := range strings.SplitSeq(prefix, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("%q is not a subject prefix: words joined by dots, such as codat.replay", prefix)
		}
	}
	if overlap(prefix+".>", live+".>") {
		return fmt.Errorf("%q overlaps the live events below %s: name a prefix beside it, such as codat.replay", prefix, live)
	}
	if strings.ContainsAny(prefix, "*>") {
		return fmt.Errorf("%q has wildcards, and events have one subject each: name a prefix such as codat.replay", prefix)
	}
	if first, _, _ := strings.Cut(prefix, "."); strings.HasPrefix(first, "$") || strings.HasPrefix(first, "_") {
		return fmt.Errorf("%q is reserved for NATS itself: name a prefix such as codat.replay", prefix)
	}
	return nil
}

// OpenReplay finds the one stream that takes all subjects below the prefix. An
// [*UnavailableError] says that there is none and what makes one, or that
// JetStream cannot be used; a [*MismatchError] that the stream is not fit.
func OpenReplay(ctx context.Context, nc *nats.Conn, c ReplayConfig) (*Replay, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Progress == nil {
		c.Progress = func(int64) {}
	}
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("replay to %s: %w", c.Prefix, err)
	}
	is, err := taker(ctx, nc, js, c.Prefix)
	if err != nil {
		return nil, err
	}
	r := &Replay{config: c, is: is, stream: &Stream{nc: nc, js: js, want: jetstream.StreamConfig{Name: is.Name}},
		timeout: replayTimeout, give: replayPatience, cas: true, look: true}
	return r, r.verify()
}

// taker returns the stream that takes every event below prefix.
func taker(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, prefix string) (jetstream.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wanted := prefix + ".*.*.*.*"
	remedy := "no stream takes it; make one with: " + replayCommand(prefix)
	list := js.ListStreams(ctx, jetstream.WithStreamListSubject(prefix+".>"))
	var found *jetstream.StreamConfig
	for info := range list.Info() { // to its end, or the lister would be left behind
		if covered(wanted, info.Config.Subjects) {
			found = &info.Config
		} else {
			remedy = fmt.Sprintf("stream %s takes only a part of it; mend it with: nats stream edit %s %s", info.Config.Name,
				info.Config.Name, subjectFlags(info.Config.Subjects, prefix+".>"))
		}
	}
	if err := list.Err(); err != nil {
		return jetstream.StreamConfig{}, unavailable(nc, "look for the stream of "+prefix+".>", err)
	}
	if found == nil {
		return jetstream.StreamConfig{}, &UnavailableError{Op: "replay to " + prefix + ".>", Err: errors.New(remedy)}
	}
	return *found, nil
}

// replayCommand returns the command of the nats CLI that makes a stream for prefix.
func replayCommand(prefix string) string {
	return fmt.Sprintf("nats stream add %s --subjects='%s.>' --storage=file --retention=limits --discard=new --max-age=720h --dupe-window=10m --defaults",
		strings.ToUpper(strings.ReplaceAll(event.Escape(strings.ReplaceAll(prefix, ".", "_")), "=", "_")), prefix)
}

// verify refuses a stream that says nothing of what it took, or says it of other
// subjects.
func (r *Replay) verify() error {
	move := "name another prefix, or move the stream away"
	switch {
	case r.is.NoAck:
		return r.stream.mismatch(move, Difference{Field: "no_ack", Is: "true", Should: "false"})
	case r.is.Sealed:
		return r.stream.mismatch(move, Difference{Field: "sealed", Is: "true", Should: "false"})
	case r.is.SubjectTransform != nil:
		return r.stream.mismatch(move, Difference{Field: "subject_transform", Is: "set", Should: "absent"})
	}
	return nil
}

// Stream returns the name of the stream that the replay goes to.
func (r *Replay) Stream() string { return r.is.Name }

// Warnings says, one line each, what the stream does to the promise.
func (r *Replay) Warnings() []string {
	if r.is.Retention == jetstream.LimitsPolicy {
		return nil
	}
	return []string{fmt.Sprintf("stream %s forgets what was consumed: a replay that is resumed publishes that again", r.is.Name)}
}

// Run publishes the history until its end, or until ctx ends: then with what is
// under way, and ctx's error. It returns how far it came in any case. The same
// replay may be run again after any error.
func (r *Replay) Run(ctx context.Context, history History) (result ReplayResult, err error) {
	size := maxInFlight
	if r.config.Rate > 0 {
		size = min(max(r.config.Rate/4, 1), size)
	}
	began := r.config.Now()
	for {
		events, err := history.Next(ctx, maxInFlight)
		if err != nil || len(events) == 0 {
			return result, err
		}
		for len(events) > 0 {
			n := distinct(events[:min(size, len(events))])
			if err := r.pace(ctx, began, result.Published); err != nil {
				return result, err
			}
			if err := r.publish(ctx, events[:n], &result); err != nil {
				return result, err
			}
			events = events[n:]
		}
	}
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

// pace waits until the rate grants more than published events.
func (r *Replay) pace(ctx context.Context, began time.Time, published int64) error {
	if r.config.Rate <= 0 {
		return ctx.Err()
	}
	due := began.Add(time.Duration(float64(published) / float64(r.config.Rate) * float64(time.Second)))
	return wait(ctx, due.Sub(r.config.Now()))
}

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
	for i, answer := range r.stream.publish(absent, r.cas, r.timeout) {
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
			err = fmt.Errorf("stream %s is full (%w); %s", r.is.Name, answer.err, roomCommand(r.is, answer.err.Error()))
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
	lasts, err := r.stream.lasts(ctx, attempts)
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
	sequence, err := r.stream.find(ctx, p.Filter, p.ID)
	return sequence > 0, err
}
