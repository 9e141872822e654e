package codat

import (
	"strconv"
	"strings"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// parseTime reads a date-time as Codat or software beside it may spell it, and
// returns it in the normal form of push.Time; ok is false, and the time zero,
// where the text names no single moment or stands for none:
//
//   - 2023-03-21T17:17:58, or with a space for the T, with 0 to 9 digits of
//     fraction, which are truncated, never rounded, to microseconds; then Z, or an
//     offset (+01:00, +0100, +01), or nothing, which means UTC.
//   - /Date(1679419078923)/, milliseconds since 1970, with or without an offset,
//     which changes nothing.
//   - Exactly 10 digits, seconds since 1970, or 13, milliseconds: the years 2001
//     to 2286. Other lengths could be either, or a date without separators.
//
// Days that do not exist, hour 24 and second 60 name no moment. The years 1 and
// 9999 are where .NET's smallest and largest dates lie, which mean "none".
func parseTime(text string) (at time.Time, ok bool) {
	text = strings.TrimSpace(text)
	if at, ok = parseEpoch(text); !ok {
		at, ok = parseCalendar(text)
	}
	if !ok {
		return time.Time{}, false
	}
	at = push.Time(at)
	if at.Year() <= 1 || at.Year() >= 9999 {
		return time.Time{}, false
	}
	return at, true
}

// parseCalendar reads YYYY-MM-DD, T or a space, hh:mm:ss, a fraction, a zone.
func parseCalendar(text string) (time.Time, bool) {
	const stem = len("2006-01-02T15:04:05")
	if len(text) < stem {
		return time.Time{}, false
	}
	var n [6]int
	for i, field := range [6]struct {
		at, digits int
		after      string // what may follow
	}{{0, 4, "-"}, {5, 2, "-"}, {8, 2, "Tt "}, {11, 2, ":"}, {14, 2, ":"}, {17, 2, ""}} {
		value, ok := digits(text[field.at : field.at+field.digits])
		if !ok || field.after != "" && strings.IndexByte(field.after, text[field.at+field.digits]) < 0 {
			return time.Time{}, false
		}
		n[i] = value
	}
	nanoseconds, zone, ok := parseFraction(text[stem:])
	if !ok {
		return time.Time{}, false
	}
	offset, ok := parseZone(zone)
	if !ok {
		return time.Time{}, false
	}
	at := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], nanoseconds, time.UTC)
	// time.Date takes February 30 for March 2; such a time is no time.
	if at.Month() != time.Month(n[1]) || at.Day() != n[2] || at.Hour() != n[3] || at.Minute() != n[4] || at.Second() != n[5] {
		return time.Time{}, false
	}
	return at.Add(-offset), true
}

// parseFraction reads a decimal fraction of a second of at most 9 digits and
// returns what follows it.
func parseFraction(text string) (nanoseconds int, rest string, ok bool) {
	if !strings.HasPrefix(text, ".") {
		return 0, text, true
	}
	rest = strings.TrimLeft(text[1:], "0123456789")
	fraction := text[1 : len(text)-len(rest)]
	if len(fraction) > 9 {
		return 0, "", false
	}
	nanoseconds, ok = digits((fraction + "000000000")[:9])
	return nanoseconds, rest, ok
}

// parseZone reads a zone as its distance from UTC, at most 14 hours.
func parseZone(zone string) (time.Duration, bool) {
	if zone == "" || zone == "Z" || zone == "z" {
		return 0, true
	}
	sign, plain := zone[0], zone[1:]
	if len(plain) == 5 && plain[2] == ':' {
		plain = plain[:2] + plain[3:]
	}
	if len(plain) == 2 {
		plain += "00"
	}
	if len(plain) != 4 || sign != '+' && sign != '-' {
		return 0, false
	}
	hours, okHours := digits(plain[:2])
	minutes, okMinutes := digits(plain[2:])
	offset := time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute
	if !okHours || !okMinutes || minutes > 59 || offset > 14*time.Hour {
		return 0, false
	}
	if sign == '-' {
		offset = -offset
	}
	return offset, true
}

func parseEpoch(text string) (time.Time, bool) {
	if inner, ok := strings.CutPrefix(text, "/Date("); ok {
		inner, ok = strings.CutSuffix(inner, ")/")
		if !ok || inner == "" {
			return time.Time{}, false
		}
		if sign := strings.LastIndexAny(inner, "+-"); sign > 0 {
			if _, ok := parseZone(inner[sign:]); !ok {
				return time.Time{}, false
			}
			inner = inner[:sign]
		}
		if _, ok := digits(strings.TrimPrefix(inner, "-")); !ok || len(inner) > 15 {
			return time.Time{}, false
		}
		milliseconds, err := strconv.ParseInt(inner, 10, 64)
		return time.UnixMilli(milliseconds), err == nil
	}
	number, ok := digits(text)
	switch {
	case ok && len(text) == 10 && text[0] != '0':
		return time.Unix(int64(number), 0), true
	case ok && len(text) == 13 && text[0] != '0':
		return time.UnixMilli(int64(number)), true
	}
	return time.Time{}, false
}

// digits reads text that is decimal digits and nothing else.
func digits(text string) (n int, ok bool) {
	if text == "" || len(text) > 18 { // 18 digits fit any int64
		return 0, false
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
