package publisher

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAMissingStreamIsMadeAsWanted(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	c := streamConfig()
	c.MaxBytes = 1 << 30

	s, warnings, err := EnsureStream(t.Context(), nc, c)

	require.NoError(t, err)
	assert.Empty(t, warnings)
	assert.Equal(t, "CODAT_PUSH", s.Name())
	is, err := s.config(t.Context())
	require.NoError(t, err)
	want := jetstream.StreamConfig{
		Name: "CODAT_PUSH", Description: is.Description, Subjects: []string{"codat.push.>"},
		Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
		MaxAge: 720 * time.Hour, MaxBytes: 1 << 30, MaxMsgs: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1, MaxMsgSize: 512 << 10,
		Duplicates: 10 * time.Minute, Replicas: 1, Compression: jetstream.S2Compression,
		DenyDelete: true, DenyPurge: true, AllowAtomicPublish: true, Metadata: is.Metadata,
	}
	assert.Equal(t, want, is)
	_, warnings, err = EnsureStream(t.Context(), nc, c)
	require.NoError(t, err)
	assert.Empty(t, warnings, "what we made ourselves is as we want it")
}

func TestTheDuplicateWindowIsNeverLongerThanTheAge(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	c := streamConfig()
	c.MaxAge = time.Minute

	_, warnings, err := EnsureStream(t.Context(), nc, c)

	require.NoError(t, err)
	assert.Empty(t, warnings)
}

// existing is a stream that somebody else made.
type existing struct {
	change  func(*jetstream.StreamConfig)
	field   string // that differs
	command string // that mends it
	remains bool   // also after manage: update
}

func TestAStreamThatWouldBreakTheGuaranteesIsRefusedAndLeftAlone(t *testing.T) {
	const edit = "mend it with: nats stream edit CODAT_PUSH "
	const fixed = " cannot be mended by an edit: set nats.stream to another name"
	for name, c := range map[string]existing{
		"subjects that cover nothing of ours": {func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders.*"} },
			"subjects", edit + "--subjects='codat.push.>,orders.*'", false},
		"subjects that cover a part": {func(c *jetstream.StreamConfig) { c.Subjects = []string{"codat.push.a.>"} },
			"subjects", edit + "--subjects='codat.push.>'", false},
		"a mirror": {func(c *jetstream.StreamConfig) {
			c.Subjects, c.Mirror = nil, &jetstream.StreamSource{Name: "ORIGIN"}
			c.AllowAtomicPublish = false
		}, "mirror", edit + "--no-mirror --subjects='codat.push.>'", false},
		"sealed":             {func(c *jetstream.StreamConfig) { c.Sealed = true }, "sealed", "sealed" + fixed, true},
		"no acknowledgement": {func(c *jetstream.StreamConfig) { c.NoAck = true }, "no_ack", edit + "--ack", false},
		"in memory":          {func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, "storage", "storage" + fixed, true},
		"interest retention": {func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
			"retention", edit + "--retention=limits", false},
		"a work queue": {func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
			"retention", "retention" + fixed, true},
		"discarding the old beyond so many messages": {func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 1000 },
			"discard", edit + "--discard=new", false},
		"discarding the old beyond so many bytes": {func(c *jetstream.StreamConfig) { c.Discard, c.MaxBytes = jetstream.DiscardOld, 1<<20 },
			"discard", edit + "--discard=new", false},
		"one message per subject": {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 },
			"max_msgs_per_subject", edit + "--max-msgs-per-subject=-1 --no-discard-per-subject", false},
		"one message per subject, refusing new ones": {func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject, c.DiscardNewPerSubject = 1, true },
			"max_msgs_per_subject", edit + "--max-msgs-per-subject=-1 --no-discard-per-subject", false},
		"delete markers": {func(c *jetstream.StreamConfig) {
			c.SubjectDeleteMarkerTTL, c.AllowMsgTTL, c.AllowRollup, c.DenyPurge = time.Hour, true, true, false
		}, "subject_delete_marker_ttl", edit + "--subject-del-markers-ttl=0s", false},
		"a counter": {func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.Discard = true, jetstream.DiscardOld },
			"allow_msg_counter", "allow_msg_counter" + fixed, true},
		"acknowledging before it writes": {func(c *jetstream.StreamConfig) {
			c.PersistMode, c.AllowAtomicPublish = jetstream.AsyncPersistMode, false
		}, "persist_mode", "persist_mode" + fixed, true},
		"a transform of our subjects": {func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "codat.push.>", Destination: "elsewhere.>"}
		}, "subject_transform", edit + "--no-transform", false},
		"a source that may bring in our subjects": {func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "ORIGIN"}}
		}, "sources", "mend sources in it, then: nats stream edit CODAT_PUSH --config=FILE", true},
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, startBroker(t).url())
			js := api(t, nc)
			_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin.>"}})
			require.NoError(t, err)
			config := streamConfig().wanted()
			c.change(&config)
			sealed := config.Sealed // the server takes it only as an edit
			config.Sealed = false
			made, err := js.CreateStream(t.Context(), config)
			require.NoError(t, err)
			if sealed {
				config.Sealed = true
				made, err = js.UpdateStream(t.Context(), config)
				require.NoError(t, err)
			}
			for _, manage := range []Manage{ManageCreate, ManageVerify} {
				want := streamConfig()
				want.Manage = manage
				mismatch := (*MismatchError)(nil)

				_, _, err := EnsureStream(t.Context(), nc, want)

				require.ErrorAs(t, err, &mismatch)
				fields := []string{}
				for _, d := range mismatch.Differences {
					fields = append(fields, d.Field)
				}
				assert.Contains(t, fields, c.field)
				assert.Contains(t, err.Error(), c.command)
				assert.NotContains(t, err.Error(), "\n")
			}
			s := &JetStream{nc: nc, js: js, want: streamConfig().wanted()}
			is, err := s.config(t.Context())
			require.NoError(t, err)
			assert.Equal(t, made.CachedInfo().Config, is, "changed without being told to")
			want := streamConfig()
			want.Manage = ManageUpdate
			_, _, err = EnsureStream(t.Context(), nc, want)
			if c.remains {
				mismatch := (*MismatchError)(nil)
				require.ErrorAs(t, err, &mismatch)
			} else {
				require.NoError(t, err)
			}
		})
	}
}

