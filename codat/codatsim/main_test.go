package codatsim

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when the worlds of these tests begin.
var noon = time.Date(2026, 3, 17, 12, 0, 0, 0, time.UTC)

// handClock moves when a test says so.
type handClock struct {
	mu sync.Mutex
	at time.Time
}

func (c *handClock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *handClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// world makes a simulator that begins at noon, with one company unless cfg has
// others.
func world(t *testing.T, cfg Config) (*Sim, *handClock) {
	t.Helper()
	clock := &handClock{at: noon}
	cfg.Now = clock.now
	if cfg.Companies == nil {
		cfg.Companies = MakeCompanies(cfg.Seed, 1)
	}
	sim, err := New(cfg)
	require.NoError(t, err)
	return sim, clock
}

// knock asks the simulator without a network.
func knock(sim *Sim, path string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(sim.cfg.Key)))
	w := httptest.NewRecorder()
	sim.ServeHTTP(w, r)
	return w
}

// served is a simulator behind a real server on loopback.
type served struct {
	sim    *Sim
	url    string
	client *http.Client
}

func serve(t *testing.T, sim *Sim) served {
	t.Helper()
	server := httptest.NewServer(sim)
	t.Cleanup(server.Close)
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       10 * time.Second,
	}
	return served{sim, server.URL, client}
}

// seen is what a raw client sees of an answer: err is about the connection,
// bodyErr about reading the body.
type seen struct {
	status  int
	header  http.Header
	body    []byte
	bodyErr error
	err     error
}

func (s served) ask(path string) seen {
	r, err := http.NewRequest(http.MethodGet, s.url+path, nil)
	if err != nil {
		return seen{err: err}
	}
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(s.sim.cfg.Key)))
	resp, err := s.client.Do(r)
	if err != nil {
		return seen{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return seen{status: resp.StatusCode, header: resp.Header, body: body, bodyErr: err}
}

// page is a list's body as a client reads it.
type page struct {
	Results []json.RawMessage `json:"results"`
	Number  int               `json:"pageNumber"`
	Size    int               `json:"pageSize"`
	Total   int               `json:"totalResults"`
	Links   map[string]struct {
		Href string `json:"href"`
	} `json:"_links"`
}

// row is the part of an operation that most tests look at.
type row struct {
	Key       string  `json:"pushOperationKey"`
	Status    string  `json:"status"`
	Requested string  `json:"requestedOnUtc"`
	Completed *string `json:"completedOnUtc"`
	Message   *string `json:"errorMessage"`
}

func readPage(t *testing.T, body []byte) page {
	t.Helper()
	var p page
	require.NoError(t, json.Unmarshal(body, &p), "%s", body)
	return p
}

func (p page) rows(t *testing.T) []row {
	t.Helper()
	rows := make([]row, len(p.Results))
	for i, raw := range p.Results {
		require.NoError(t, json.Unmarshal(raw, &rows[i]), "%s", raw)
	}
	return rows
}

func keys(rows []row) []string {
	found := []string{}
	for _, r := range rows {
		found = append(found, r.Key)
	}
	return found
}

func pushPath(sim *Sim) string { return "/companies/" + sim.companies[0].ID + "/push" }

const newest = "orderBy=-requestedOnUtc"
