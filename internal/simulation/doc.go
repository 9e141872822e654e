// Package simulation runs several replicas of pushwatch in one process, against a
// database, a broker and a Codat of its own, in virtual time, under faults, and
// holds what comes out against the truth. It is all tests. What runs is the poller,
// the quota, the relay and the rule of package push; the models of PostgreSQL and
// JetStream are held against the real ones by tests of their own.
//
// A seed is one life: TestSeeds prints the end of the history of a seed that fails,
// and the command that replays it whole.
package simulation
