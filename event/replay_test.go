package event_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

const replayID = "00c0ffee5eeded01"

func TestAReplayedEventHasItsOwnIdAndIsMarked(t *testing.T) {
	original := changed(operation(push.Success), 2, push.Pending)
	replayed := event.Replayed(original, replayID)
	assert.Equal(t, original.ID+"-r"+replayID, replayed.ID)

	back := replayed
	back.ID, back.Replay, back.ReplayID = original.ID, false, ""
	assert.Equal(t, original, back, "nothing else is different")

	message, err := event.Encode("codat.replay", "invoices", replayed)
	require.NoError(t, err)
	assert.Equal(t, replayed.ID, message.Header["ce-id"])
	assert.Equal(t, replayID, message.Header["ce-replayid"])
	require.NoError(t, validate(compiled(t)[event.StatusChanged], message.Data))
}

func TestTheIdOfAReplayedEventIsThatOfNoOther(t *testing.T) {
	id := event.ID(instance, companyID, key, 12)
	of := func(replay string) string { return event.Replayed(event.Event{ID: id}, replay).ID }

	identity, ok := event.ParseReplayedID(of(replayID), replayID)
	require.True(t, ok)
	assert.Equal(t, int64(12), identity.Version)

	_, ok = event.ParseID(of(replayID))
	assert.False(t, ok, "the relay takes it for nothing of its own")
	for _, other := range []string{id, of("00c0ffee5eeded02"), of(replayID) + "-r" + replayID, "x-r" + replayID, ""} {
		_, ok = event.ParseReplayedID(other, replayID)
		assert.False(t, ok, other)
	}
}

func TestAReplayIsNamedBySixteenHexDigits(t *testing.T) {
	for id, valid := range map[string]bool{replayID: true, "": false, "00c0ffee": false, "00C0FFEE5EEDED01": false,
		"00c0ffee5eeded0g": false, replayID + "0": false} {
		assert.Equal(t, valid, event.ValidReplayID(id), id)
	}
}
