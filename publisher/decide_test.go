package publisher

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pushwatch/pushwatch/event"
)

// Every last message that reading back can show, against every state that a
// pending event can be in.
func TestDecideForEveryLastMessage(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	const maxAge = 720 * time.Hour
	young, old := now.Add(-24*time.Hour), now.Add(-maxAge)
	id := func(version int64) string { return event.ID(instance, "company", "key", version) }
	pending := func(version int64, at time.Time) event.Pending {
		p := event.Pending{Message: event.Message{ID: id(version), Data: []byte(id(version))}, CompanyID: "company", Key: "key", Version: version, PreviousAt: at, ReadAt: now}
		if version > 1 {
			p.PreviousID = id(version - 1)
		}
		return p
	}
	states := []struct {
		name    string
		pending event.Pending
	}{
		{"first version", pending(1, time.Time{})},
		{"fifth, the fourth young", pending(5, young)},
		{"fifth, the fourth beyond the stream's age", pending(5, old)},
		{"fifth, the fourth never recorded", pending(5, time.Time{})},
	}
	at := func(id string) *StoredMessage {
		return &StoredMessage{Sequence: 70, Subject: "a.subject", ID: id, Data: []byte(id)}
	}
	other := func(id, whose string) verdict {
		return verdict{action: adopt, sequence: 70, class: classForeignInstance, detail: "sequence 70 of the stream is event " + id + ", " + whose}
	}
	theirs := func(version int64) string { return event.ID("deadbeef", "company", "key", version) }
	altered := at(id(5))
	altered.Data = []byte("what a lost commit said")
	foreign := verdict{action: reject, class: classForeignMessage, detail: "sequence 70 of the stream, subject a.subject, is not pushwatch's"}
	later := verdict{action: search, detail: "sequence 70 of the stream is the later event " + id(6)}
	all := func(v verdict) [4]verdict { return [4]verdict{v, v, v, v} }
	for _, c := range []struct {
		name string
		last *StoredMessage
		want [4]verdict // one per state
	}{
		{"nothing", nil, [4]verdict{{action: retry}, {action: lost}, {action: expired}, {action: expired}}},
		{"an older one of ours", at(id(3)), [4]verdict{overtaken(id(3)),
			{action: lost, sequence: 70, above: 3}, {action: expired, sequence: 70}, {action: expired, sequence: 70}}},
		{"the one before", at(id(4)), [4]verdict{overtaken(id(4)),
			{action: retry, sequence: 70}, {action: retry, sequence: 70}, {action: retry, sequence: 70}}},
		{"the fifth", at(id(5)), [4]verdict{overtaken(id(5)),
			{action: found, sequence: 70}, {action: found, sequence: 70}, {action: found, sequence: 70}}},
		{"a later one", at(id(6)), all(later)},
		{"the fifth of a lost commit", altered, func() [4]verdict {
			v := other(id(5), "of a commit that this database has lost")
			return [4]verdict{overtaken(id(5)), v, v, v}
		}()},
		{"another instance's fifth", at(theirs(5)), all(other(theirs(5), "made by another database"))},
		{"another instance's fourth", at(theirs(4)), [4]verdict{other(theirs(4), "made by another database"),
			{action: retry, sequence: 70}, {action: retry, sequence: 70}, {action: retry, sequence: 70}}},
		{"another operation's", at(event.ID(instance, "company", "other", 5)), all(foreign)},
		{"another operation's of another instance", at(event.ID("deadbeef", "company", "other", 5)), all(foreign)},
		{"one without an id", at(""), all(foreign)},
		{"one with somebody's own id", at("order-17"), all(foreign)},
	} {
		for i, state := range states {
			t.Run(c.name+" there, pending the "+state.name, func(t *testing.T) {
				assert.Equal(t, c.want[i], decide(state.pending, c.last, maxAge))
			})
		}
	}
	t.Run("the first version finds itself", func(t *testing.T) {
		assert.Equal(t, verdict{action: found, sequence: 70}, decide(pending(1, time.Time{}), at(id(1)), maxAge))
	})
}

// overtaken is the verdict on a first version behind which the event id stands.
func overtaken(id string) verdict {
	return verdict{action: search, detail: "sequence 70 of the stream is the later event " + id}
}

func TestAnEventIsAgedShortlyBeforeItLeavesTheStream(t *testing.T) {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		age, maxAge time.Duration
		want        bool
	}{
		"young":                                   {time.Hour, 720 * time.Hour, false},
		"an hour and a second before its end":     {719*time.Hour - time.Second, 720 * time.Hour, false},
		"in the last hour":                        {719 * time.Hour, 720 * time.Hour, true},
		"beyond":                                  {1000 * time.Hour, 720 * time.Hour, true},
		"in the last tenth of a short age":        {54 * time.Second, time.Minute, true},
		"before the last tenth of a short age":    {53 * time.Second, time.Minute, false},
		"never, in a stream that keeps for ever":  {100000 * time.Hour, 0, false},
		"recorded in the future by a wrong clock": {-time.Hour, 720 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, aged(event.Pending{PreviousAt: now.Add(-c.age), ReadAt: now}, c.maxAge))
		})
	}
	assert.True(t, aged(event.Pending{ReadAt: now}, 0), "never recorded")
}
