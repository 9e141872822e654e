// Package chaos is the proof of what docs/reliability.md promises: it breaks
// pushwatch, PostgreSQL, NATS, Codat and the wires between them in every way of
// the fault matrix, with real processes and servers, and compares afterwards.
//
// One oracle judges every row: the simulator, which knows what really happened to
// each push operation, against the views and the stream. Lost, duplicated, out of
// order, phantom (an event that nothing at Codat accounts for), orphans (broken
// invariants of the database) and quota exceeded must be zero, and whatever else
// the row promises must hold.
//
// Every row names the mechanism that it guards. Its mutation check runs the row
// with a program that works without the mechanism (package fault) and passes only
// if the oracle finds damage then: a row that stays green without its mechanism
// proves nothing.
//
// The rows are tests; see CONTRIBUTING.md for how to run them, docs/reliability.md
// for the last full run. There is no shipped code in this package.
package chaos
