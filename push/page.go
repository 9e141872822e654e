package push

import "time"

// Look is one answered request that shows operations. Both times are on
// pushwatch's clock: local monotonic time plus the database's offset.
type Look struct {
	Source     Source
	StartedAt  time.Time // before the request was sent: looks are ordered by it
	FinishedAt time.Time // when the answer was complete: the observedAt of what it shows
}

// Page is one answered page of list_operations.
type Page struct {
	Look
	Number int // from 1
	Size   int // the page size that the server granted

	// Rows are the records that could be read, in the server's order. A key may
	// occur twice when rows shifted; see [Page.Distinct].
	Rows []Row
	// Quarantined are the records that could not, each with its reason.
	Quarantined []Quarantined

	// Ordered tells that newest-first order was asked for and holds, verified,
	// on every page of the walk up to and including this one.
	Ordered bool
	// Last tells that the server offers nothing after this page.
	Last bool

	// ServerAhead is how far Codat's clock is ahead of ours, as far as the Date
	// header of this answer proves it: zero while the two may agree.
	ServerAhead time.Duration
}

// Quarantined is a record that could not be decoded or stored. It is set aside
// so that its neighbours are not hurt, and kept so that nothing is lost.
type Quarantined struct {
	CompanyID string
	Key       string // empty when it could not be read
	Class     string // closed set of reasons, such as "status_missing"; safe as a metric label
	Detail    string // names the field and what is allowed; never a value from the body
	Hash      []byte // SHA-256 of the record's raw bytes: its identity when the key is unreadable
	Body      string // the raw record, sanitised and cut to 64 KiB
}

// Oldest returns the earliest usable requestedOn of the page, or the zero time.
func (p Page) Oldest() time.Time { return p.extreme(time.Time.Before) }

// Newest returns the latest usable requestedOn of the page, or the zero time.
func (p Page) Newest() time.Time { return p.extreme(time.Time.After) }

func (p Page) extreme(better func(a, b time.Time) bool) time.Time {
	var best time.Time
	for i := range p.Rows {
		at := p.Rows[i].RequestedOn
		if !at.IsZero() && (best.IsZero() || better(at, best)) {
			best = at
		}
	}
	return best
}

// Distinct returns the rows of the page without repetition, and the keys of those
// that it shows with two different statuses, which no list can decide: they are left
// out of the first result and want a get_operation.
func (p Page) Distinct() (rows []Row, contradicted []string) {
	seen := make(map[string]Status, len(p.Rows))
	torn := map[string]bool{}
	for _, row := range p.Rows {
		if first, ok := seen[row.Key]; ok && first != row.Status && !torn[row.Key] {
			torn[row.Key] = true
			contradicted = append(contradicted, row.Key)
		}
		if _, ok := seen[row.Key]; !ok {
			seen[row.Key] = row.Status
		}
	}
	rows = make([]Row, 0, len(seen))
	for _, row := range p.Rows {
		if _, ok := seen[row.Key]; !ok || torn[row.Key] {
			continue
		}
		delete(seen, row.Key)
		rows = append(rows, row)
	}
	return rows, contradicted
}
