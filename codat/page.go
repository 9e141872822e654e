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
func (l *listing) add(op push.Operation, refused *push.Quarantined) {
	l.items++
	if refused != nil {
		l.page.Quarantined = append(l.page.Quarantined, *refused)
	} else {
		l.page.Operations = append(l.page.Operations, op)
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
func decodePage(body []byte, d decoder, result *listing) (reason string, ok bool) {
	var results [][]byte // every value called so
	valid := eachMember(withoutBOM(body), func(name, value []byte, depth int) bool {
		if !json.Valid(name) {
			reason = "the page holds what is not JSON"
			return false
		}
		switch field := memberName(name); {
		case field == "results":
			results = append(results, value)
		case depth > maxDepth:
			reason = "the page nests too deep"
			return false
		case !json.Valid(value):
			reason = "the page holds what is not JSON"
			return false
		case field == "pageSize":
			if size, ok := wholeNumber(value); ok && size >= 1 && size <= maxItems {
				result.size = size
			}
		case field == "_links":
			result.more = readLink(value)
		}
		return true
	})
	switch {
	case !valid:
		return notAnObject(body), false
	case reason != "":
		return reason, false
	case len(results) == 0:
		return "the page has no results", false
	case len(results) > 1:
		return "the page has results twice", false
	}
	return decodeItems(results[0], d, result)
}

// notAnObject tells JSON of another shape from what is no JSON.
func notAnObject(body []byte) string {
	if json.Valid(withoutBOM(body)) {
		return "the answer is not an object"
	}
	return ""
}

// decodeItems reads the records of a page, each on its own.
func decodeItems(results []byte, d decoder, result *listing) (reason string, ok bool) {
	valid := eachElement(results, func(item []byte, depth int) bool {
		if result.items == maxItems {
			reason = fmt.Sprintf("the page has more than %d records", maxItems)
			return false
		}
		if depth <= maxDepth && !json.Valid(item) {
			reason = "the page holds what is not JSON"
			return false
		}
		result.add(d.decode(item, depth))
		return true
	})
	switch {
	case reason != "":
		return reason, false
	case !valid:
		return "the results of the page are no list", false
	}
	return "", true
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
