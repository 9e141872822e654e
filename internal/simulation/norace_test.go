//go:build !race

package simulation

const defaultSeeds = 10_000
