package codat

import (
	"encoding/json"
	"fmt"

	"github.com/pushwatch/pushwatch/push"
)

// decodeCut reads what came of a page whose body passed its limit, when a single
// record is to blame: the records before it, and what came of it, set aside. It
// returns false when no record alone is too large, so that smaller pages may help,
// and when what came is not the beginning of a page.
func decodeCut(body []byte, d *decoder, result *listing) bool {
	results, ok := openResults(withoutBOM(body))
	if !ok {
		return false
	}
	culprit := -1
	eachOf(results, '[', ']', func(at int) (end int, more, ok bool) {
		end, depth, ok := endOfValue(results, at)
		if !ok {
			culprit = at
			return 0, false, false
		}
		item := results[at:end]
		if result.items == maxItems || depth <= maxDepth && !json.Valid(item) {
			return 0, false, false
		}
		result.add(d.decode(item, depth))
		return end, true, true
	})
	if culprit < 0 || results[culprit] != '{' || len(results)-culprit <= d.maxRecord {
		return false
	}
	result.page.Quarantined = append(result.page.Quarantined, *d.tooLarge(results[culprit:]))
	result.cut = true
	return true
}

// openResults returns the results of a page that was cut in them.
func openResults(body []byte) (results []byte, ok bool) {
	eachOf(body, '{', '}', func(at int) (end int, more, whole bool) {
		name, start, whole := nameAt(body, at)
		if !whole {
			return 0, false, false
		}
		end, _, whole = endOfValue(body, start)
		if !whole && start < len(body) && json.Valid(name) && memberName(name) == "results" {
			results, ok = body[start:], true
		}
		return end, true, whole
	})
	return results, ok
}

// tooLarge sets a record aside of which only the beginning counts: a record that
// was cut somewhere behind it is the same one.
func (d *decoder) tooLarge(raw []byte) *push.Quarantined {
	raw = raw[:d.maxRecord]
	var parts record
	eachOf(raw, '{', '}', func(at int) (end int, more, whole bool) {
		name, start, whole := nameAt(raw, at)
		if !whole {
			return 0, false, false
		}
		end, _, whole = endOfValue(raw, start)
		if whole && json.Valid(name) && memberName(name) == fieldNames[fieldKey] && json.Valid(raw[start:end]) {
			parts.fields[fieldKey] = raw[start:end]
		}
		return end, true, whole
	})
	key, refused := readKey(&parts)
	if refused != nil {
		key = ""
	}
	return d.setAside(raw, key, refusal{TooLarge, fmt.Sprintf("a record may have %d MiB", d.maxRecord>>20)})
}
