package codat

import (
	"context"

	"github.com/pushwatch/pushwatch/push"
)

// Gate stands around every request, so that none is sent uncounted. Both methods
// must be safe for concurrent use.
type Gate interface {
	// Admit waits until the request may be sent and returns the permission, its
	// cost already counted durably: a crash after Admit has spent the request.
	// It returns a *push.AskError with KindQuota and Until when asking now makes
	// no sense, and the context's error when that ends first; then nothing was
	// counted, nothing is sent and Settle is not called. It is not retried here.
	Admit(ctx context.Context, ask push.Ask) (push.Grant, error)

	// Settle is called exactly once after every Admit that granted, when the
	// answer is read to its end or has failed; a request without an answer has
	// Status 0. It gives back the request's place and takes in what the answer
	// says of limits. Its context is never the caller's: it is alive when that
	// has ended, with a short deadline of its own. An error reaches the caller
	// of the request in place of the answer.
	Settle(ctx context.Context, grant push.Grant, answer push.Answer) error
}
