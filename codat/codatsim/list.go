package codatsim

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
)

// list answers list_operations.
func (s *Sim) list(c *company, req Request, hit blows, d *rand.Rand) answer {
	by, objection := s.orderOf(req, hit)
	if objection != nil {
		return s.object(req, objection.status, objection.text, objection.retry)
	}
	size := min(req.PageSize, s.cfg.MaxPageSize)
	if rule, ok := hit.land(SmallPages); ok {
		setDefault(&rule.N, 40)
		size = min(size, rule.N)
	}
	_, line := s.now()
	offset := (req.Page - 1) * size
	views, total := c.page(line, by, offset, size)
	next := offset+size < total
	if next {
		if _, ok := hit.land(EmptyPage); ok {
			views = nil
		}
	}
	if len(views) > 0 {
		if _, ok := hit.land(RepeatRow); ok {
			// Both places keep a verified order as it is.
			if offset == 0 {
				views = append(views, views[len(views)-1])
			} else {
				before, _ := c.page(line, by, offset-1, 1)
				views = slices.Concat(before, views)
			}
		}
	}
	views = disturb(views, hit, d)
	rows := s.spell(c, req, views, hit)
	rows = s.soil(c, rows, views, hit, d)
	links := pageLinks(req, size, next)
	if next {
		if rule, ok := hit.land(ForeignNext); ok {
			links.Next.Href = rule.To + links.Next.Href
		}
	}
	if _, ok := hit.land(LyingTotals); ok {
		total = [...]int{0, -1, total / 2, 3*total + 7}[d.IntN(4)]
	}
	if rule, ok := hit.land(Shift); ok {
		// Before the page is sent, so that the next request sees them for certain.
		// A frozen timeline has no arrivals.
		_, _ = s.Arrive(c.ID, max(rule.N, 1))
	}
	return answer{status: http.StatusOK, body: encodePage(rows, req.Page, size, total, links)}
}

// orderOf tells in which order a list will be, or why it is refused.
func (s *Sim) orderOf(req Request, hit blows) (order, *objection) {
	if req.Query != "" {
		if _, ok := hit.land(QueryRefused); ok {
			return 0, &objection{http.StatusBadRequest, "query is not supported on this endpoint.", false}
		}
	}
	if req.OrderBy != "" {
		if _, ok := hit.land(OrderRefused); ok {
			return 0, &objection{http.StatusBadRequest, "orderBy is not supported on this endpoint.", false}
		}
	}
	if _, ok := hit.land(OrderIgnored); ok {
		return oldestFirst, nil
	}
	if _, ok := hit.land(OrderShuffled); ok {
		return shuffled, nil
	}
	setDefault(&req.OrderBy, s.cfg.DefaultOrder)
	by, ok := parseOrder(req.OrderBy)
	if !ok {
		return 0, &objection{http.StatusBadRequest, fmt.Sprintf("orderBy %q is not a field of a push operation.", req.OrderBy), false}
	}
	return by, nil
}

// disturb changes which operations a page shows, and as what.
func disturb(views []view, hit blows, d *rand.Rand) []view {
	for _, blow := range hit {
		switch blow.Fault {
		case MissingRow:
			if i, ok := choose(views, blow.Rule, d, anyRow); ok {
				views = slices.Delete(views, i, i+1)
				blow.landed = true
			}
		case TwoStatuses:
			if i, ok := choose(views, blow.Rule, d, anyRow); ok {
				views = slices.Insert(views, i+d.IntN(2), contradict(views[i], blow.Status))
				blow.landed = true
			}
		case StaleRow:
			if i, ok := choose(views, blow.Rule, d, blow.shows); ok {
				views[i] = contradict(views[i], blow.Status)
				blow.landed = true
			}
		case HugeRow:
			if i, ok := choose(views, blow.Rule, d, anyRow); ok {
				views[i].padding = cmp.Or(blow.N, 17) << 20
				blow.landed = true
			}
		}
	}
	return views
}

// choose draws one of the rows that a rule can strike.
func choose(views []view, rule Rule, d *rand.Rand, fits func(view) bool) (int, bool) {
	var candidates []int
	for i, v := range views {
		if (rule.Key == "" || rule.Key == v.key) && fits(v) {
			candidates = append(candidates, i)
		}
	}
	if len(candidates) == 0 {
		return 0, false
	}
	return candidates[d.IntN(len(candidates))], true
}

func anyRow(view) bool { return true }

// shows reports whether the rule would show another status than the true one.
func (r Rule) shows(v view) bool {
	if r.Finished && v.now.Status != Success && v.now.Status != Failed && v.now.Status != TimedOut {
		return false
	}
	if r.Status != "" {
		return r.Status != v.now.Status
	}
	return v.prev.Status != ""
}

// contradict returns the operation with a status that it has not: the given one,
// else that of the step before, else one that may come.
func contradict(v view, status string) view {
	switch {
	case status != "" && status != v.now.Status:
		v.now.Status = status
	case v.prev.Status != "" && v.prev.Status != v.now.Status:
		v.now = v.prev
	case v.now.Status == Pending:
		v.now.Status = Success
	default:
		v.now.Status = Pending
	}
	return v
}

// spell renders operations, one row each.
func (s *Sim) spell(c *company, req Request, views []view, hit blows) [][]byte {
	_, mixed := hit.land(MixedDates)
	rows := make([][]byte, len(views))
	for i, v := range views {
		form := dateZ
		if mixed {
			form = dateForm(req.Ordinal+i) % dateForms
		}
		rows[i] = encode(v.render(c.ID, form))
	}
	return rows
}

// pageLinks returns the links of a page.
func pageLinks(req Request, size int, next bool) wireLinks {
	self := "/companies/" + url.PathEscape(req.CompanyID) + "/push"
	page := func(number int) *wireLink {
		query := url.Values{"page": {fmt.Sprint(number)}, "pageSize": {fmt.Sprint(size)}}
		if req.OrderBy != "" {
			query.Set("orderBy", req.OrderBy)
		}
		if req.Query != "" {
			query.Set("query", req.Query)
		}
		return &wireLink{self + "?" + query.Encode()}
	}
	links := wireLinks{Self: wireLink{self}, Current: *page(req.Page)}
	if next {
		links.Next = page(req.Page + 1)
	}
	if req.Page > 1 {
		links.Previous = page(req.Page - 1)
	}
	return links
}

// get answers get_operation.
func (s *Sim) get(c *company, req Request, hit blows, d *rand.Rand) answer {
	_, line := s.now()
	v, ok := c.find(line, req.Key)
	if !ok {
		return s.object(req, http.StatusNotFound, "Push operation not found.", false)
	}
	views := disturb([]view{v}, hit, d)
	row := s.spell(c, req, views, hit)[0]
	for _, blow := range append(hit.of(odd), hit.of(broken)...) {
		row = deform(row, blow.Fault)
		blow.landed = true
	}
	return answer{status: http.StatusOK, body: row}
}
