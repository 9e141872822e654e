package event_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

// percentDecode does one round, as the CloudEvents NATS binding asks of receivers.
func percentDecode(t require.TestingT, value string) string {
	decoded, err := url.PathUnescape(value)
	require.NoError(t, err)
	return decoded
}

func checkPercent(t require.TestingT, value string) {
	encoded := event.PercentEncode(value)
	require.Equal(t, value, percentDecode(t, encoded))
	for i := range len(encoded) {
		c := encoded[i]
		require.True(t, '!' <= c && c <= '~' && c != '"', "%q in %q", c, encoded)
	}
}

func TestHeaderValuesAreEncodedAsTheNATSBindingSays(t *testing.T) {
	for value, want := range map[string]string{
		"Euro € 😀":   "Euro%20%E2%82%AC%20%F0%9F%98%80", // the binding's own example
		`"50%"`:      "%2250%25%22",
		"!~#/=*>.\\": "!~#/=*>.\\",
		"\r\n\x7f":   "%0D%0A%7F",
		"%41":        "%2541",
		"":           "",
	} {
		assert.Equal(t, want, event.PercentEncode(value))
	}
	rapid.Check(t, func(t *rapid.T) { checkPercent(t, anyBytes().Draw(t, "value")) })
}

func TestEncodingTwiceGivesTheSameMessage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		first, err := event.Encode("a.b", "t", e)
		require.NoError(t, err)
		second, err := event.Encode("a.b", "t", e)
		require.NoError(t, err)
		require.Equal(t, first, second)

		var back event.Event
		require.NoError(t, json.Unmarshal(first.Data, &back))
		again, err := event.Encode("a.b", "t", back)
		require.NoError(t, err)
		require.Equal(t, first, again, "the body is enough")
	})
}

func TestTheSubjectKeepsTheDataTypeOfTheFirstSight(t *testing.T) {
	message, err := event.Encode("x.y", "bills", goldenEvents()["success"])
	require.NoError(t, err)
	assert.Equal(t, "x.y."+companyID+".bills."+key+".success", message.Subject)
	assert.Contains(t, string(message.Data), `"dataType":"invoices"`)
}

func TestAnEventThatHasNoLegalSubjectIsAnError(t *testing.T) {
	for name, spoil := range map[string]func(*event.Event){
		"company": func(e *event.Event) { e.CompanyID = "" },
		"key":     func(e *event.Event) { e.PushOperationKey = "" },
		"status":  func(e *event.Event) { e.Status = "" },
		"name":    func(e *event.Event) { e.Event = "" },
	} {
		t.Run("without "+name, func(t *testing.T) {
			e := goldenEvents()["success"]
			spoil(&e)
			_, err := event.Encode(event.DefaultPrefix, "invoices", e)
			require.ErrorContains(t, err, "encode event "+e.ID)
		})
	}
}

// sized returns an event whose body is exactly size bytes long.
func sized(t *testing.T, size int) event.Event {
	e := changed(failed(), 2, push.Pending)
	e.ErrorMessage = ptr("")
	empty, err := event.Encode(event.DefaultPrefix, "invoices", e)
	require.NoError(t, err)
	e.ErrorMessage = ptr(strings.Repeat("x", size-len(empty.Data)))
	return e
}

func TestABodyIsLeftWholeUpToTheLimitAndCutBeyond(t *testing.T) {
	whole, err := event.Encode(event.DefaultPrefix, "invoices", sized(t, event.MaxSize))
	require.NoError(t, err)
	assert.Len(t, whole.Data, event.MaxSize)
	assert.NotContains(t, string(whole.Data), `"omitted"`)

	over := sized(t, event.MaxSize+1)
	cut, err := event.Encode(event.DefaultPrefix, "invoices", over)
	require.NoError(t, err)
	e := decode(t, cut.Data)
	assert.Equal(t, []string{"validation", "changes"}, e.Omitted)
	assert.Nil(t, e.Validation)
	assert.Equal(t, over.ErrorMessage, e.ErrorMessage, "what fits stays")
	assert.NotNil(t, over.Validation, "the caller's event is left alone")

	e = decode(t, encoded(t, sized(t, event.MaxSize+1000)).Data)
	assert.Equal(t, []string{"validation", "changes", "errorMessage"}, e.Omitted)
	assert.Nil(t, e.ErrorMessage)
	assert.Equal(t, push.Failed, e.Status)
}

func TestAnEventThatIsTooLargeWithoutAnyTextIsAnError(t *testing.T) {
	e := changed(failed(), 2, push.Pending)
	e.ConnectionID = ptr(strings.Repeat("x", event.MaxSize))
	_, err := event.Encode(event.DefaultPrefix, "invoices", e)
	require.ErrorContains(t, err, "without any text, at most 262144")
}

func encoded(t *testing.T, e event.Event) event.Message {
	m, err := event.Encode(event.DefaultPrefix, dataType(e), e)
	require.NoError(t, err)
	return m
}

func decode(t *testing.T, body []byte) event.Event {
	require.LessOrEqual(t, len(body), event.MaxSize)
	var e event.Event
	require.NoError(t, json.Unmarshal(body, &e))
	require.NoError(t, validate(compiled(t)[e.Type], body))
	return e
}
