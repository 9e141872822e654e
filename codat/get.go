package codat

import (
	"context"
	"encoding/json"

	"github.com/pushwatch/pushwatch/push"
)

// Get asks for one operation of a company. The page it returns has Source FromGet
// and holds exactly one operation, the one that was asked for, or exactly one
// quarantined record; it has no number, size or order, and is never Last. Errors
// are *push.AskError or what the gate returned; KindNotFound means that Codat
// knows no such operation. A key that cannot stand in a path, "." or "..", is
// KindRefused without a request.
func (c *Client) Get(ctx context.Context, companyID, key string, purpose push.Purpose) (push.Page, error) {
	ask := push.Ask{Request: push.GetOperation, CompanyID: companyID, Purpose: purpose}
	got, err := c.do(ctx, request{
		ask: ask, segments: []string{"companies", companyID, "push", key}, maxBody: c.maxOtherBody,
	})
	if err != nil {
		return push.Page{}, err
	}
	raw, depth, err := got.value()
	if err != nil {
		return push.Page{}, err
	}
	page := push.Page{
		Look:        got.look(push.FromGet),
		ServerAhead: serverAhead(got.answer.Date, got.startedAt, got.finishedAt),
	}
	d := &decoder{companyID: companyID, key: key, lookedAt: got.finishedAt}
	row, refused := d.decode(raw, depth)
	if refused != nil {
		page.Quarantined = []push.Quarantined{*refused}
	} else {
		page.Rows = []push.Row{row}
	}
	return page, nil
}

// value returns the one object that the body is, and how deep it nests. It is
// valid JSON unless it nests deeper than maxDepth.
func (r reply) value() (raw []byte, depth int, err error) {
	body := withoutBOM(r.body)
	start := skipSpace(body, 0)
	end, depth, ok := endOfValue(body, start)
	if !ok || skipSpace(body, end) != len(body) {
		return nil, 0, r.notJSON()
	}
	raw = body[start:end]
	switch {
	case depth <= maxDepth && !json.Valid(raw):
		return nil, 0, r.notJSON()
	case !isObject(raw):
		return nil, 0, r.malformed("the answer is not an object")
	}
	return raw, depth, nil
}
