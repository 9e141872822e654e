package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

func FuzzEscape(f *testing.F) {
	for _, seed := range []string{"", "invoices", "_", "=5F", "a.b.*.>", "\xff\x00\r\n", "ключ"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) { checkEscape(t, token) })
}

func FuzzPercentEncode(f *testing.F) {
	for _, seed := range []string{"", "Euro € 😀", "%41", `"50%"`, "\xff\x00\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) { checkPercent(t, value) })
}

func FuzzTimestamp(f *testing.F) {
	for _, seed := range []string{`"2023-03-21T17:17:58.923536Z"`, `"9999-12-31T23:59:59.9999999-14:00"`,
		`"0001-01-01T00:00:00+14:00"`, `"2016-12-31T23:59:60Z"`, `null`, `""`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var at, back event.Timestamp
		if at.UnmarshalJSON([]byte(text)) != nil {
			return
		}
		written, err := json.Marshal(at)
		require.NoError(t, err)
		require.Len(t, written, len(`"2006-01-02T15:04:05.000000Z"`))
		require.NoError(t, json.Unmarshal(written, &back))
		require.True(t, time.Time(at).Equal(time.Time(back)))
	})
}

func FuzzParseID(f *testing.F) {
	f.Add(event.ID(instance, companyID, key, 1))
	f.Add("0badcafe-0123456789abcdef0123456789abcdef-01")
	f.Add("order-17")
	f.Fuzz(func(t *testing.T, id string) {
		if parsed, ok := event.ParseID(id); ok {
			rebuilt, err := json.Marshal(parsed.Version)
			require.NoError(t, err)
			require.Equal(t, id, parsed.Instance+"-"+parsed.Operation+"-"+string(rebuilt))
			require.Len(t, parsed.Instance, 8)
			require.Len(t, parsed.Operation, 32)
			require.Positive(t, parsed.Version)
		}
	})
}

func FuzzEncode(f *testing.F) {
	f.Add("company", "key", "invoices", "Failed", "refused", int64(2))
	f.Add("c.1 >*", "ключ=%41\t\"", "_", "Gone", "", int64(1))
	schemas := compiled(f)
	f.Fuzz(func(t *testing.T, company, key, dataType, status, message string, version int64) {
		for _, s := range []string{company, key, dataType, status, message} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				return // no Operation holds such text
			}
		}
		op := push.Operation{CompanyID: company, Key: key, DataType: dataType, Status: push.ParseStatus(status), ErrorMessage: &message}
		e := event.New(instance, op, max(version, 1))
		e.ObservedAt, e.Source = event.Timestamp(at(1)), push.FromGet
		encoded, err := event.Encode(event.DefaultPrefix, dataType, e)
		if company == "" || key == "" || op.Status == "" {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		require.Len(t, strings.Split(encoded.Subject, "."), 6)
		require.NoError(t, validate(schemas[e.Type], encoded.Data))
	})
}
