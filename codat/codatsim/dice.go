package codatsim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
)

// mix folds parts into one number; each bit of each part moves about half of the
// result's bits (the finaliser of SplitMix64). Order counts.
func mix(parts ...uint64) uint64 {
	var h uint64
	for _, part := range parts {
		h += part + 0x9e3779b97f4a7c15
		h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
		h = (h ^ h>>27) * 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// word turns a name into a part for mix.
func word(name string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name))
	return h.Sum64()
}

// dice returns the random numbers that belong to parts: always the same ones.
func dice(parts ...uint64) *rand.Rand {
	seed := mix(parts...)
	return rand.New(rand.NewPCG(seed, mix(seed)))
}

// uuid draws a version 4 UUID.
func uuid(d *rand.Rand) string {
	hi := d.Uint64()&^0xf000 | 0x4000
	lo := d.Uint64()&^(0xc0<<56) | 0x80<<56
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}

// pick draws an index of weights, each as likely as its weight says.
func pick(d *rand.Rand, n int, weight func(int) float64) int {
	var total float64
	for i := range n {
		total += weight(i)
	}
	at := d.Float64() * total
	for i := range n {
		if at -= weight(i); at < 0 {
			return i
		}
	}
	return n - 1
}
