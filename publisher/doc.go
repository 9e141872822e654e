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
// The relay promises nothing about a stream to which others publish below the
// prefix, from which messages are removed before their age, or whose storage
// loses what it acknowledged; the last two it notices when the operation's next
// event comes, and then publishes the lost ones again, as far as the outbox still
// has them.
package publisher
