// Package push is the domain: what a push operation is, which states it goes
// through, and the one pure rule, [Observe], that turns "what we hold" and "what
// we just saw" into a change or into none. It imports the standard library only,
// does no input or output and reads no clock.
//
// It guarantees that the verdict on a look depends on nothing but the stored row
// and the look itself; that a look older than the row changes nothing; that a
// terminal status never changes after a single reading; and that a status this
// program has never heard of is kept as it is spelt.
//
// # The life of a push operation
//
// Some application that is not pushwatch asks Codat to write a record (an
// invoice, a bill) into a company's accounting platform. Codat answers with a
// push operation, performs the write when the platform lets it, and notes the
// outcome. pushwatch only ever looks: it creates no operation and alters none.
// An operation is identified by its company and its push operation key.
//
//	an application pushes a record
//	             |
//	             v
//	        +---------+    the platform took it    +---------+
//	        | Pending |--------------------------->| Success |
//	        +---------+                            +---------+
//	         |   |   |     the platform refused    +---------+
//	         |   |   +---------------------------->| Failed  |
//	         |   |                                 +---------+
//	         |   |         nobody knows            +----------+
//	         |   +-------------------------------->| TimedOut |
//	         v                                     +----------+
//	  +-------------+                                terminal
//	  | any unknown |--> as from Pending
//	  +-------------+
//
// Pending says that the write is not finished; on desktop software it may stay so
// for ever. Success and Failed are certain outcomes. TimedOut is terminal but not
// certain: the write may have happened, or happen later. Any other status is
// unknown: not terminal, its outcome not certain, followed like Pending, and
// published as it is spelt. Spellings that differ in case are different statuses
// that are classified alike.
//
// # Legal edges, surprising edges, and what we do
//
// What one look at an operation means:
//
//   - Nothing to X: first sight, version 1. X may be terminal at once; that is
//     normal, most operations finish between two looks.
//   - X to X: no change, whatever else of the record differs. Other columns are
//     refreshed silently.
//   - Pending or unknown to anything else: a change, applied and published at
//     once. Every such edge is legal.
//   - A terminal status to anything else, so also Success to Pending: a surprise,
//     and a single reading is no proof. The stored status stays; only the dispute
//     is noted (disputed_status, disputed_at), and nothing is published. The
//     operation is then asked with get_operation in the same run. If that second
//     reading agrees with the surprise, the change is applied and published as
//     the next version. If it shows the stored status again, the dispute is
//     cleared. If it shows a third status, the dispute starts anew over that one.
//     When the get is refused or finds nothing, it is repeated at track ticks,
//     and a list page whose request began 60 seconds ([SecondReading]) or more
//     after the dispute arose counts as the second reading too. A list page that
//     began earlier decides nothing: it may repeat what raised the dispute.
//   - Anything, seen by a look that began before the one that wrote the row:
//     stale, and ignored. Looks are ordered by the start of their requests, so an
//     answer that was long on its way never overwrites a newer one.
//
// A key that one page shows with two different statuses is decided by neither
// row, but by get_operation ([Page.Distinct]).
//
// # Who is authoritative for what
//
//   - Codat, for the status and everything else that an operation tells.
//   - Our row, for what was already announced: the next version is decided
//     against the locked row, in the transaction that also writes the transition
//     and the outbox entry. So an unpublished change is never forgotten and a
//     published one never decided twice.
//   - The database's clock, for leases and for the quota's day. Looks are timed
//     by the local monotonic clock plus the database's offset; Codat's own times
//     are data, never control.
//
// Can an event be sent twice? It can be sent, but not stored in the stream,
// twice. Its id is a function of the operation and the version, its bytes are
// rendered once, and every publication carries the stream sequence that must be
// the operation's last so far; a publication whose answer was lost is resolved by
// reading the stream back. So the stream holds each event once and those of one
// operation in order. A subscriber may still be handed a message twice, because
// JetStream delivers at least once: keep an inbox of event ids, as
// examples/consumer does.
//
// # What polling can miss
//
// Polling samples. A state that Codat entered and left between two looks is not
// seen, and no version tells of it: Pending, Failed at 12:00:10 and Pending again
// at 12:00:20 is one unbroken Pending to a look every minute. When a change happened
// is known only as an interval, from the last look that showed the previous state
// to the look that showed the new one. Operations that Codat forgets before the
// first look at their company are never known. Nothing that was once committed is
// lost by a crash: what happens while the daemon is down is found when it is back.
//
// # Glossary
//
//   - push operation: one attempt to write one record into a company's
//     accounting platform through Codat; Codat now also says "write request".
//   - company: a customer's business at Codat, the unit of polling and leasing.
//   - connection: the link of a company to one accounting platform.
//   - look: one answered request that shows operations ([Look]).
//   - sight: what a look shows of one operation ([Sight]).
//   - transition: a change of an operation's status as we committed it; the
//     transitions of one operation are numbered from version 1 without gaps.
//   - outbox: the table of events committed together with their transitions and
//     not yet in the stream.
//   - relay: what moves the outbox into the stream.
//   - lease: the right of one replica, for 15 seconds and with a fencing token,
//     to work on a company or to relay a part of the outbox.
//   - walk: reading a company's list page by page ([Walk]).
//   - discover: the walk from the newest operation down to what is known.
//   - track: following unfinished and disputed operations with get_operation.
//   - sweep: the walk of a whole history that reconciles what discover missed.
//   - baseline: the operations requested before the first look at their company,
//     and the walk that reads them. Under poll.baseline "silent" they are
//     recorded without a version; their first later change is version 1.
//   - dispute: a stored terminal status that was read differently once.
//   - quarantine: where a record goes that cannot be read or stored, so that its
//     neighbours are not hurt and nothing is dropped ([Quarantined]).
package push
