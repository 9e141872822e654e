// Package simulation runs several replicas of pushwatch in one process, against a
// database, a broker and a Codat of its own, in virtual time, under faults, and
// holds what comes out against the truth. It is all tests, and not yet part of make test:
// they need the build tag simulation.
package simulation
