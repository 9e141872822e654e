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
	is, err := taker(ctx, nc, js, c.Prefix, c.Live)
	if err != nil {
		return nil, err
	}
	r := &Replay{config: c, is: is, stream: &JetStream{nc: nc, js: js, want: is},
		timeout: replayTimeout, give: replayPatience, cas: true, look: true}
	return r, r.verify()
}

// taker returns the stream that takes every event below prefix.
func taker(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, prefix, live string) (jetstream.StreamConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	wanted := prefix + ".*.*.*.*"
	remedy := "no stream takes it; make one with: " + replayCommand(prefix, live)
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

// replayCommand returns the command of the nats CLI that makes a stream for prefix,
// which is not the live one.
func replayCommand(prefix, live string) string {
	name := strings.ToUpper(strings.ReplaceAll(event.Escape(strings.ReplaceAll(prefix, ".", "_")), "=", "_"))
	if name == live {
		name += "_REPLAY"
	}
	return fmt.Sprintf("nats stream add %s --subjects='%s.>' --storage=file --retention=limits --discard=new --max-age=720h --dupe-window=10m --defaults", name, prefix)
}

// verify refuses a stream that says nothing of what it took, or says it of other
// subjects.
func (r *Replay) verify() error {
	var bad Difference
	switch {
	case r.is.NoAck:
		bad = Difference{Field: "no_ack", Is: "true", Should: "false"}
	case r.is.Sealed:
		bad = Difference{Field: "sealed", Is: "true", Should: "false"}
	case r.is.SubjectTransform != nil:
		bad = Difference{Field: "subject_transform", Is: "set", Should: "absent"}
	default:
		return nil
	}
	return &MismatchError{Stream: r.is.Name, Differences: []Difference{bad}, Remedy: "name another prefix, or move the stream away"}
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
