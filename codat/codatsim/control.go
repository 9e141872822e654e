package codatsim

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

const controlPrefix = "/_sim/"

// control answers the control surface, which the package comment describes.
func (s *Sim) control(w http.ResponseWriter, r *http.Request) {
	what := r.Method + " " + strings.TrimPrefix(r.URL.Path, controlPrefix)
	if what == "GET health" {
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
		return
	}
	if !s.authorised(r) {
		reply(w, http.StatusUnauthorized, map[string]string{"error": "the API key is missing or wrong"})
		return
	}
	switch what {
	case "GET companies":
		reply(w, http.StatusOK, s.roster())
	case "GET truth":
		reply(w, http.StatusOK, s.Truth())
	case "GET stats":
		reply(w, http.StatusOK, s.Stats())
	case "POST freeze":
		reply(w, http.StatusOK, map[string]time.Time{"frozenAt": s.Freeze()})
	case "GET faults":
		reply(w, http.StatusOK, s.Faults())
	case "PUT faults":
		s.putFaults(w, r)
	default:
		reply(w, http.StatusNotFound, map[string]string{"error": "no such control"})
	}
}

type rosterEntry struct {
	Company
	Connections []Connection `json:"connections"`
}

func (s *Sim) roster() []rosterEntry {
	roster := []rosterEntry{}
	for _, c := range s.companies {
		roster = append(roster, rosterEntry{c.Company, c.connections})
	}
	return roster
}

func (s *Sim) putFaults(w http.ResponseWriter, r *http.Request) {
	var rules []Rule
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&rules)
	if err == nil {
		err = s.SetFaults(rules...)
	}
	if err != nil {
		reply(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
		return
	}
	reply(w, http.StatusOK, s.Faults())
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(append(encode(body), '\n')) // an error means that the client is gone
}
