package codatsim

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// world is a simulator with 120 past operations whose clock a test turns.
func world(t *testing.T, limit int) (s *Sim, turn func(time.Duration)) {
	t.Helper()
	var passed atomic.Int64
	s, err := New(Config{
		Seed: 7, Companies: MakeCompanies(7, 1), Rate: 10, History: 120, DayLimit: limit,
		Now: func() time.Time { return noon.Add(time.Duration(passed.Load())) },
	})
	require.NoError(t, err)
	return s, func(d time.Duration) { passed.Add(int64(d)) }
}

func ask(s *Sim, target string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Header.Set("Authorization", "Basic Y29kYXRzaW0=")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

type page struct {
	Results []struct {
		Key    string `json:"pushOperationKey"`
		Status string `json:"status"`
	} `json:"results"`
	Total int `json:"totalResults"`
	Links struct {
		Next *struct{ Href string } `json:"next"`
	} `json:"_links"`
}

// walk follows the next links and returns the status of each key.
func walk(t *testing.T, s *Sim) map[string]string {
	t.Helper()
	seen := map[string]string{}
	target := "/companies/" + s.companies[0].ID + "/push?pageSize=50&orderBy=-requestedOnUtc"
	for target != "" {
		w := ask(s, target)
		require.Equal(t, http.StatusOK, w.Code)
		var p page
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &p))
		for _, row := range p.Results {
			require.NotContains(t, seen, row.Key)
			seen[row.Key] = row.Status
		}
		target = ""
		if p.Links.Next != nil {
			target = p.Links.Next.Href
		}
	}
	return seen
}

func TestAWalkServesTheTruth(t *testing.T) {
	s, turn := world(t, 0)
	turn(5 * time.Minute)
	truth := map[string]string{}
	for _, op := range s.Truth() {
		truth[op.Key] = op.Status
	}
	require.Greater(t, len(truth), 120)
	require.Equal(t, truth, walk(t, s))
}

func TestOneSeedAndOneClockGiveTheSameWorld(t *testing.T) {
	a, turnA := world(t, 0)
	b, turnB := world(t, 0)
	turnA(time.Minute)
	a.Truth() // looking in between changes nothing
	turnA(time.Minute)
	turnB(2 * time.Minute)
	require.Equal(t, a.Truth(), b.Truth())
}

func TestAFrozenTimelineStandsStill(t *testing.T) {
	s, turn := world(t, 0)
	s.Freeze()
	before := s.Truth()
	turn(time.Hour)
	require.Equal(t, before, s.Truth())
	_, err := s.Add(Operation{CompanyID: s.companies[0].ID})
	require.ErrorIs(t, err, ErrFrozen)
}

func TestBeyondTheDayLimitIsA429UntilMidnight(t *testing.T) {
	s, turn := world(t, 2)
	target := "/companies/" + s.companies[0].ID + "/push"
	require.Equal(t, "1", ask(s, target).Header().Get("X-Rate-Limit-Remaining"))
	require.Equal(t, http.StatusOK, ask(s, target).Code)
	w := ask(s, target)
	require.Equal(t, http.StatusTooManyRequests, w.Code)
	require.Equal(t, "43200", w.Header().Get("Retry-After"))
	turn(12 * time.Hour)
	require.Equal(t, http.StatusOK, ask(s, target).Code)
}

func TestACutBodyEndsEarlyOnTheWire(t *testing.T) {
	s, _ := world(t, 0)
	require.NoError(t, s.SetFaults(Once(CutBody)))
	server := httptest.NewServer(s)
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/companies/"+s.companies[0].ID+"/push", nil)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Basic Y29kYXRzaW0=")
	response, err := server.Client().Do(r)
	require.NoError(t, err)
	defer response.Body.Close()
	_, err = io.ReadAll(response.Body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.Equal(t, 1, s.Stats().Struck[CutBody])
}
