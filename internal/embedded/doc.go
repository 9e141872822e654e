// Package embedded runs the two servers that pushwatch needs when it is given
// none: a private PostgreSQL cluster from the machine's own programs, and a NATS
// server inside this process. Both keep their data below one data directory.
//
// What it guarantees:
//
//   - One pushwatch at a time uses a data directory ([OpenDir]).
//   - What either server acknowledged is on disk: PostgreSQL with fsync, NATS with
//     SyncAlways. A kill of this process or a power cut loses nothing acknowledged.
//   - Never two PostgreSQL servers on one cluster: one that a killed pushwatch
//     left behind is adopted, or ended if it does not answer, and no process is
//     signalled unless it is a postgres that works in this directory.
//   - Nobody else gets in: PostgreSQL listens on a socket in a directory of its
//     own user, NATS on the loopback with a token.
package embedded
