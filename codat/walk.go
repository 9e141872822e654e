package codat

import (
	"context"
	"crypto/sha256"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/pushwatch/pushwatch/push"
)

const defaultPageSize = 100

// Walk returns the pages of a company's list, newest operations first where the
// server lets itself be asked so, one request a page at the pace of the consumer.
// Page.Number and Page.Size are what a later walk may resume with.
//
// The walk ends after a page with Last, after an error, or when the consumer
// stops. Errors are *push.AskError, wrapped with the page's number, or what the
// gate returned; KindMalformed also stands for a list that repeats itself or does
// not end. The sequence may be ranged over again, which walks anew. Rows that
// shift between pages may show an operation twice, or hide it until the next walk;
// the walk itself, whatever sizes are granted, leaves no gap between its pages.
//
// A page whose body is too large is asked again in halves. A single record that is
// to blame is quarantined where it is certain which row of the list it is, and the
// walk goes on behind it.
func (c *Client) Walk(ctx context.Context, list push.ListWalk) iter.Seq2[push.Page, error] {
	return func(yield func(push.Page, error) bool) {
		w := c.begin(list)
		for {
			page, err := w.next(ctx)
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

// walk is the state of one walk. It belongs to the goroutine that ranges.
type walk struct {
	client *Client
	ask    push.Ask

	// The next request.
	number  int // from 1
	size    int
	orderBy bool

	full    int  // the size to which smaller pages grow
	hunted  int  // before this row lies a record that is too large to be read: until it is found no page grows
	barrier int  // before this row lies one that was found: no page may begin there any more
	single  bool // the server gives one row a page when that is asked, as far as it has shown

	begun     bool
	probing   bool // the next page is read again on purpose
	probed    bool // one was, since something new was read
	learning  bool // the order was refused in this walk, and not yet told to the client
	requests  int
	covered   int // rows from the start of the list that the walk has read or was told to pass over
	seen      map[[16]byte]struct{}
	order     order
	repeating int // rows of the pages in a row that held nothing new and were to hold some
	empty     int // pages in a row that held nothing
}

func (c *Client) begin(list push.ListWalk) *walk {
	w := &walk{
		client:  c,
		ask:     push.Ask{Request: push.ListOperations, CompanyID: list.CompanyID, Purpose: list.Purpose},
		number:  max(list.FirstPage, 1),
		size:    min(list.PageSize, maxItems),
		orderBy: !c.orderless.remembered(list.CompanyID, c.now()),
		seen:    map[[16]byte]struct{}{},
	}
	if w.size < 1 {
		w.size = defaultPageSize
	}
	w.full = max(w.size, min(list.GrowTo, maxItems))
	w.covered = (w.number - 1) * w.size
	return w
}

// next asks until it has a page or an error to give.
func (w *walk) next(ctx context.Context) (push.Page, error) {
	for {
		if w.requests++; w.requests > w.client.maxPages {
			return push.Page{}, w.endless("the list does not end after %d pages", w.client.maxPages)
		}
		got, err := w.client.list(ctx, w.ask, w.number, w.size, w.orderBy)
		switch {
		case err == nil, got.cut && w.placed(got):
			return w.take(got)
		case got.cut && w.size == 1 && got.items == 0:
			w.number-- // a page that may show whether the server gives one row when that is asked
			w.probing, w.probed = !w.probed, true
		case !w.yields(got, err):
			return push.Page{}, fmt.Errorf("page %d: %w", w.number, err)
		}
	}
}

// yields changes the next request where an error says how, and reports whether it
// did. An error joined with another is not one to go on after.
func (w *walk) yields(got listing, err error) bool {
	failed, ok := err.(*push.AskError)
	switch {
	case !ok:
		return false
	case failed.Status == http.StatusBadRequest && w.orderBy && !w.begun:
		// Later on a 400 has another cause, and the rest of the list in another
		// order would not be the rest.
		w.orderBy, w.learning = false, true
		return true
	case failed.Kind == push.KindTooLarge && w.size > 1:
		if got.cut {
			w.hunted = w.number * w.size
		} else {
			w.full = w.size / 2
		}
		w.turn(w.size / 2)
		return true
	}
	return false
}

// placed reports whether it is certain which rows a page that was cut holds, which
// does not tell the size that it was granted: the first page begins with the first
// row whatever its size, and no page is smaller than one row.
func (w *walk) placed(got listing) bool {
	return w.number == 1 || w.size == 1 && got.items == 0 && w.single
}

// take judges an answered page and prepares the next request.
func (w *walk) take(got listing) (push.Page, error) {
	if w.learning { // only now is it certain that the order was what was refused
		w.client.orderless.refused(w.ask.CompanyID, w.client.now())
		w.learning = false
	}
	page := got.page
	page.Number, page.Size = w.number, got.granted(w.size)
	fresh := w.see(page)
	again := max(0, w.covered-(page.Number-1)*page.Size) // rows that it shows again only because it was cut to another size
	page.Ordered = w.orderBy && w.order.holds()
	gap := w.advance(page, got)
	page.Last = !gap && !got.cut && w.ends(got, page.Size)

	switch {
	case fresh || got.items == 0 && !got.cut:
		w.repeating, w.probed = 0, false
	case !w.probing:
		w.repeating += max(1, len(page.Rows)+len(page.Quarantined)-again)
	}
	w.probing = false
	// Rows that arrive while the walk reads or pauses push what it has read onto the
	// next pages, all of it if they are many. Who gives more than that in a row gives it
	// for ever, or adds rows faster than they can be read.
	if w.repeating > len(w.seen) && !page.Last {
		return push.Page{}, w.endless("nothing new on pages in a row that hold %d records, more than the %d before them", w.repeating, len(w.seen))
	}
	return page, nil
}

// granted returns the page size that a listing was cut to: the one that it tells,
// however many records it holds, because a size too small only reads rows again.
// A size above the asked one is believed of a page that holds more than was asked,
// and of no other, because it would pass over rows.
func (l listing) granted(asked int) int {
	if l.size > 0 && (l.size <= asked || l.items > asked) {
		return l.size
	}
	return asked
}

// see takes in the page's records and reports whether any is new to the walk.
func (w *walk) see(page push.Page) (fresh bool) {
	w.order.newPage()
	for _, row := range page.Rows {
		known := w.remember([]byte("k" + row.Key))
		w.order.see(row.RequestedOn, known)
		fresh = fresh || !known
	}
	for _, item := range page.Quarantined {
		identity := append([]byte("h"), item.Hash...)
		if item.Key != "" {
			identity = []byte("k" + item.Key)
		}
		known := w.remember(identity)
		fresh = fresh || !known
	}
	return fresh
}

// remember notes a record and reports whether the walk has seen it before. Half a
// hash, not the key, bounds what a long list costs in memory.
func (w *walk) remember(identity []byte) (known bool) {
	digest := sha256.Sum256(identity)
	mark := [16]byte(digest[:16])
	_, known = w.seen[mark]
	w.seen[mark] = struct{}{}
	return known
}

// advance moves the next request to the page that covers the first row that the
// walk has not read. A server that grants another size than asked for has answered
// for other rows: fewer are read again, and when it grants more, page shows rows
// beyond some that are unread, which advance reports as a gap.
func (w *walk) advance(page push.Page, got listing) (gap bool) {
	offset := (page.Number - 1) * page.Size
	if !w.begun {
		w.begun = true
		w.covered = min(w.covered, offset)
	}
	end := offset + page.Size
	if got.cut {
		end = offset + got.items + 1
		w.barrier, w.hunted = end, 0
	}
	gap = offset > w.covered
	if !gap {
		w.covered = max(w.covered, end)
	}
	if page.Size != w.size {
		w.full = page.Size
	}
	w.single = w.single || page.Size == 1 // only a first page is taken cut before that
	size := page.Size
	if w.covered >= w.hunted {
		size = min(w.full, 2*size)
	}
	w.turn(size)
	return gap
}

// turn moves the next request to the page of size, or of a half of it, that covers
// the first unread row and begins behind the barrier.
func (w *walk) turn(size int) {
	for size > 1 && w.covered/size*size < w.barrier {
		size /= 2
	}
	w.size, w.number = size, w.covered/size+1
}

// ends reports whether the server offers nothing after a page. An empty page may
// stand in the middle of a list, so one more is asked; the second one ends it. A
// page that tells nothing of links ends the list if it is not full.
func (w *walk) ends(got listing, size int) bool {
	if got.items > 0 {
		w.empty = 0
	} else {
		w.empty++
	}
	switch got.more {
	case linkNone:
		return true
	case linkUntold:
		return got.items < size
	}
	return w.empty > 1
}

func (w *walk) endless(format string, args ...any) error {
	return fmt.Errorf("page %d: %w", w.number, &push.AskError{
		Ask: w.ask, Kind: push.KindMalformed, Status: http.StatusOK, Message: fmt.Sprintf(format, args...)})
}

// list asks one page. One that was cut is returned beside its error.
func (c *Client) list(ctx context.Context, ask push.Ask, number, size int, orderBy bool) (listing, error) {
	query := url.Values{"page": {strconv.Itoa(number)}, "pageSize": {strconv.Itoa(size)}}
	if orderBy {
		query.Set("orderBy", "-requestedOnUtc")
	}
	got, err := c.do(ctx, request{
		ask: ask, segments: []string{"companies", ask.CompanyID, "push"}, query: query, maxBody: c.maxListBody,
	})
	result := listing{page: push.Page{
		Look:        got.look(push.FromList),
		ServerAhead: serverAhead(got.answer.Date, got.startedAt, got.finishedAt),
	}}
	d := &decoder{companyID: ask.CompanyID, lookedAt: got.finishedAt, maxRecord: int(c.maxListBody / 2)}
	if failed, ok := err.(*push.AskError); ok && failed.Kind == push.KindTooLarge && decodeCut(got.body, d, &result) {
		return result, err
	}
	if err != nil {
		return listing{}, err
	}
	reason, ok := decodePage(got.body, d, &result)
	switch {
	case ok:
		return result, nil
	case reason == "":
		return listing{}, got.notJSON()
	}
	return listing{}, got.malformed("%s", reason)
}
