package publisher

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Manage says what may be done to the configuration of the stream.
type Manage string

// The ways to manage a stream.
const (
	ManageCreate Manage = "create" // make it if it is missing; one that is there is used as it is
	ManageUpdate Manage = "update" // as create, and edit one that differs, as far as the server lets it
	ManageVerify Manage = "verify" // only look
)

// StreamConfig is the stream as the user wants it. What is not in it is fixed.
type StreamConfig struct {
	Name          string
	SubjectPrefix string // the stream takes everything below it
	Manage        Manage
	MaxAge        time.Duration // 0: for ever
	MaxBytes      int64         // 0: no limit is set, and one that is there stays
	Replicas      int           // 0: 1
}

const (
	duplicateWindow = 10 * time.Minute
	maxMessageSize  = 512 << 10
	maxEventSize    = 256 << 10 // the body of an event
	apiTimeout      = 5 * time.Second
)

// wanted returns c in JetStream's terms.
func (c StreamConfig) wanted() jetstream.StreamConfig {
	duplicates := duplicateWindow
	if c.MaxAge > 0 {
		duplicates = min(duplicates, c.MaxAge) // the server refuses a window beyond the age
	}
	return jetstream.StreamConfig{
		Name:               c.Name,
		Description:        "Changes of Codat push operations. Only pushwatch publishes here.",
		Subjects:           []string{c.SubjectPrefix + ".>"},
		Storage:            jetstream.FileStorage,
		Retention:          jetstream.LimitsPolicy,
		Discard:            jetstream.DiscardNew, // full is back-pressure; discarding the old would lose events
		MaxAge:             c.MaxAge,
		MaxBytes:           limit(c.MaxBytes),
		MaxMsgs:            -1,
		MaxMsgsPerSubject:  -1,
		MaxMsgSize:         maxMessageSize,
		Duplicates:         duplicates,
		Replicas:           max(c.Replicas, 1),
		Compression:        jetstream.S2Compression,
		DenyDelete:         true, // a deleted message would be published again
		DenyPurge:          true,
		AllowAtomicPublish: true,
	}
}

// JetStream is a [Stream] on a NATS server.
type JetStream struct {
	nc   *nats.Conn
	js   jetstream.JetStream
	want jetstream.StreamConfig

	manage Manage
}

// Name returns the stream's name.
func (s *JetStream) Name() string { return s.want.Name }

// EnsureStream finds the stream or makes it, as c.Manage allows, and returns it
// with one warning per harmless difference between what it is and what c wants.
// Errors are a [*MismatchError] where only a change of configuration helps, and
// an [*UnavailableError] where JetStream cannot be used now.
//
// Several replicas may call it at once: creation is idempotent.
func EnsureStream(ctx context.Context, nc *nats.Conn, c StreamConfig) (*JetStream, []string, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, nil, fmt.Errorf("stream %s: %w", c.Name, err)
	}
	s := &JetStream{nc: nc, js: js, want: c.wanted(), manage: c.Manage}
	is, err := s.config(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		is, err = s.create(ctx, c.Manage)
	}
	if err != nil {
		return nil, nil, err
	}
	var warnings []string
	if c.Manage == ManageUpdate {
		var refused *MismatchError
		is, err = s.update(ctx, is)
		switch {
		case errors.As(err, &refused):
			warnings = append(warnings, "not updated: "+err.Error())
		case err != nil:
			return nil, nil, err
		}
	}
	if err := s.verify(is); err != nil {
		return nil, nil, err
	}
	return s, append(warnings, s.warnings(is)...), nil
}

// config asks for the stream's configuration. A missing stream is
// [jetstream.ErrStreamNotFound].
func (s *JetStream) config(ctx context.Context) (jetstream.StreamConfig, error) {
	info, err := s.info(ctx)
	if err != nil {
		return jetstream.StreamConfig{}, err
	}
	return info.Config, nil
}

func (s *JetStream) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := s.js.Stream(ctx, s.want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil, fmt.Errorf("stream %s: %w", s.want.Name, err)
	}
	if err != nil {
		return nil, unavailable(s.nc, "look at stream "+s.want.Name, err)
	}
	return stream.CachedInfo(), nil
}

func (s *JetStream) create(ctx context.Context, manage Manage) (jetstream.StreamConfig, error) {
	if manage == ManageVerify {
		return jetstream.StreamConfig{}, s.mismatch("make it with: "+addCommand(s.want),
			Difference{Field: "the stream", Is: "missing", Should: "there"})
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := s.js.CreateStream(ctx, s.want)
	switch {
	case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse):
		return s.config(ctx) // made by somebody else a moment ago
	case err != nil:
		return jetstream.StreamConfig{}, s.refused(ctx, "create stream "+s.want.Name, err)
	}
	return stream.CachedInfo().Config, nil
}

