package publisher

import (
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// differences collects how a stream differs from what it should be.
type differences []Difference

func (d *differences) add(differs bool, field string, is, should any, flags string) {
	if differs {
		*d = append(*d, Difference{Field: field, Is: fmt.Sprint(is), Should: fmt.Sprint(should), flags: flags})
	}
}

// breaking returns what keeps the stream from carrying the guarantees: messages
// that it would not take, not keep, not order, not acknowledge truthfully, or
// mix with those of others. The same settings are no subject of [drift].
func breaking(is, want jetstream.StreamConfig) []Difference {
	var d differences
	prefix := want.Subjects[0]
	if is.Mirror != nil {
		d.add(true, "mirror", is.Mirror.Name, "none", "--no-mirror")
	}
	d.add(!covered(prefix, is.Subjects), "subjects", list(is.Subjects), "to cover "+prefix, subjectFlags(is.Subjects, prefix))
	d.add(is.Sealed, "sealed", true, false, "")
	d.add(is.NoAck, "no_ack", true, false, "--ack")
	d.add(is.Storage != want.Storage, "storage", lower(is.Storage), lower(want.Storage), "")
	retentionFlag := "--retention=limits"
	if is.Retention == jetstream.WorkQueuePolicy {
		retentionFlag = ""
	}
	d.add(is.Retention != want.Retention, "retention", lower(is.Retention), lower(want.Retention), retentionFlag)
	d.add(is.Discard == jetstream.DiscardOld && (is.MaxMsgs > 0 || is.MaxBytes > 0),
		"discard", fmt.Sprintf("old with max_msgs %d and max_bytes %d", is.MaxMsgs, is.MaxBytes), "new", "--discard=new")
	// Under either policy: the old ones evict events, "new" refuses an operation's second event of a status for ever.
	d.add(is.MaxMsgsPerSubject > 0, "max_msgs_per_subject", is.MaxMsgsPerSubject, -1,
		"--max-msgs-per-subject=-1 --no-discard-per-subject")
	// A marker would be the operation's last message, and none of ours.
	d.add(is.SubjectDeleteMarkerTTL > 0, "subject_delete_marker_ttl", is.SubjectDeleteMarkerTTL, "0s", "--subject-del-markers-ttl=0s")
	d.add(is.AllowMsgCounter, "allow_msg_counter", true, false, "")
	d.add(is.PersistMode == jetstream.AsyncPersistMode, "persist_mode", "async", "default", "")
	if t := is.SubjectTransform; t != nil && overlap(t.Source, prefix) {
		d.add(true, "subject_transform", t.Source+" to "+t.Destination, "none", "--no-transform")
	}
	for _, source := range is.Sources {
		d.add(brings(source, prefix), "sources", source.Name, "none that may bring messages below "+prefix, byFile)
	}
	return d
}

// drift returns the harmless differences.
func drift(is, want jetstream.StreamConfig) []Difference {
	var d differences
	d.add(is.Discard != want.Discard, "discard", lower(is.Discard), lower(want.Discard), "--discard=new")
	d.add(limit(is.MaxMsgs) != -1, "max_msgs", is.MaxMsgs, -1, "--max-msgs=-1")
	// Where none is wanted, one that is there is somebody's guard of the disk.
	d.add(want.MaxBytes > 0 && limit(is.MaxBytes) != want.MaxBytes, "max_bytes", limit(is.MaxBytes), want.MaxBytes,
		fmt.Sprintf("--max-bytes=%d", want.MaxBytes))
	d.add(is.MaxAge != want.MaxAge, "max_age", spell(is.MaxAge), spell(want.MaxAge), "--max-age="+spell(want.MaxAge))
	d.add(limit(int64(is.MaxMsgSize)) != int64(want.MaxMsgSize), "max_msg_size", limit(int64(is.MaxMsgSize)), want.MaxMsgSize,
		fmt.Sprintf("--max-msg-size=%d", want.MaxMsgSize))
	d.add(is.Duplicates != want.Duplicates, "duplicate_window", spell(is.Duplicates), spell(want.Duplicates),
		"--dupe-window="+spell(want.Duplicates))
	d.add(is.Replicas != want.Replicas, "num_replicas", is.Replicas, want.Replicas, fmt.Sprintf("--replicas=%d", want.Replicas))
	d.add(is.Compression != want.Compression, "compression", lower(is.Compression), lower(want.Compression),
		"--compression="+lower(want.Compression))
	d.add(is.AllowDirect, "allow_direct", true, false, "--no-allow-direct")
	d.add(is.AllowRollup, "allow_rollup_hdrs", true, false, "--no-allow-rollup")
	d.add(!is.DenyDelete, "deny_delete", false, true, "--deny-delete")
	d.add(!is.DenyPurge, "deny_purge", false, true, "--deny-purge")
	d.add(!is.AllowAtomicPublish, "allow_atomic", false, true, "--allow-batch")
	d.add(is.AllowMsgTTL, "allow_msg_ttl", true, false, "")
	d.add(is.AllowMsgSchedules, "allow_msg_schedules", true, false, "")
	d.add(is.AllowBatchPublish, "allow_batched", true, false, byFile)
	d.add(is.RePublish != nil, "republish", "set", "none", "--no-republish")
	if t := is.SubjectTransform; t != nil && !overlap(t.Source, want.Subjects[0]) {
		d.add(true, "subject_transform", t.Source+" to "+t.Destination, "none", "--no-transform")
	}
	for _, source := range is.Sources {
		d.add(!brings(source, want.Subjects[0]), "sources", source.Name, "none", byFile)
	}
	return d
}

// brings reports whether messages of source may land below prefix.
func brings(source *jetstream.StreamSource, prefix string) bool {
	for _, t := range source.SubjectTransforms {
		if t.Destination == "" && overlap(t.Source, prefix) || t.Destination != "" && overlap(wildcards(t.Destination), prefix) {
			return true
		}
	}
	return len(source.SubjectTransforms) == 0 && overlap(source.FilterSubject, prefix)
}

// wildcards widens the placeholders of a transform's destination ({{...}}, $1).
func wildcards(destination string) string {
	tokens := strings.Split(destination, ".")
	for i, token := range tokens {
		if strings.ContainsAny(token, "{$") {
			tokens[i] = "*"
		}
	}
	return strings.Join(tokens, ".")
}

// covered reports whether one of subjects takes everything that wanted takes.
func covered(wanted string, subjects []string) bool {
	for _, subject := range subjects {
		if covers(strings.Split(subject, "."), strings.Split(wanted, ".")) {
			return true
		}
	}
	return false
}

func covers(wide, narrow []string) bool {
	for i, token := range wide {
		switch {
		case token == ">":
			return len(narrow) > i
		case i >= len(narrow), narrow[i] == ">", token != "*" && token != narrow[i]:
			return false
		}
	}
	return len(wide) == len(narrow)
}

// overlap reports whether some subject matches both filters; an empty one
// matches everything.
func overlap(a, b string) bool {
	if a == "" || b == "" {
		return true
	}
	left, right := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(left), len(right)) {
		l, r := left[i], right[i]
		if l == ">" || r == ">" {
			return true
		}
		if l != r && l != "*" && r != "*" {
			return false
		}
	}
	return len(left) == len(right)
}

// subjectFlags adds wanted to the subjects that the stream has, without those
// that it makes superfluous: the server refuses overlapping ones.
func subjectFlags(subjects []string, wanted string) string {
	keep := []string{wanted}
	for _, subject := range subjects {
		if !overlap(subject, wanted) {
			keep = append(keep, subject)
		}
	}
	return "--subjects='" + strings.Join(keep, ",") + "'"
}

// limit returns what JetStream means by a limit: -1 for none, however spelt.
func limit(n int64) int64 {
	if n <= 0 {
		return -1
	}
	return n
}

// lower spells a policy as the JetStream API does: old, not DiscardOld.
func lower(policy fmt.Stringer) string {
	return strings.TrimPrefix(strings.ToLower(policy.String()), "discard")
}

func list(subjects []string) string {
	if len(subjects) == 0 {
		return "empty"
	}
	return strings.Join(subjects, ",")
}

// spell writes a duration as people type it, 720h rather than 720h0m0s.
func spell(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
