package simulation

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"time"

	"github.com/pushwatch/pushwatch/push"
)

// source asks Codat as package codat does, behind the real quota ledger. It
// implements poller.Source.
type source struct{ *process }

func (s *source) Walk(ctx context.Context, w push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		ask := push.Ask{Request: push.ListOperations, CompanyID: w.CompanyID, Purpose: w.Purpose}
		c := s.world.codat
		for number := w.FirstPage; ; number++ {
			what := "lists " + w.CompanyID + " for " + string(w.Purpose) + ", page " + strconv.Itoa(number)
			page, err := s.request(ctx, ask, what, func(page *push.Page) int {
				page.Source, page.Number, page.Size = push.FromList, number, min(w.PageSize, c.granted)
				c.list(c.books(w.CompanyID), page)
				return 200
			})
			if err != nil {
				yield(push.Page{}, err)
				return
			}
			if !yield(page, nil) || page.Last {
				return
			}
		}
	}
}

func (s *source) Get(ctx context.Context, companyID, key string, purpose push.Purpose) (push.Page, error) {
	ask := push.Ask{Request: push.GetOperation, CompanyID: companyID, Purpose: purpose}
	what := "gets " + companyID + "/" + key + " for " + string(purpose)
	return s.request(ctx, ask, what, func(page *push.Page) int {
		w := s.world
		page.Source = push.FromGet
		switch o := w.codat.find(companyID, key); {
		case w.chance(w.weather.refuses):
			return 503
		case o == nil:
			return 404
		default:
			page.Rows = push.RowsOf(o.shown(o.at(w.now())))
			return 200
		}
	})
}

var kinds = map[int]push.Kind{429: push.KindThrottled, 503: push.KindUnavailable, 404: push.KindNotFound}

// request admits, sends and settles one request.
func (s *source) request(ctx context.Context, ask push.Ask, what string, answer func(*push.Page) int) (push.Page, error) {
	w := s.world
	ctx = as(ctx, actor{actorOf(ctx).who, what + " "})
	// Requests that set out at once stand in a line for their company's places, and in
	// one for the ledger: who comes first is for the dice to say, not for the machine.
	if err := s.rest(ctx, "sets out"); err != nil {
		return push.Page{}, err
	}
	defer func() { _ = s.rest(ctx, "goes on") }() // several may have been booked at once
	grant, err := s.ledger.Admit(ctx, ask)
	if err != nil {
		return push.Page{}, err
	}
	sent := push.Page{Look: push.Look{StartedAt: s.now()}} // on its way, perhaps for ever
	var page push.Page
	var said, saying push.Answer
	var pause time.Time
	err = s.ask(ctx, toCodat, "asks", func() string {
		saying.Date = w.codat.clock().Truncate(time.Second)
		if w.now().Before(w.codat.throttled) {
			saying.Status, saying.RetryAfter, saying.HasRetryAfter = 429, w.codat.retry, true
			pause = w.now().Add(w.codat.retry)
		} else {
			saying.Status = answer(&sent)
		}
		w.oracle.showed(sent)
		return w.say("%d%s, begun %s", saying.Status, w.tellPage(sent), w.since(sent.StartedAt))
	})
	if err != nil {
		err = &push.AskError{Ask: ask, Kind: push.KindTransport, Err: err}
	} else if page, said = sent, saying; said.Status != 200 {
		err = &push.AskError{Ask: ask, Kind: kinds[said.Status], Status: said.Status}
	}
	page.FinishedAt = s.now()
	page.ServerAhead = ahead(said.Date, page.StartedAt, page.FinishedAt)
	settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), statement)
	defer cancel()
	if failed := s.ledger.Settle(settling, grant, said); failed != nil {
		return push.Page{}, errors.Join(err, failed)
	}
	if said.Status == 429 {
		w.oracle.throttled(s.data, pause)
	}
	if err != nil {
		return push.Page{}, err
	}
	return page, nil
}

// ahead is how far a server's clock is ahead of ours for certain, if it wrote
// date, cut to the second, between started and finished.
func ahead(date, started, finished time.Time) time.Duration {
	least, most := date.Sub(finished), date.Add(time.Second).Sub(started)
	switch {
	case date.IsZero(), least <= 0 && most >= 0:
		return 0
	case least > 0:
		return least
	}
	return most
}
