package push_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/pushwatch/pushwatch/push"
)

func TestAskErrorText(t *testing.T) {
	list := push.Ask{Request: push.ListOperations, CompanyID: "c-1", Purpose: push.ForDiscover}
	for _, c := range []struct {
		name string
		err  push.AskError
		want string
	}{
		{"the least that is known", push.AskError{Ask: push.Ask{Request: push.GetOperation}, Kind: push.KindTransport},
			"get_operation: transport"},
		{"with a company and a cause", push.AskError{Ask: list, Kind: push.KindTransport, Err: io.ErrUnexpectedEOF},
			"list_operations of company c-1: transport: unexpected EOF"},
		{"as the server refused it", push.AskError{Ask: list, Kind: push.KindRefused, Status: 400, Message: "orderBy is not supported", CorrelationID: "abc"},
			"list_operations of company c-1: refused (HTTP 400): orderBy is not supported [correlation id abc]"},
		{"with everything, the end of a pause in UTC", push.AskError{Ask: list, Kind: push.KindThrottled, Status: 429, Message: "slow down", CorrelationID: "abc",
			Until: time.Date(2026, 3, 1, 2, 0, 0, 0, time.FixedZone("east", 7200)), Err: io.EOF},
			"list_operations of company c-1: throttled (HTTP 429): slow down: EOF, until 2026-03-01T00:00:00Z [correlation id abc]"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.err.Error()) })
	}
}

func TestAskErrorIsFoundThroughWraps(t *testing.T) {
	err := fmt.Errorf("record page 3 of company c-1: %w", &push.AskError{Kind: push.KindMalformed, Err: io.ErrUnexpectedEOF})
	var ask *push.AskError
	assert.True(t, errors.As(err, &ask))
	assert.Equal(t, push.KindMalformed, ask.Kind)
	assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func TestKinds(t *testing.T) {
	blocking := map[push.Kind]bool{push.KindQuota: true, push.KindThrottled: true, push.KindUnauthorised: true,
		push.KindPayment: true, push.KindForbidden: true}
	seen := map[push.Kind]bool{}
	for _, kind := range push.Kinds {
		assert.False(t, seen[kind], "%s is listed once", kind)
		seen[kind] = true
		assert.Regexp(t, `^[a-z_]+$`, string(kind), "fit for a metric label")
		assert.Equal(t, blocking[kind], kind.Blocking(), string(kind))
	}
	assert.Len(t, seen, 12)
}
