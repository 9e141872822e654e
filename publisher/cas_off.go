//go:build mutant_nocas

package publisher

// expectSequence is off in this mutant, which exists for one test: it must show
// duplicates.
const expectSequence = false
