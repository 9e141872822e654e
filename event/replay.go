package event

import "strings"

// replayIDLength is the number of hex digits of a replay id.
const replayIDLength = 16

// Replayed returns the event as a replay publishes it again: with an id of its
// own, which is a function of the original's and of the replay's, marked as a
// replay, and otherwise the same. ReplayID must be one that [ValidReplayID] takes.
func Replayed(e Event, replayID string) Event {
	e.ID += replaySuffix(replayID)
	e.Replay, e.ReplayID = true, replayID
	return e
}

// ParseReplayedID returns what the id of an event says that the replay published,
// and false for every id that [Replayed] did not make for that replay.
func ParseReplayedID(id, replayID string) (Identity, bool) {
	original, ok := strings.CutSuffix(id, replaySuffix(replayID))
	if !ok {
		return Identity{}, false
	}
	return ParseID(original)
}

// ValidReplayID reports whether id can name a replay: 16 lower-case hex digits.
func ValidReplayID(id string) bool { return lowerHex(id, replayIDLength) }

func replaySuffix(replayID string) string { return "-r" + replayID }
