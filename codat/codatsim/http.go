package codatsim

import (
	"context"
	"crypto/subtle"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// answer is what will be sent, unless its delivery fails.
type answer struct {
	status   int
	body     []byte
	html     bool
	location string
	retry    string // Retry-After; empty for none
}

// ServeHTTP answers a request of the API, or of the control surface below /_sim/.
// Some faults end it with panic(http.ErrAbortHandler), which net/http's server
// takes as the wish to break the connection.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPrefix) {
		s.control(w, r)
		return
	}
	req, objection := readRequest(r)
	req.At, _ = s.now()
	authorised := s.authorised(r)
	ticket := s.ledger.enter(req, authorised)
	req.Ordinal = ticket.ordinal
	status := 0
	leave := sync.OnceFunc(func() { s.ledger.leave(req, status) })
	defer leave()

	header := w.Header()
	header.Set("Date", req.At.Format(http.TimeFormat))
	header.Set("X-Rate-Limit-Limit", strconv.Itoa(ticket.limit))
	header.Set("X-Rate-Limit-Remaining", strconv.Itoa(ticket.remaining))
	header.Set("X-Rate-Limit-Reset", ticket.reset.Format(http.TimeFormat))

	var hit blows
	var a answer
	switch {
	case !authorised:
		a = s.object(req, http.StatusUnauthorized, "The API key is missing or wrong.", false)
	case ticket.refused != "":
		a = s.tooMany(req, ticket.wait, tooManyTexts[ticket.refused])
	case objection != nil:
		a = s.object(req, objection.status, objection.text, objection.retry)
	default:
		if s.cfg.Hook != nil {
			s.cfg.Hook(req)
		}
		d := dice(s.cfg.Seed, word("request"), word(req.CompanyID), uint64(req.Ordinal))
		hit = s.faults.draw(req, d)
		a = s.respond(r, req, hit, d)
		for _, blow := range hit.of(delivery) {
			blow.landed = true
		}
		s.faults.settle(hit)
	}
	if _, reset := hit.land(Reset); !reset {
		status = a.status
	}
	if _, slow := hit.land(SlowBody); !slow {
		// The client may ask again the moment it has the last byte, which is
		// before this function returns: its place must be free by then.
		leave()
	}
	a.deliver(r.Context(), w, hit)
}

var tooManyTexts = map[string]string{
	"day":        "The daily request quota is spent.",
	"minute":     "Too many requests in this minute.",
	"concurrent": "Too many concurrent requests for this company.",
}

func (s *Sim) authorised(r *http.Request) bool {
	given := []byte(r.Header.Get("Authorization"))
	return subtle.ConstantTimeCompare(given, []byte(s.authority)) == 1
}

// respond makes the answer to an admitted request.
func (s *Sim) respond(r *http.Request, req Request, hit blows, d *rand.Rand) answer {
	if blows := hit.of(whole); len(blows) > 0 {
		blows[0].landed = true
		return s.replace(r, req, blows[0].Rule)
	}
	c := s.byID[req.CompanyID]
	if c == nil {
		return s.object(req, http.StatusNotFound, "Company not found.", false)
	}
	switch req.Kind {
	case List:
		return s.list(c, req, hit, d)
	case Get:
		return s.get(c, req, hit, d)
	}
	for _, connection := range c.connections {
		if connection.ID != req.ConnectionID {
			continue
		}
		if tree, ok := optionsFor(connection, req.DataType); ok {
			return answer{status: http.StatusOK, body: encode(tree)}
		}
		return s.object(req, http.StatusNotFound, "Data type "+req.DataType+" is not supported for push.", false)
	}
	return s.object(req, http.StatusNotFound, "Connection not found.", false)
}

