package codatsim

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Kind is one of the three requests.
type Kind string

// The requests that the simulator answers.
const (
	List    Kind = "list_operations"
	Get     Kind = "get_operation"
	Options Kind = "get_model_options"
)

// Request is a request that came in.
type Request struct {
	Kind         Kind // empty for a path that the API does not have
	CompanyID    string
	Key          string    // of a get
	ConnectionID string    // of options
	DataType     string    // of options
	Page         int       // of a list, from 1
	PageSize     int       // of a list, as asked for
	OrderBy      string    // of a list
	Query        string    // of a list
	Ordinal      int       // the company's how manyth request, from 1
	At           time.Time // when it came in
}

// objection is an answer other than 200, before it has a correlation id.
type objection struct {
	status int
	text   string
	retry  bool // trying again may help
}

// readRequest tells what is asked, or why nobody can know.
func readRequest(r *http.Request) (Request, *objection) {
	req, ok := route(r.URL.EscapedPath())
	switch {
	case !ok:
		return req, &objection{http.StatusNotFound, "No such resource.", false}
	case r.Method != http.MethodGet:
		return req, &objection{http.StatusMethodNotAllowed, "Only GET is allowed.", false}
	case req.Kind != List:
		return req, nil
	}
	query := r.URL.Query()
	req.OrderBy, req.Query = query.Get("orderBy"), query.Get("query")
	var pageOK, sizeOK bool
	req.Page, pageOK = positive(query, "page", 1)
	req.PageSize, sizeOK = positive(query, "pageSize", 100)
	if !pageOK || !sizeOK {
		return req, &objection{http.StatusBadRequest, "page and pageSize must be positive numbers.", false}
	}
	return req, nil
}

// route takes a path apart by hand: net/http's own routing would redirect a key
// like ".." instead of looking it up.
func route(escaped string) (req Request, ok bool) {
	parts := strings.Split(strings.TrimPrefix(escaped, "/"), "/")
	for i, part := range parts {
		plain, err := url.PathUnescape(part)
		if err != nil {
			return req, false
		}
		parts[i] = plain
	}
	if len(parts) < 3 || parts[0] != "companies" {
		return req, false
	}
	req.CompanyID = parts[1]
	switch {
	case len(parts) == 3 && parts[2] == "push":
		req.Kind = List
	case len(parts) == 4 && parts[2] == "push" && parts[3] != "":
		req.Kind, req.Key = Get, parts[3]
	case len(parts) == 6 && parts[2] == "connections" && parts[4] == "options":
		req.Kind, req.ConnectionID, req.DataType = Options, parts[3], parts[5]
	}
	return req, req.Kind != ""
}

// positive reads a number of a list's query; one that would overflow is refused.
func positive(query url.Values, name string, absent int) (int, bool) {
	if !query.Has(name) {
		return absent, true
	}
	n, err := strconv.Atoi(query.Get(name))
	return n, err == nil && n >= 1 && n <= 1_000_000_000
}

// parseOrder reads an orderBy.
func parseOrder(text string) (order, bool) {
	switch text {
	case "requestedOnUtc":
		return oldestFirst, true
	case "-requestedOnUtc":
		return newestFirst, true
	}
	return 0, false
}
