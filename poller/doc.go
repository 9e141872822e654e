// Package poller decides what to ask Codat and when, in mode cron: every company
// is listed at the discover ticks, unfinished operations are followed at the track
// ticks, and whole histories are walked at the sweep ticks.
//
// What it guarantees:
//
//   - A tick never waits and never ends the process. A company that is still at
//     work for the same job is skipped, not queued, so one slow company holds up
//     no other.
//   - Progress is claimed only by walks that were finished; a walk that was
//     interrupted, or that left a contradiction open, proves nothing.
//   - No request is sent that is not counted in the shared quota first ([Ledger]),
//     and none while a pause is on that any replica has seen.
//   - Requests of a process are admitted in the order in which they came; those that
//     wait keep none that was answered from being booked.
//   - What was due while nobody was there runs once when a company is taken up,
//     however many ticks were missed.
//   - An operation that no get can show keeps no other from being asked, and is
//     itself asked again no more often than if it had been shown.
package poller
