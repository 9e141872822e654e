//go:build simulation && !race

package simulation

const defaultSeeds = 10_000
