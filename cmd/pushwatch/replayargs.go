package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// replayArgs is the command line of a replay as it was typed.
type replayArgs struct {
	companies, dataTypes, statuses []string
	since, until, to, resume       string
	rate                           int
	dryRun                         bool
}

// replay is a replay as it was asked for, read and checked.
type replay struct {
	of     store.Selection
	to, id string
	resume string
	rate   int
	dryRun bool
	place  []string // the flags that say which configuration
}

// parse reads the arguments; times that say how long ago are counted from now.
func (a replayArgs) parse(now time.Time) (*replay, error) {
	r := &replay{to: a.to, resume: a.resume, rate: a.rate, dryRun: a.dryRun}
	for _, list := range []struct {
		flag string
		from []string
		to   *[]string
	}{{"--company", a.companies, &r.of.Companies}, {"--data-type", a.dataTypes, &r.of.DataTypes}, {"--status", a.statuses, &r.of.Statuses}} {
		for _, value := range list.from {
			if value = strings.TrimSpace(value); value == "" {
				return nil, fmt.Errorf("%s: a value is empty; leave the flag out for all", list.flag)
			}
			*list.to = append(*list.to, value)
		}
		slices.Sort(*list.to)
		*list.to = slices.Compact(*list.to)
	}
	var err1, err2 error
	r.of.Since, err1 = parseMoment("--since", a.since, now)
	r.of.Until, err2 = parseMoment("--until", a.until, now)
	switch {
	case err1 != nil || err2 != nil:
		return nil, errors.Join(err1, err2)
	case a.rate < 0:
		return nil, fmt.Errorf("--rate %d: allowed are whole numbers from 0, which is as fast as the stream takes them", a.rate)
	case a.resume != "" && !event.ValidReplayID(a.resume):
		return nil, fmt.Errorf("--resume %q: a replay id is 16 digits of 0-9a-f, as the replay printed it", a.resume)
	}
	return r, nil
}

// parseMoment reads a time, the zero time for none.
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return push.Time(at), nil
		}
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return push.Time(now.AddDate(0, 0, -int(n))), nil
		}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return push.Time(now.Add(-ago)), nil
	}
	return time.Time{}, fmt.Errorf("%s %q: allowed are RFC 3339 (2026-01-31T15:04:05Z), a date (2026-01-31) and how long ago (24h, 90m, 7d)", flag, text)
}

// selection is all that decides which events a replay publishes, and where.
func (r *replay) selection() []byte {
	folded := store.Selection{Companies: r.of.Companies, DataTypes: r.of.DataTypes, Since: r.of.Since, Until: r.of.Until}
	for _, status := range r.of.Statuses {
		folded.Statuses = append(folded.Statuses, strings.ToLower(status))
	}
	encoded, err := json.Marshal(struct {
		Of store.Selection
		To string
	}{folded, r.to})
	if err != nil { // strings and times inside year 9999: cannot fail
		panic(fmt.Sprintf("encode the selection of a replay: %v", err))
	}
	return encoded
}

// newReplayID returns an id of which the first half is random and the second half
// tells the selection: a replay that went on with another one would take an
// operation's later event for proof of the earlier ones.
func newReplayID(selection []byte) string {
	var random [4]byte
	rand.Read(random[:]) //nolint:errcheck // never returns an error
	return hex.EncodeToString(random[:]) + selectionMark(selection)
}

func sameSelection(id string, selection []byte) bool {
	return strings.HasSuffix(id, selectionMark(selection))
}

func selectionMark(selection []byte) string {
	digest := sha256.Sum256(selection)
	return hex.EncodeToString(digest[:4])
}

func documentedStatuses() []string {
	return []string{string(push.Pending), string(push.Success), string(push.Failed), string(push.TimedOut)}
}

func undocumented(statuses []string) (unknown []string) {
	for _, status := range statuses {
		if !holdsFold(documentedStatuses(), status) {
			unknown = append(unknown, status)
		}
	}
	return unknown
}

func holdsFold(list []string, text string) bool {
	return slices.ContainsFunc(list, func(s string) bool { return strings.EqualFold(s, text) })
}

// placeWords spells the flags that say which configuration is meant.
func placeWords(flags config.Flags) (words []string) {
	if flags.File != "" {
		words = append(words, "--config", quoted(flags.File))
	}
	if flags.DataDir != "" {
		words = append(words, "--data-dir", quoted(flags.DataDir))
	}
	return words
}

// listed spells each value so that a flag that splits at commas reads it whole.
func listed(values []string) []string {
	words := make([]string, len(values))
	for i, value := range values {
		var b strings.Builder
		w := csv.NewWriter(&b)
		_ = w.Write([]string{value}) // to memory
		w.Flush()
		words[i] = strings.TrimSuffix(b.String(), "\n")
	}
	return words
}

// quoted spells a word for a shell.
func quoted(word string) string {
	safe := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("_-./:,=+@", r)
	}
	if word != "" && !strings.ContainsFunc(word, func(r rune) bool { return !safe(r) }) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