func TestAHarmlessDifferenceIsAWarningAndIsLeftAlone(t *testing.T) {
	for name, c := range map[string]existing{
		"a short duplicate window": {func(c *jetstream.StreamConfig) { c.Duplicates = 100 * time.Millisecond },
			"duplicate_window is 100ms, should be 10m", "--dupe-window=10m", false},
		"another age": {func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour },
			"max_age is 24h, should be 720h", "--max-age=720h", false},
		"discarding the old, but without limits": {func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			"discard is old, should be new", "--discard=new", false},
		"a limit of messages": {func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 }, "max_msgs is 1000, should be -1", "--max-msgs=-1", false},
		"a limit of size":     {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1 << 10 }, "max_msg_size is 1024", "--max-msg-size=524288", false},
		"not compressed":      {func(c *jetstream.StreamConfig) { c.Compression = jetstream.NoCompression }, "compression is none, should be s2", "--compression=s2", false},
		"direct reads":        {func(c *jetstream.StreamConfig) { c.AllowDirect = true }, "allow_direct is true", "--no-allow-direct", false},
		"roll-ups": {func(c *jetstream.StreamConfig) { c.AllowRollup, c.DenyPurge = true, false },
			"allow_rollup_hdrs is true", "--no-allow-rollup", false},
		"deletes":           {func(c *jetstream.StreamConfig) { c.DenyDelete = false }, "deny_delete is false", "--deny-delete", false},
		"purges":            {func(c *jetstream.StreamConfig) { c.DenyPurge = false }, "deny_purge is false", "--deny-purge", false},
		"no atomic batches": {func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false }, "allow_atomic is false", "--allow-batch", false},
		"fast batches":      {func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true }, "allow_batched is true", "mend allow_batched in it, then: nats stream edit CODAT_PUSH --config=FILE", false},
		"lives of messages": {func(c *jetstream.StreamConfig) { c.AllowMsgTTL = true }, "allow_msg_ttl is true", "should be false", true},
		"schedules": {func(c *jetstream.StreamConfig) {
			c.AllowMsgSchedules, c.AllowRollup, c.DenyPurge, c.Discard = true, true, false, jetstream.DiscardOld
		}, "allow_msg_schedules is true", "should be false", true},
		"republished": {func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		},
			"republish is set", "--no-republish", false},
		"a transform of others": {func(c *jetstream.StreamConfig) {
			c.Subjects = append(c.Subjects, "orders.*")
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "orders.*", Destination: "elsewhere.$1"}
		}, "subject_transform is orders.*", "--no-transform", false},
		"a source of others": {func(c *jetstream.StreamConfig) {
			c.Sources = []*jetstream.StreamSource{{Name: "ORIGIN", FilterSubject: "origin.a"}}
		}, "sources is ORIGIN", "mend sources in it", true},
	} {
		t.Run(name, func(t *testing.T) {
			nc := dial(t, startBroker(t).url())
			js := api(t, nc)
			_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin.>"}})
			require.NoError(t, err)
			config := streamConfig().wanted()
			c.change(&config)
			made, err := js.CreateStream(t.Context(), config)
			require.NoError(t, err)

			s, warnings, err := EnsureStream(t.Context(), nc, streamConfig())

			require.NoError(t, err)
			all := strings.Join(warnings, "\n")
			assert.Contains(t, all, c.field)
			assert.Contains(t, all, c.command)
			is, err := s.config(t.Context())
			require.NoError(t, err)
			assert.Equal(t, made.CachedInfo().Config, is, "changed without being told to")
			o := newOutbox()
			o.fill(3, 2)
			drain(t, newRelay(t, s, o), o)
			o.finished(t, readAll(t, nc))

			want := streamConfig()
			want.Manage = ManageUpdate
			_, warnings, err = EnsureStream(t.Context(), nc, want)
			require.NoError(t, err)
			if c.remains {
				assert.NotEmpty(t, warnings)
			} else {
				assert.Empty(t, warnings)
			}
		})
	}
}