// replace makes the answer that a fault puts in place of the right one.
func (s *Sim) replace(r *http.Request, req Request, rule Rule) answer {
	wait := time.Duration(rule.Seconds * float64(time.Second))
	switch rule.Fault {
	case TooManySeconds:
		return s.tooMany(req, wait, "Too many requests.")
	case TooManyDate:
		// Dates have whole seconds: the next one, so that nobody is let in early.
		end := req.At.Add(wait + time.Second - 1).Truncate(time.Second)
		a := s.tooMany(req, end.Sub(req.At), "Too many requests.")
		a.retry = end.Format(http.TimeFormat)
		return a
	case TooManyBare:
		return s.object(req, http.StatusTooManyRequests, "Too many requests.", true)
	case ServerError:
		return s.object(req, http.StatusInternalServerError, "An unexpected error occurred.", true)
	case Unavailable:
		return s.object(req, http.StatusServiceUnavailable, "Under maintenance.", true)
	case Unauthorized:
		return s.object(req, http.StatusUnauthorized, "The API key was revoked.", false)
	case PaymentRequired:
		return s.object(req, http.StatusPaymentRequired, "The account has reached a limit of its plan.", false)
	case Forbidden:
		return s.object(req, http.StatusForbidden, "Not allowed.", false)
	case NotFound:
		return s.object(req, http.StatusNotFound, "Not found.", false)
	case NotReady:
		return s.object(req, http.StatusConflict, "The company is not ready yet.", true)
	case Redirect301, Redirect302, Redirect307:
		status, _ := strconv.Atoi(string(rule.Fault))
		a := s.object(req, status, "Moved.", false)
		a.location = strings.TrimSuffix(rule.To, "/") + r.URL.RequestURI()
		return a
	case HTMLPage:
		page := "<!DOCTYPE html><html><head><title>Sign in</title></head><body><form>Sign in to continue</form></body></html>"
		return answer{status: http.StatusOK, body: []byte(page), html: true}
	case ArrayBody:
		return answer{status: http.StatusOK, body: []byte("[]")}
	case NullBody:
		return answer{status: http.StatusOK, body: []byte("null")}
	}
	return answer{status: http.StatusOK} // EmptyBody
}

// object makes an error answer in Codat's form.
func (s *Sim) object(req Request, status int, text string, retry bool) answer {
	body := wireError{
		StatusCode:    status,
		Service:       "PublicApi",
		Error:         text,
		CorrelationID: fmt.Sprintf("%016x%016x", mix(s.cfg.Seed, word(req.CompanyID), 1, uint64(req.Ordinal)), mix(s.cfg.Seed, word(req.CompanyID), 2, uint64(req.Ordinal))),
		CanBeRetried:  "False",
	}
	if retry {
		body.CanBeRetried = "True"
	}
	return answer{status: status, body: encode(body)}
}

// tooMany makes a 429 and notes until when nobody should ask.
func (s *Sim) tooMany(req Request, wait time.Duration, text string) answer {
	seconds := int(math.Ceil(wait.Seconds()))
	s.ledger.pause(req.At.Add(time.Duration(seconds) * time.Second))
	a := s.object(req, http.StatusTooManyRequests, text, true)
	a.retry = strconv.Itoa(seconds)
	return a
}

// deliver sends the answer, as badly as the blows want it.
func (a answer) deliver(ctx context.Context, w http.ResponseWriter, hit blows) {
	if _, ok := hit.land(Reset); ok {
		reset(w)
	}
	header := w.Header()
	header.Set("Content-Type", "application/json; charset=utf-8")
	if a.html {
		header.Set("Content-Type", "text/html; charset=utf-8")
	}
	if a.location != "" {
		header.Set("Location", a.location)
	}
	if a.retry != "" {
		header.Set("Retry-After", a.retry)
	}
	if _, ok := hit.land(TruncatedJSON); ok {
		a.body = a.body[:len(a.body)/2]
	}
	header.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	if _, ok := hit.land(CutBody); ok {
		send(w, a.body[:len(a.body)/2])
		panic(http.ErrAbortHandler)
	}
	if rule, ok := hit.land(SlowBody); ok {
		a.trickle(ctx, w, time.Duration(rule.Seconds*float64(time.Second)))
		return
	}
	w.Write(a.body) // an error means that the client is gone
}

// reset breaks the connection so that the client reads "connection reset by
// peer". It does not return.
func reset(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.SetLinger(0) // closing sends RST instead of FIN
		}
		conn.Close()
	}
	panic(http.ErrAbortHandler)
}

// trickle sends the body in twenty pieces over a time, or until the client goes.
func (a answer) trickle(ctx context.Context, w http.ResponseWriter, over time.Duration) {
	const pieces = 20
	tick := time.NewTicker(max(over/pieces, 1))
	defer tick.Stop()
	for i := range pieces {
		select {
		case <-ctx.Done():
			panic(http.ErrAbortHandler)
		case <-tick.C:
		}
		send(w, a.body[i*len(a.body)/pieces:(i+1)*len(a.body)/pieces])
	}
}

// send writes a part of the body at once.
func send(w http.ResponseWriter, part []byte) {
	w.Write(part)
	http.NewResponseController(w).Flush()
}
