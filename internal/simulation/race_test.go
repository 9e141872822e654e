//go:build race

package simulation

// defaultSeeds is what the race detector can bear; make simulate runs 10,000 without.
const defaultSeeds = 1000
