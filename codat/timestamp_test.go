package codat

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestParseTime(t *testing.T) {
	micro := func(n int) time.Time { return time.Date(2023, 3, 21, 17, 17, 58, n*1000, time.UTC) }
	for _, c := range []struct {
		name, text string
		want       time.Time // zero: unusable
	}{
		{"with Z", "2023-03-21T17:17:58Z", micro(0)},
		{"with a small z and t", "2023-03-21t17:17:58z", micro(0)},
		{"without a zone, which is UTC", "2023-03-21T17:17:58", micro(0)},
		{"with a space for T", "2023-03-21 17:17:58", micro(0)},
		{"with an offset", "2023-03-21T19:17:58+02:00", micro(0)},
		{"with an offset of zero without a colon", "2023-03-21T17:17:58+0000", micro(0)},
		{"with an offset of hours alone", "2023-03-21T12:17:58-05", micro(0)},
		{"with an offset of half an hour", "2023-03-21T22:47:58.5+05:30", micro(500000)},
		{"with a negative offset over midnight", "2023-03-21T03:17:58-14:00", micro(0)},
		{"between spaces", " 2023-03-21T17:17:58Z ", micro(0)},
		{"with 1 digit", "2023-03-21T17:17:58.9Z", micro(900000)},
		{"with 3 digits", "2023-03-21T17:17:58.923Z", micro(923000)},
		{"with 6 digits", "2023-03-21T17:17:58.923536Z", micro(923536)},
		{"with 7 digits, truncated", "2023-03-21T17:17:58.9235368Z", micro(923536)},
		{"with 7 digits and no zone", "2023-03-21T17:17:58.9235368", micro(923536)},
		{"with 9 digits, truncated", "2023-03-21T17:17:58.923536999Z", micro(923536)},
		{"with all nines, which stay in their second", "2023-03-21T17:17:58.9999999Z", micro(999999)},
		{"at a year's last moment, which stays in its year", "2022-12-31T23:59:59.9999999Z", time.Date(2022, 12, 31, 23, 59, 59, 999999000, time.UTC)},
		{"on a leap day", "2024-02-29T00:00:00Z", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)},
		{"as milliseconds of .NET", "/Date(1679419078923)/", micro(923000)},
		{"as milliseconds of .NET with an offset, which changes nothing", "/Date(1679419078923+0200)/", micro(923000)},
		{"as milliseconds of .NET before 1970", "/Date(-1000)/", time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC)},
		{"as seconds since 1970", "1679419078", micro(0)},
		{"as milliseconds since 1970", "1679419078923", micro(923000)},

		{"empty", "", time.Time{}},
		{"a word", "yesterday", time.Time{}},
		{"a date alone", "2023-03-21", time.Time{}},
		{"without seconds", "2023-03-21T17:17", time.Time{}},
		{"local, day first", "21/03/2023 17:17:58", time.Time{}},
		{"with 10 digits", "2023-03-21T17:17:58.9235368999Z", time.Time{}},
		{"with a comma", "2023-03-21T17:17:58,923Z", time.Time{}},
		{"February 30", "2023-02-30T00:00:00Z", time.Time{}},
		{"February 29 of no leap year", "2023-02-29T00:00:00Z", time.Time{}},
		{"month 13", "2023-13-01T00:00:00Z", time.Time{}},
		{"month 0", "2023-00-01T00:00:00Z", time.Time{}},
		{"day 0", "2023-03-00T00:00:00Z", time.Time{}},
		{"hour 24", "2023-03-21T24:00:00Z", time.Time{}},
		{"minute 60", "2023-03-21T17:60:00Z", time.Time{}},
		{"second 60", "2016-12-31T23:59:60Z", time.Time{}},
		{"an offset of 15 hours", "2023-03-21T17:17:58+15:00", time.Time{}},
		{"an offset of 60 minutes", "2023-03-21T17:17:58+01:60", time.Time{}},
		{"an offset without a sign", "2023-03-21T17:17:58 0100", time.Time{}},
		{"two zones", "2023-03-21T17:17:58Z+01:00", time.Time{}},
		{"a zone's name", "2023-03-21T17:17:58 CET", time.Time{}},
		{"a sign before the year", "-023-03-21T17:17:58Z", time.Time{}},
		{".NET's MinValue", "0001-01-01T00:00:00", time.Time{}},
		{".NET's MinValue with Z", "0001-01-01T00:00:00Z", time.Time{}},
		{".NET's MinValue east of Greenwich", "0001-01-01T00:00:00+01:00", time.Time{}},
		{".NET's MinValue in milliseconds", "/Date(-62135596800000)/", time.Time{}},
		{".NET's MaxValue", "9999-12-31T23:59:59.9999999", time.Time{}},
		{".NET's MaxValue with Z", "9999-12-31T23:59:59.9999999Z", time.Time{}},
		{".NET's MaxValue west of Greenwich", "9999-12-31T23:59:59-08:00", time.Time{}},
		{"a year of five digits", "10000-01-01T00:00:00Z", time.Time{}},
		{"a day without separators", "20230321", time.Time{}},
		{"a moment without separators", "20230321171758", time.Time{}},
		{"an empty .NET date", "/Date()/", time.Time{}},
		{"an open .NET date", "/Date(1679419078923", time.Time{}},
		{"a .NET date beyond all years", "/Date(99999999999999999)/", time.Time{}},
		{"a .NET date with a strange offset", "/Date(1679419078923+9999)/", time.Time{}},
		{"a fraction of an epoch", "1679419078.5", time.Time{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := parseTime(c.text)
			assert.Equal(t, !c.want.IsZero(), ok)
			assert.Equal(t, c.want, got, "in every field, so that == holds")
		})
	}
}
