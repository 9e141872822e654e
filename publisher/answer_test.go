package publisher

import (
	"errors"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
)

func TestWhatEveryAnswerProves(t *testing.T) {
	refusal := func(code, description string) string {
		return `{"error":{"code":400,"err_code":` + code + `,"description":"` + description + `"},"stream":"CODAT_PUSH","seq":0}`
	}
	for name, c := range map[string]struct {
		data     string
		outcome  outcome
		sequence uint64
		class    string
	}{
		"stored":                   {`{"stream":"CODAT_PUSH","seq":7}`, stored, 7, ""},
		"stored, through a domain": {`{"stream":"CODAT_PUSH","domain":"hub","seq":7}`, stored, 7, ""},
		"a duplicate, of which the stream may know":   {`{"stream":"CODAT_PUSH","seq":7,"duplicate":true}`, unclear, 0, ""},
		"wrong last sequence":                         {refusal("10071", "wrong last sequence: 7"), unclear, 0, ""},
		"wrong last sequence, clustered":              {refusal("10164", "wrong last sequence"), unclear, 0, ""},
		"the same id is in process":                   {refusal("10158", "duplicate message id is in process"), unclear, 0, ""},
		"last sequence not ready":                     {refusal("10163", "temporarily unavailable"), unclear, 0, ""},
		"acknowledged by another stream":              {`{"stream":"OTHER","seq":7}`, unclear, 0, ""},
		"acknowledged without a sequence":             {`{"stream":"CODAT_PUSH"}`, unclear, 0, ""},
		"no JSON":                                     {`+ACK`, unclear, 0, ""},
		"empty":                                       {``, unclear, 0, ""},
		"full by bytes":                               {refusal("10077", "maximum bytes exceeded"), full, 0, ""},
		"full by messages":                            {refusal("10077", "maximum messages exceeded"), full, 0, ""},
		"the server is full":                          {refusal("10023", "insufficient resources"), full, 0, ""},
		"the server's disk is full":                   {refusal("10047", "insufficient storage resources available"), full, 0, ""},
		"the server's memory is full":                 {refusal("10028", "insufficient memory resources available"), full, 0, ""},
		"the account is full":                         {refusal("10002", "resource limits exceeded for account"), full, 0, ""},
		"too many at once":                            {refusal("10167", "too many requests"), full, 0, ""},
		"larger than the stream takes":                {refusal("10054", "message size exceeds maximum allowed"), unpublishable, 0, classTooLarge},
		"a header larger than any stream takes":       {refusal("10097", "header size exceeds maximum allowed of 64k"), unpublishable, 0, classTooLarge},
		"larger than the file store takes":            {refusal("10077", "message too large"), unpublishable, 0, classTooLarge},
		"another stream took the subject":             {refusal("10060", "expected stream does not match"), refused, 0, ""},
		"sealed meanwhile":                            {refusal("10109", "invalid operation on sealed stream"), refused, 0, ""},
		"a code that did not exist when we were made": {refusal("19999", "new"), refused, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := classify("CODAT_PUSH", &nats.Msg{Data: []byte(c.data)})
			assert.Equal(t, c.outcome, a.outcome)
			assert.Equal(t, c.sequence, a.sequence)
			assert.Equal(t, c.class, a.class)
			assert.Equal(t, c.outcome == stored, a.err == nil, "everything but a stored message says why")
		})
	}
	t.Run("no stream takes the subject", func(t *testing.T) {
		a := classify("CODAT_PUSH", &nats.Msg{Header: nats.Header{"Status": {"503"}}})
		assert.Equal(t, unclear, a.outcome)
		assert.ErrorIs(t, a.err, nats.ErrNoResponders)
	})
}

func TestWhatCouldNotBeSentIsUnclearUnlessItNeverCouldBe(t *testing.T) {
	assert.Equal(t, answer{outcome: unpublishable, class: classTooLarge, err: nats.ErrMaxPayload}, unsent(nats.ErrMaxPayload))
	assert.Equal(t, answer{outcome: unpublishable, class: classBadMessage, err: nats.ErrBadSubject}, unsent(nats.ErrBadSubject))
	for _, err := range []error{nats.ErrReconnectBufExceeded, nats.ErrConnectionClosed, nats.ErrDisconnected, errors.New("broken pipe")} {
		assert.Equal(t, answer{outcome: unclear, err: err}, unsent(err))
	}
}
