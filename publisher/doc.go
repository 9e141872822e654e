// Package publisher carries events from the outbox into a JetStream stream.
//
// What it guarantees:
//
//   - Every event of the outbox is in the stream exactly once and, per operation,
//     in the order of its versions, however often the process dies, however many
//     relays race for the same event, and however long an outage lasts (up to the
//     stream's retention).
//   - Nothing is recorded as published that was not acknowledged by, or read back
//     from, the very stream (name and creation time) that it is recorded for.
//   - A stream that is there already is never changed silently ([EnsureStream]).
//   - An event that can never be published is set aside with a reason; only its
//     own operation waits behind it.
//
// The mechanism is a compare-and-set per operation: each message is published
// with the stream sequence of the operation's previous event, over a filter that
// matches all subjects of the operation. The stream takes it only if that is
// still the operation's last message, so a message that is already there cannot
// be stored again. The message id, which the server remembers for minutes, is a
// second belt. Any answer but a clean acknowledgement proves nothing: the stream
// is read back from its leader, and a pure function decides by what is there.
//
// What the stream lost although it had acknowledged it (a power cut, a store that
// was deleted or restored, a purge, a stream made again) is found by comparing its
// tail with the outbox's archive: at the start, after a reconnect, when the stream
// is another or holds less than before, and every few minutes. It is published
// again in order with the same ids, as far as the archive has it. After a purge
// the server refuses those ids until its duplicate window has passed.
//
// The relay promises nothing about a stream to which others publish below the
// prefix, nor about events lost before a later one of their operation that is
// still there: they cannot come back in order, and are counted and logged.
//
// # Replays
//
// A [Replay] publishes history again, into another stream and with ids of its
// own: each event is there once per replay, in order per operation, however often
// the replay is killed and resumed, for as long as the stream keeps what it took.
// The mechanism is the same compare-and-set. Nothing else remembers how far a
// replay came: the id of a replayed event is a function of the event and of the
// replay, so the stream itself is asked what it has.
package publisher
