// Package codatsim simulates the part of the Codat API that deals with push
// operations: list_operations, get_operation and get_model_options. It is a
// second reading of Codat's documentation, made on its own: it never imports the
// client that it serves to test, so that a mistake in one is not a mistake in
// both.
//
// # What it guarantees
//
// One seed and one clock give one world. Which operations exist, when each was
// requested, when its status moves and what its texts say is a pure function of
// the seed and of absolute time: two simulators with the same configuration
// answer the same requests with the same bytes, and a simulator that is started
// again goes on with the same operations as far as its History reaches back.
// Companies made by [MakeCompanies] depend on the seed alone.
//
// Nothing runs in the background. The state of a company is worked out for the
// time of each request, so a clock that stands still stops the world, and
// [Sim.Freeze] stops it for good: after it returns no operation appears, changes
// or vanishes.
//
// It keeps the truth. [Sim.Truth] tells of every operation what it is now and all
// that it was, whatever the answers claimed; [Sim.Stats] tells what was asked. An
// auditor compares both with what a client believes.
//
// # The world
//
//	seed, minute of absolute time
//	   -> arrivals of each company (Poisson, at Config.Rate)
//	   -> each operation: key, connection, data type, and by the connection's Law
//	      the steps of its life: Pending [-> Processing] -> Success | Failed |
//	      TimedOut, or Pending for ever
//	   -> texts, validation items and changed records, from the operation's seed
//
// [Sim.Add], [Sim.Set] and [Sim.Remove] script operations beside or instead of
// those; with Rate and History zero the world holds nothing else.
//
// # The answers
//
// Answers are as documented: pages with relative links, Codat's error body with a
// correlationId, X-Rate-Limit headers and a Date of the simulator's own clock. The
// limits bind: a day's quota, 1,000 requests a minute, 10 at once per company; what
// goes beyond is a 429 with Retry-After.
//
// Where the documentation leaves something open the simulator takes the side that
// hurts a careless client: pages are oldest first unless asked otherwise, query is
// ignored, dates carry up to seven digits, a data type may be null.
//
// A [Rule] makes answers worse: see [Fault] for the catalogue. Rules strike by
// chance, drawn from the seed, or exactly, a number of times, in the order given.
//
// # The control surface
//
// The standalone simulator can be read and steered from outside, under the same
// key as the API; requests to it are never counted, limited or hurt:
//
//	GET  /_sim/health     200 as soon as it serves; needs no key
//	GET  /_sim/companies  [{"id","name","connections":[{"id","platform"}]}]
//	GET  /_sim/truth      the [Truth] of every operation
//	GET  /_sim/stats      the [Stats] so far
//	POST /_sim/freeze     stops the timeline: {"frozenAt"}
//	GET  /_sim/faults     the rules in force
//	PUT  /_sim/faults     replaces them: [{"fault":"cut_body","chance":0.1}]
package codatsim
