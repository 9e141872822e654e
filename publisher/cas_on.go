//go:build !mutant_nocas

package publisher

// expectSequence is the mechanism that keeps events from being stored twice. A
// build with the tag mutant_nocas is without it, so that a test can show that it
// would notice.
const expectSequence = true
