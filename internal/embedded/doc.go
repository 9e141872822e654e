// Package embedded runs the two servers that pushwatch needs when it is given
// none: a private PostgreSQL cluster from the machine's own programs, and a NATS
// server inside this process. Both keep their data below one data directory:
//
//	lock            held with flock for the life of the process; names its pid
//	version         layout of the directory
//	connect.env     addresses of both servers for a shell, mode 0600
//	postgres/       the cluster, of PostgreSQL's user alone
//	postgres.log    what PostgreSQL says, cut back before it grows past 16 MiB
//	run/            PostgreSQL's socket, or socket-dir names a directory for it
//	                where this path would be too long
//	nats/           JetStream's store, the token and the size limit
//
// What it guarantees:
//
//   - One pushwatch at a time uses a data directory ([OpenDir]).
//   - What either server acknowledged is on disk: PostgreSQL with fsync and
//     synchronous_commit, NATS with SyncAlways. A kill of this process or a power
//     cut loses nothing acknowledged.
//   - Never two PostgreSQL servers on one cluster: one that a killed pushwatch
//     left behind is adopted, or ended if it does not answer, and no process is
//     signalled unless it is a postgres that works in this cluster.
//   - A kill at any moment leaves a directory that the next start can use: the
//     cluster appears whole by a rename, and so does every small file.
//   - Nobody else gets in: PostgreSQL listens on a socket in a directory of its
//     own user, NATS on the loopback with a token. Neither gets this process's
//     environment, which holds secrets.
//   - Addresses are stable: after a server died, a start on the same directory
//     gives PostgreSQL the same URL, and NATS the same token.
//
// PostgreSQL refuses to run as root, so root runs it as the cluster's owner, for
// a new cluster as the user postgres, else nobody.
package embedded
