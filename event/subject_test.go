package event_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/push"
)

// anyBytes draws tokens that need not be text: escaping must not rely on it.
func anyBytes() *rapid.Generator[string] {
	raw := rapid.Map(rapid.SliceOfN(rapid.Byte(), 1, 12), func(b []byte) string { return string(b) })
	return rapid.OneOf(token(), raw)
}

// unescape reads a token as a subscriber does.
func unescape(t assert.TestingT, token string) string {
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		if token[i] != '=' {
			b.WriteByte(token[i])
			continue
		}
		if !assert.LessOrEqual(t, i+3, len(token), "cut escape in %q", token) {
			return ""
		}
		value, err := strconv.ParseUint(token[i+1:i+3], 16, 8)
		assert.NoError(t, err)
		b.WriteByte(byte(value))
		i += 2
	}
	return b.String()
}

func checkEscape(t assert.TestingT, s string) {
	escaped := event.Escape(s)
	assert.Equal(t, s, unescape(t, escaped), "a token that can be read back is of one text only")
	assert.Empty(t, strings.Trim(escaped, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-="))
}

func TestEscapedTokensAreLegalAndReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkEscape(t, anyBytes().Draw(t, "token")) })
}

func TestEscapeSpells(t *testing.T) {
	for token, want := range map[string]string{
		"invoices": "invoices", "a.b": "a=2Eb", "*": "=2A", ">": "=3E", "=": "=3D", "a b": "a=20b",
		"é": "=C3=A9", "A_-9": "A_-9", "\xff\x00": "=FF=00",
	} {
		assert.Equal(t, want, event.Escape(token))
	}
}

// operationOf is what a stem stands for.
type operationOf struct{ company, dataType, key string }

func anyOperation() *rapid.Generator[operationOf] {
	return rapid.Custom(func(t *rapid.T) operationOf {
		return operationOf{anyBytes().Draw(t, "company"),
			rapid.OneOf(rapid.Just(""), anyBytes()).Draw(t, "dataType"), anyBytes().Draw(t, "key")}
	})
}

func (o operationOf) stem() event.Stem {
	return event.Subjects(event.DefaultPrefix, o.company, o.dataType, o.key)
}

func TestASubjectHasSixTokensAndOnlyItsOwnFilterMatches(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		mine := anyOperation().Draw(t, "mine")
		other := anyOperation().Draw(t, "other")
		if rapid.Bool().Draw(t, "near") { // differ in one part
			near := mine
			switch rapid.IntRange(0, 2).Draw(t, "part") {
			case 0:
				near.company = other.company
			case 1:
				near.dataType = other.dataType
			default:
				near.key = other.key
			}
			other = near
		}
		name := event.Name(status().Draw(t, "status"))
		subject := mine.stem().Subject(name)

		require.True(t, server.IsValidLiteralSubject(subject), subject)
		require.Len(t, strings.Split(subject, "."), 6, subject)
		require.True(t, server.SubjectMatchesFilter(subject, mine.stem().Filter()))
		require.Equal(t, mine == other, mine.stem() == other.stem())
		require.Equal(t, mine == other, server.SubjectMatchesFilter(subject, other.stem().Filter()))
	})
}

func TestADataTypeThatLooksLikeNoneIsNotTakenForIt(t *testing.T) {
	for dataType, token := range map[string]string{"": "_", "_": "=5F", "__": "__", "=5F": "=3D5F", "bills": "bills"} {
		assert.Equal(t, "codat.push.c."+token+".k", string(event.Subjects("codat.push", "c", dataType, "k")))
	}
}

func TestAStatusIsNeverTakenForAnotherEvent(t *testing.T) {
	for status, want := range map[push.Status]string{
		push.Pending: "pending", push.Success: "success", push.Failed: "failed", push.TimedOut: "timedout",
		"Stalled": "stalled=", "GONE": "gone=", "gone=": "gone=3D", "Awaiting review": "awaiting=20review",
	} {
		assert.Equal(t, want, event.Name(status))
	}
	rapid.Check(t, func(t *rapid.T) {
		name := event.Name(status().Draw(t, "status"))
		require.NotContains(t, []string{"", "stalled", "gone"}, name)
	})
}

// Nothing stands in for the real thing: client and server must take the subject
// and headers, and hand them on as they were.
func TestMessagesPassThroughNATS(t *testing.T) {
	s, err := server.NewServer(&server.Options{DontListen: true, NoLog: true, NoSigs: true})
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	nc, err := nats.Connect("", nats.InProcessServer(s))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent().Draw(t, "event")
		message, err := event.Encode(event.DefaultPrefix, dataType(e), e)
		require.NoError(t, err)
		sub, err := nc.SubscribeSync(message.Filter)
		require.NoError(t, err)
		defer func() { require.NoError(t, sub.Unsubscribe()) }()
		out := nats.NewMsg(message.Subject)
		out.Data = message.Data
		for name, value := range message.Header {
			out.Header.Set(name, value)
		}
		require.NoError(t, nc.PublishMsg(out))
		in, err := sub.NextMsg(10 * time.Second)
		require.NoError(t, err)
		require.Equal(t, message.Subject, in.Subject)
		require.Equal(t, message.Data, in.Data)
		for name, value := range message.Header {
			require.Equal(t, value, in.Header.Get(name), name)
		}
		require.Equal(t, e.PushOperationKey, percentDecode(t, in.Header.Get("ce-subject")))
		require.Equal(t, "codat/companies/"+e.CompanyID, percentDecode(t, in.Header.Get("ce-source")))
	})
}