// update edits what differs and may be edited. It never asks for what the
// server would answer by removing messages other than by their age.
func (s *JetStream) update(ctx context.Context, is jetstream.StreamConfig) (jetstream.StreamConfig, error) {
	if len(breaking(is, s.want))+len(drift(is, s.want)) == 0 || is.Sealed {
		return is, nil
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	stream, err := s.js.UpdateStream(ctx, edited(is, s.want))
	if err != nil {
		return is, s.refused(ctx, "update stream "+s.want.Name, err)
	}
	return stream.CachedInfo().Config, nil
}

// edited returns is with every setting as in want that the server lets change.
func edited(is, want jetstream.StreamConfig) jetstream.StreamConfig {
	to := is
	if !covered(want.Subjects[0], is.Subjects) {
		to.Subjects = []string{want.Subjects[0]}
		for _, subject := range is.Subjects {
			if !overlap(subject, want.Subjects[0]) {
				to.Subjects = append(to.Subjects, subject)
			}
		}
	}
	if is.Retention != jetstream.WorkQueuePolicy {
		to.Retention = want.Retention
	}
	to.Mirror, to.MirrorDirect = nil, false
	to.NoAck, to.Discard, to.DiscardNewPerSubject = false, want.Discard, false
	to.MaxMsgs, to.MaxMsgsPerSubject, to.MaxAge = -1, -1, want.MaxAge
	if want.MaxBytes > 0 {
		to.MaxBytes = want.MaxBytes
	}
	to.MaxMsgSize, to.Duplicates, to.Replicas = want.MaxMsgSize, want.Duplicates, want.Replicas
	to.Compression, to.AllowDirect, to.SubjectDeleteMarkerTTL = want.Compression, false, 0
	to.RePublish, to.SubjectTransform, to.AllowBatchPublish = nil, nil, false
	// The server asks schedules to keep roll-ups, and those to keep purges; and
	// async persistence excludes atomic batches.
	if !is.AllowMsgSchedules {
		to.AllowRollup, to.DenyPurge = false, true
	}
	to.DenyDelete, to.AllowAtomicPublish = true, is.PersistMode != jetstream.AsyncPersistMode
	return to
}

// verify refuses a stream that would break the guarantees.
func (s *JetStream) verify(is jetstream.StreamConfig) error {
	if bad := breaking(is, s.want); len(bad) > 0 {
		return s.mismatch(editCommand(s.want.Name, bad), bad...)
	}
	return nil
}

func (s *JetStream) warnings(is jetstream.StreamConfig) []string {
	var warnings []string
	for _, d := range drift(is, s.want) {
		warning := fmt.Sprintf("stream %s: %s", s.want.Name, d)
		if d.flags != "" {
			warning += "; " + editCommand(s.want.Name, []Difference{d})
		}
		warnings = append(warnings, warning)
	}
	if have := s.nc.MaxPayload(); have < maxMessageSize {
		warnings = append(warnings, fmt.Sprintf("the NATS server's max_payload is %d, should be at least %d: larger events will be rejected",
			have, maxMessageSize))
	}
	return warnings
}

func (s *JetStream) mismatch(remedy string, differences ...Difference) error {
	return &MismatchError{Stream: s.want.Name, Differences: differences, Remedy: remedy}
}

// refused explains why the server did not create or update the stream: mostly
// because of a setting of ours that it does not grant.
func (s *JetStream) refused(ctx context.Context, op string, err error) error {
	api := (*jetstream.APIError)(nil)
	if !errors.As(err, &api) {
		return unavailable(s.nc, op, err)
	}
	refused := func(field string, should any, remedy string) error {
		return s.mismatch(remedy, Difference{Field: field, Is: "refused by the server (" + api.Description + ")", Should: fmt.Sprint(should)})
	}
	switch api.ErrorCode {
	case codeSubjectOverlap:
		return s.overlapping(ctx)
	case codeReplicasNotSupported:
		return refused("num_replicas", s.want.Replicas, "set nats.replicas to 1, or use a cluster")
	case codeInsufficientResources, codeInsufficientStorage, codeMaxBytesExceedsAccount, codeMaxBytesRequired:
		return refused("max_bytes", s.want.MaxBytes, "set nats.max_bytes to what the server or the account grants, or raise that")
	case codeInvalidStreamConfig:
		return refused("the configuration", "accepted", "change nats.max_age, nats.max_bytes, nats.replicas or nats.subject_prefix")
	}
	return unavailable(s.nc, op, err)
}

// overlapping names the stream that takes our subjects already. Two streams
// would store each event twice, so the server refuses it, and so do we.
func (s *JetStream) overlapping(ctx context.Context) error {
	other, err := s.js.StreamNameBySubject(ctx, s.want.Subjects[0])
	if err != nil {
		other = "another stream"
	}
	return s.mismatch(fmt.Sprintf("set nats.subject_prefix to another one, set nats.stream to %s to use that stream, or take the subjects from it", other),
		Difference{Field: "subjects", Is: "taken in part by " + other, Should: s.want.Subjects[0] + " alone"})
}

// Identify implements [Stream]. It refuses a stream that would break the
// guarantees: it may have been changed since the start. One that is gone is made
// again as at the start, where that is allowed: what it had held is healed from the
// database.
//
// True if we crash after making it: it is another epoch, which the next audit sees.
func (s *JetStream) Identify(ctx context.Context) (Identity, error) {
	info, err := s.info(ctx)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = s.create(ctx, s.manage); err == nil {
			info, err = s.info(ctx)
		}
	}
	if err != nil {
		return Identity{}, s.withRemedy(err)
	}
	is := Identity{Events: s.want.Subjects[0], Config: info.Config, State: info.State,
		Epoch: info.Config.Name + "@" + info.Created.UTC().Format(time.RFC3339Nano)}
	return is, s.verify(info.Config)
}

// withRemedy says what to do where err is that the stream is gone.
func (s *JetStream) withRemedy(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("%w; make it with: %s", err, addCommand(s.want))
	}
	return err
}