// TestALimitOfBytesIsAWarningOnlyWhereAnotherIsWanted: where none is, one that is
// there guards somebody's disk, and the command that removes it would take it away.
func TestALimitOfBytesIsAWarningOnlyWhereAnotherIsWanted(t *testing.T) {
	const guard, wanted = 1 << 20, 2 << 20
	for _, manage := range []Manage{ManageCreate, ManageUpdate} {
		for _, c := range []struct{ want, is int64 }{{0, guard}, {wanted, guard}, {guard, guard}} {
			nc := dial(t, startBroker(t).url())
			config := streamConfig()
			config.Manage, config.MaxBytes = manage, c.want
			made := config.wanted()
			made.MaxBytes, made.MaxAge = c.is, time.Hour // so that an update has something to do
			_, err := api(t, nc).CreateStream(t.Context(), made)
			require.NoError(t, err)

			s, warnings, err := EnsureStream(t.Context(), nc, config)

			require.NoError(t, err)
			is, err := s.config(t.Context())
			require.NoError(t, err)
			all := strings.Join(warnings, "\n")
			if differs := c.want == wanted; manage == ManageUpdate && differs {
				assert.EqualValues(t, wanted, is.MaxBytes)
			} else {
				assert.EqualValues(t, c.is, is.MaxBytes)
				assert.Equal(t, differs, strings.Contains(all, "max_bytes is 1048576, should be 2097152"), all)
			}
			assert.NotContains(t, all, "--max-bytes=-1")
		}
	}
}

