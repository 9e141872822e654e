package codat

import (
	"encoding/json"
	"fmt"

	"github.com/pushwatch/pushwatch/push"
)

// maxItems is how many records a page may hold; pageSize goes no higher.
const maxItems = 5000

// listing is a page of list_operations as the server answered it, before the
// walk judges it.
type listing struct {
	page  push.Page // without what the walk knows: Ordered, Last
	items int       // records, of which each is in the page once
	size  int       // pageSize as answered; 0 when it tells nothing believable
	more  link
	cut   bool // the page ends in a record that is too large to be read; nothing is known of what comes after it
}

// add takes in a record as it was decoded.
func (l *listing) add(row push.Row, refused *push.Quarantined) {
	l.items++
	if refused != nil {
		l.page.Quarantined = append(l.page.Quarantined, *refused)
	} else {
		l.page.Rows = append(l.page.Rows, row)
	}
}

// link is what a page says of a next one.
type link int

const (
	linkUntold link = iota // the page holds no _links
	linkNone               // no next page
	linkNext
)

// decodePage reads the body of a page into result, whose Look must be filled. It
// returns false when the body is not a page, with a reason that holds nothing of
// it, or an empty reason when it is not JSON.
func decodePage(body []byte, d *decoder, result *listing) (reason string, ok bool) {
	body = withoutBOM(body)
	told := false
	valid := eachOf(body, '{', '}', func(at int) (end int, more, ok bool) {
		name, start, ok := nameAt(body, at)
		if !ok {
			return 0, false, false
		}
		if !json.Valid(name) {
			reason = "the page holds what is not JSON"
			return 0, false, true
		}
		field := memberName(name)
		if field == "results" {
			if told {
				reason = "the page has results twice"
				return 0, false, true
			}
			told = true
			end, reason, ok = decodeItems(body, start, d, result)
			return end, reason == "", ok
		}
		end, depth, ok := endOfValue(body, start)
		if !ok {
			return 0, false, false
		}
		switch value := body[start:end]; {
		case depth > maxDepth:
			reason = "the page nests too deep"
			return 0, false, true
		case !json.Valid(value):
			reason = "the page holds what is not JSON"
			return 0, false, true
		case field == "pageSize":
			if size, ok := wholeNumber(value); ok && size >= 1 && size <= maxItems {
				result.size = size
			}
		case field == "_links":
			result.more = readLink(value)
		}
		return end, true, true
	})
	switch {
	case !valid:
		return notAnObject(body), false
	case reason != "":
		return reason, false
	case !told:
		return "the page has no results", false
	}
	return "", true
}

// notAnObject tells JSON of another shape from what is no JSON.
func notAnObject(body []byte) string {
	if json.Valid(body) {
		return "the answer is not an object"
	}
	return ""
}

// decodeItems reads the records of a page, each on its own, from the list that begins
// at an index of its body, and returns the index after it. It returns false where the
// body ends in the list, and a reason where the list is not one of records.
func decodeItems(body []byte, start int, d *decoder, result *listing) (end int, reason string, ok bool) {
	end, _, whole := listAt(body, start, '[', ']', func(at int) (end int, more, ok bool) {
		end, depth, ok := endOfValue(body, at)
		switch {
		case !ok:
			return 0, false, false
		case result.items == maxItems:
			reason = fmt.Sprintf("the page has more than %d records", maxItems)
			return 0, false, true
		case depth <= maxDepth && !json.Valid(body[at:end]):
			reason = "the page holds what is not JSON"
			return 0, false, true
		}
		result.add(d.decode(body[at:end], depth))
		return end, true, true
	})
	if whole {
		return end, reason, true
	}
	_, _, ok = endOfValue(body, start)
	return 0, "the results of the page are no list", ok
}

// readLink tells whether _links offers a next page. A link to nowhere is none.
// Only that it is there counts: no link is ever followed.
func readLink(links []byte) link {
	if !isObject(links) {
		return linkUntold
	}
	next := members(links, "next")[0]
	if isObject(next) {
		next = members(next, "href")[0]
	}
	if isNull(next) || string(next) == `""` {
		return linkNone
	}
	return linkNext
}
