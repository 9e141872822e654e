package config

import "strings"

// nearestKey returns the key that was most likely meant by an unknown one: the
// one of the same name in another section, else the nearest in the same section,
// else the nearest of all.
func nearestKey(unknown string, known []string) string {
	section, name := "", unknown
	if i := strings.LastIndex(unknown, "."); i >= 0 {
		section, name = unknown[:i+1], unknown[i+1:]
	}
	var candidates []string
	for _, key := range known {
		if key[strings.LastIndex(key, ".")+1:] == name {
			return key
		}
		if rest, ok := strings.CutPrefix(key, section); ok {
			next, _, _ := strings.Cut(rest, ".")
			candidates = append(candidates, section+next)
		}
	}
	if candidates == nil {
		candidates = known
	}
	return nearest(unknown, candidates)
}

// nearest returns the candidate that the fewest insertions, deletions and
// replacements turn name into; the first of several.
func nearest(name string, candidates []string) string {
	const longest = 100 // of which the distance is worth its time
	name = name[:min(len(name), longest)]
	best, least := "", -1
	for _, candidate := range candidates {
		if d := distance(name, candidate); least < 0 || d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is Levenshtein's, over bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
