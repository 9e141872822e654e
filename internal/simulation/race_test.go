//go:build simulation && race

package simulation

// defaultSeeds is what the race detector can bear; without it there are more.
const defaultSeeds = 300