func TestUnderVerifyAMissingStreamIsRefusedWithTheCommandThatMakesIt(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	c := streamConfig()
	c.Manage = ManageVerify
	mismatch := (*MismatchError)(nil)

	_, _, err := EnsureStream(t.Context(), nc, c)

	require.ErrorAs(t, err, &mismatch)
	assert.ErrorContains(t, err, "stream CODAT_PUSH: the stream is missing, should be there; make it with: "+
		"nats stream add CODAT_PUSH --subjects='codat.push.>' --storage=file --retention=limits --discard=new --max-age=720h"+
		" --max-bytes=-1 --max-msg-size=524288 --dupe-window=10m --replicas=1 --compression=s2"+
		" --no-allow-direct --no-allow-rollup --deny-delete --deny-purge --allow-batch --defaults")
	_, err = api(t, nc).Stream(t.Context(), "CODAT_PUSH")
	assert.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestAnotherStreamOnOurSubjectsIsNamed(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	_, err := api(t, nc).CreateStream(t.Context(), jetstream.StreamConfig{Name: "EVERYTHING", Subjects: []string{"codat.>"}})
	require.NoError(t, err)
	mismatch := (*MismatchError)(nil)

	_, _, err = EnsureStream(t.Context(), nc, streamConfig())

	require.ErrorAs(t, err, &mismatch)
	assert.ErrorContains(t, err, "taken in part by EVERYTHING")
}

func TestWhatTheServerDoesNotGrantIsAMatterOfConfiguration(t *testing.T) {
	nc := dial(t, startBroker(t, func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 }).url())
	for name, c := range map[string]struct {
		change func(*StreamConfig)
		want   string
	}{
		"replicas without a cluster":      {func(c *StreamConfig) { c.Replicas = 3 }, "nats.replicas"},
		"more bytes than the server has":  {func(c *StreamConfig) { c.MaxBytes = 1 << 30 }, "nats.max_bytes"},
		"a prefix that no subject may be": {func(c *StreamConfig) { c.SubjectPrefix = "$JS.API" }, "nats.subject_prefix"},
	} {
		t.Run(name, func(t *testing.T) {
			config := streamConfig()
			c.change(&config)
			mismatch := (*MismatchError)(nil)

			_, _, err := EnsureStream(t.Context(), nc, config)

			require.ErrorAs(t, err, &mismatch)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

func TestAnUpdateThatTheServerRefusesIsAWarningWhereTheStreamWillDo(t *testing.T) {
	nc := dial(t, startBroker(t).url())
	ensure(t, nc)
	c := streamConfig()
	c.Manage, c.Replicas = ManageUpdate, 3

	_, warnings, err := EnsureStream(t.Context(), nc, c)

	require.NoError(t, err)
	assert.Contains(t, strings.Join(warnings, "\n"), "not updated: stream CODAT_PUSH: num_replicas is refused by the server")
}

func TestAServerThatTakesSmallMessagesOnlyIsAWarning(t *testing.T) {
	nc := dial(t, startBroker(t, func(o *server.Options) { o.MaxPayload = 64 << 10 }).url())

	_, warnings, err := EnsureStream(t.Context(), nc, streamConfig())

	require.NoError(t, err)
	assert.Contains(t, strings.Join(warnings, "\n"), "max_payload is 65536")
}

func TestJetStreamThatCannotBeUsedIsAnotherKindOfError(t *testing.T) {
	guest := func(o *server.Options) {
		o.Users = []*server.User{{Username: "guest", Password: "secret", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Deny: []string{"$JS.API.>"}}}}}
	}
	for name, c := range map[string]struct {
		change func(*server.Options)
		user   string
		want   string
	}{
		"not enabled":   {func(o *server.Options) { o.JetStream = false }, "", "JetStream is not enabled"},
		"no permission": {guest, "guest:secret@", "permissions violation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // one of them waits for a timeout
			nc := dial(t, strings.Replace(startBroker(t, c.change).url(), "nats://", "nats://"+c.user, 1))
			unavailable := (*UnavailableError)(nil)

			_, _, err := EnsureStream(t.Context(), nc, streamConfig())

			require.ErrorAs(t, err, &unavailable)
			assert.Contains(t, strings.ToLower(err.Error()), strings.ToLower(c.want))
			assert.False(t, errors.As(err, new(*MismatchError)))
		})
	}
}
