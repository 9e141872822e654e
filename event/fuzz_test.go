package event_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

// FuzzEscape: whatever an operation's parts hold, its subject is legal, tells
// them again, and is matched by its own filter and by those of subscribers.
func FuzzEscape(f *testing.F) {
	f.Add("company", "invoices", "key", "Failed")
	f.Fuzz(func(t *testing.T, company, dataType, key, status string) {
		for _, token := range []string{company, dataType, key, status} {
			checkEscape(t, token)
		}
		name := event.Name(push.Status(status))
		stem := event.Subjects(event.DefaultPrefix, company, dataType, key)
		subject := stem.Subject(name)
		if company == "" || key == "" || status == "" {
			return // Encode refuses them
		}
		require.True(t, server.IsValidLiteralSubject(subject), subject)
		tokens := strings.Split(subject, ".")
		require.Len(t, tokens, 6)
		require.Equal(t, company, unescape(t, tokens[2]))
		require.Equal(t, key, unescape(t, tokens[4]))
		if dataType == "" {
			require.Equal(t, "_", tokens[3])
		} else {
			require.NotEqual(t, "_", tokens[3])
			require.Equal(t, dataType, unescape(t, tokens[3]))
		}
		require.NotContains(t, []string{"stalled", "gone"}, tokens[5])
		require.Equal(t, strings.ToLower(status), unescape(t, strings.TrimSuffix(tokens[5], "=")))
		require.True(t, server.SubjectMatchesFilter(subject, stem.Filter()))
		require.True(t, server.SubjectMatchesFilter(subject, event.Match(event.DefaultPrefix, &company, &dataType, &name)))
		other := event.Subjects(event.DefaultPrefix, company+"x", dataType, key)
		require.False(t, server.SubjectMatchesFilter(subject, other.Filter()))
	})
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

// FuzzEncode: an event of whatever texts, numbers and times an operation may hold
// is a message whose headers and body tell it all, valid by its schema and never
// too large; or it is an error, because it names no operation.
func FuzzEncode(f *testing.F) {
	f.Add("company", "key", "invoices", "connection", "Failed", "Pending", "refused", "locked", int64(2), int64(400), int64(1679419078923536), false)
	schemas := compiled(f)
	f.Fuzz(func(t *testing.T, company, key, dataType, connection, status, previous, message, remark string,
		version, code, requested int64, baseline bool) {
		for _, s := range []string{company, key, dataType, connection, status, previous, message, remark} {
			if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
				return // no Operation holds such text
			}
		}
		number, before := int(code), push.ParseStatus(previous)
		op := push.Operation{CompanyID: company, Key: key, DataType: dataType, ConnectionID: connection, Status: push.ParseStatus(status),
			StatusCode: &number, ErrorMessage: &message, RequestedOn: push.Time(time.UnixMicro(requested)),
			Validation: &push.Validation{Errors: []push.ValidationItem{{Message: &remark}}}}
		if year := op.RequestedOn.Year(); year < 2 || year > 9998 {
			return // no decoder reads such a time
		}
		e := event.New(instance, op, max(version, 1))
		e.ObservedAt, e.Source, e.Baseline = event.Timestamp(at(1)), push.FromGet, baseline
		if before != "" {
			e.PreviousStatus = &before
		}
		encoded, err := event.Encode(event.DefaultPrefix, dataType, e)
		if company == "" || key == "" || op.Status == "" {
			require.Error(t, err)
			return
		}
		require.NoError(t, err)
		checkMessage(t, e, encoded)
		require.NoError(t, validate(schemas[e.Type], encoded.Data))
	})
}

// checkMessage: the message says what the event says, in its headers and again in
// its body, which is enough to make the same message.
func checkMessage(t *testing.T, e event.Event, m event.Message) {
	require.LessOrEqual(t, len(m.Data), event.MaxSize)
	require.True(t, server.IsValidLiteralSubject(m.Subject), m.Subject)
	require.True(t, server.SubjectMatchesFilter(m.Subject, m.Filter))
	require.Equal(t, e.ID, m.ID)
	parsed, ok := event.ParseID(m.ID)
	require.True(t, ok)
	require.Equal(t, e.Version, parsed.Version)
	for name, want := range map[string]string{"ce-id": e.ID, "ce-subject": e.PushOperationKey, "ce-source": "codat/companies/" + e.CompanyID} {
		checkPercent(t, want)
		require.Equal(t, want, percentDecode(t, m.Header[name]))
	}
	var told event.Event
	require.NoError(t, json.Unmarshal(m.Data, &told))
	require.Equal(t, e.Status, told.Status)
	require.Equal(t, e.PushOperationKey, told.PushOperationKey)
	if len(told.Omitted) == 0 {
		require.Equal(t, e.ErrorMessage, told.ErrorMessage)
		require.Equal(t, e.Validation, told.Validation)
	}
	dataType := ""
	if e.DataType != nil {
		dataType = *e.DataType
	}
	again, err := event.Encode(event.DefaultPrefix, dataType, told)
	require.NoError(t, err)
	require.Equal(t, m, again)
}
