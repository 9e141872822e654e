// Package store keeps pushwatch's state in PostgreSQL. It owns every
// transaction: an exported method is one fact and one commit, and no transaction
// leaves the package.
//
// What it guarantees:
//
//   - An operation's row, its transition and its outbox row are committed
//     together or not at all ([Store.Record]). The rule of package push decides
//     under the row's lock, so no change is announced twice.
//   - The versions of an operation count from 1 without gaps, and each
//     transition begins with the status that the one before it ended with.
//   - A look that began earlier never overwrites one that began later.
//   - One record that PostgreSQL refuses is quarantined; its page is kept.
//   - Every write of polling and relaying is fenced: it reads its lease row and
//     is refused when another process has taken the lease ([Leases]).
//   - An event's bytes are rendered once, in the transaction of its change. A
//     replay renders them anew, as another event ([Replay]): it reads committed
//     history, takes no lease and no lock, and writes nothing.
//
// A commit whose answer is lost is neither assumed done nor undone: the caller
// looks again, and the same look recorded twice changes nothing.
package store
