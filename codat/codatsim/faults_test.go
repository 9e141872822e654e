package codatsim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// struckWorld has 100 finished operations half a minute apart, all before noon.
func struckWorld(t *testing.T, rule Rule) served {
	t.Helper()
	sim, _ := world(t, Config{Seed: 3})
	for i := range 100 {
		at := noon.Add(-time.Duration(i+1) * 30 * time.Second)
		_, err := sim.Add(Operation{CompanyID: sim.companies[0].ID, Key: fmt.Sprintf("K%03d", i), DataType: "bills",
			RequestedOn: at, Steps: []Step{{at.Add(1234567900 * time.Nanosecond), Success}}})
		require.NoError(t, err)
	}
	rule.Times = 1
	require.NoError(t, sim.SetFaults(rule))
	return serve(t, sim)
}

func trueKeys() []string {
	var all []string
	for i := range 100 {
		all = append(all, fmt.Sprintf("K%03d", i))
	}
	return all
}

// TestEveryFaultOnce strikes one list and looks at it as a raw client would.
func TestEveryFaultOnce(t *testing.T) {
	status := func(code int) func(*testing.T, served, seen) {
		return func(t *testing.T, _ served, got seen) {
			assert.Equal(t, code, got.status)
			assert.Contains(t, string(got.body), fmt.Sprintf(`"statusCode":%d`, code))
		}
	}
	redirect := func(code int) func(*testing.T, served, seen) {
		return func(t *testing.T, s served, got seen) {
			assert.Equal(t, code, got.status)
			assert.Equal(t, "http://127.0.0.1:9"+pushPath(s.sim)+"?pageSize=20&"+newest, got.header.Get("Location"))
		}
	}
	body := func(want string) func(*testing.T, served, seen) {
		return func(t *testing.T, _ served, got seen) {
			assert.Equal(t, 200, got.status)
			assert.Equal(t, want, string(got.body))
		}
	}
	// all rows of the page are there in order, and one item beside them
	beside := func(check func(*testing.T, string)) func(*testing.T, served, seen) {
		return func(t *testing.T, _ served, got seen) {
			var good []string
			for _, raw := range readPage(t, got.body).Results {
				var r row
				if json.Unmarshal(raw, &r) == nil && strings.HasPrefix(r.Key, "K") {
					good = append(good, r.Key)
				} else {
					check(t, string(raw))
				}
			}
			assert.Equal(t, trueKeys()[:20], good)
			assert.Len(t, readPage(t, got.body).Results, 21)
		}
	}
	has := func(part string) func(*testing.T, string) {
		return func(t *testing.T, raw string) { assert.Contains(t, raw, part) }
	}
	// all rows are there, and one is spelled with part
	oddly := func(part string) func(*testing.T, served, seen) {
		return func(t *testing.T, _ served, got seen) {
			p := readPage(t, got.body)
			assert.Equal(t, trueKeys()[:20], keys(p.rows(t)))
			assert.Equal(t, 1, strings.Count(string(got.body), part))
		}
	}
	listed := func(check func(*testing.T, served, []row, page)) func(*testing.T, served, seen) {
		return func(t *testing.T, s served, got seen) {
			require.Equal(t, 200, got.status, "%s", got.body)
			p := readPage(t, got.body)
			check(t, s, p.rows(t), p)
		}
	}
	cases := map[Fault]func(*testing.T, served, seen){
		TooManySeconds: func(t *testing.T, s served, got seen) {
			status(429)(t, s, got)
			assert.Equal(t, "7", got.header.Get("Retry-After"))
		},
		TooManyDate: func(t *testing.T, s served, got seen) {
			status(429)(t, s, got)
			assert.Equal(t, "Tue, 17 Mar 2026 12:00:07 GMT", got.header.Get("Retry-After"))
		},
		TooManyBare: func(t *testing.T, s served, got seen) {
			status(429)(t, s, got)
			assert.NotContains(t, got.header, "Retry-After")
		},
		ServerError: status(500), Unavailable: status(503), Unauthorized: status(401), PaymentRequired: status(402),
		Forbidden: status(403), NotFound: status(404), NotReady: status(409), OrderRefused: status(400), QueryRefused: status(400),
		Redirect301: redirect(301), Redirect302: redirect(302), Redirect307: redirect(307),
		HTMLPage: func(t *testing.T, _ served, got seen) {
			assert.Equal(t, 200, got.status)
			assert.Equal(t, "text/html; charset=utf-8", got.header.Get("Content-Type"))
			assert.Contains(t, string(got.body), "<html>")
		},
		ArrayBody: body("[]"), NullBody: body("null"), EmptyBody: body(""),
		Reset: func(t *testing.T, s served, got seen) {
			assert.True(t, errors.Is(got.err, syscall.ECONNRESET), "%v", got.err)
			assert.Equal(t, map[int]int{0: 1}, s.sim.Stats().ByStatus)
		},
		SlowBody: func(t *testing.T, _ served, got seen) {
			require.NoError(t, got.bodyErr)
			assert.Len(t, readPage(t, got.body).Results, 20)
		},
		CutBody: func(t *testing.T, _ served, got seen) {
			assert.ErrorIs(t, got.bodyErr, io.ErrUnexpectedEOF)
			assert.NotEmpty(t, got.body)
		},
		TruncatedJSON: func(t *testing.T, _ served, got seen) {
			require.NoError(t, got.bodyErr, "complete on the wire")
			assert.False(t, json.Valid(got.body))
		},
		OrderIgnored: listed(func(t *testing.T, _ served, rows []row, _ page) {
			assert.Equal(t, "K099", rows[0].Key)
			assert.Equal(t, "K080", rows[19].Key)
		}),
		OrderShuffled: listed(func(t *testing.T, s served, rows []row, _ page) {
			assert.False(t, slices.IsSorted(keys(rows)))
			require.NoError(t, s.sim.SetFaults(Always(OrderShuffled)))
			var all []string
			for n := 1; n <= 5; n++ {
				got := s.ask(fmt.Sprintf("%s?pageSize=20&page=%d", pushPath(s.sim), n))
				all = append(all, keys(readPage(t, got.body).rows(t))...)
			}
			assert.Equal(t, keys(rows), all[:20], "the same order on every page")
			assert.ElementsMatch(t, trueKeys(), all)
		}),
		SmallPages: listed(func(t *testing.T, _ served, rows []row, p page) {
			assert.Len(t, rows, 7)
			assert.Equal(t, 7, p.Size)
			assert.Contains(t, p.Links["next"].Href, "pageSize=7")
		}),
		EmptyPage: listed(func(t *testing.T, _ served, rows []row, p page) {
			assert.Empty(t, rows)
			assert.NotEmpty(t, p.Links["next"].Href)
		}),
		ForeignNext: listed(func(t *testing.T, _ served, rows []row, p page) {
			assert.True(t, strings.HasPrefix(p.Links["next"].Href, "http://127.0.0.1:9/companies/"))
		}),
		LyingTotals: listed(func(t *testing.T, _ served, rows []row, p page) {
			assert.NotEqual(t, 100, p.Total)
			assert.Len(t, rows, 20)
		}),
		RepeatRow: listed(func(t *testing.T, s served, rows []row, _ page) {
			assert.Equal(t, append(trueKeys()[:20], "K019"), keys(rows))
			require.NoError(t, s.sim.SetFaults(Once(RepeatRow)))
			second := s.ask(pushPath(s.sim) + "?page=2&pageSize=20&" + newest)
			assert.Equal(t, trueKeys()[19:40], keys(readPage(t, second.body).rows(t)))
		}),
		MissingRow: listed(func(t *testing.T, _ served, rows []row, _ page) { assert.Len(t, rows, 19) }),
		TwoStatuses: listed(func(t *testing.T, _ served, rows []row, _ page) {
			statuses := map[string][]string{}
			for _, r := range rows {
				statuses[r.Key] = append(statuses[r.Key], r.Status)
			}
			assert.Len(t, statuses, 20)
			twice := 0
			for _, s := range statuses {
				if len(s) == 2 {
					twice++
					assert.ElementsMatch(t, []string{Success, Pending}, s)
				}
			}
			assert.Equal(t, 1, twice)
		}),
		Shift: listed(func(t *testing.T, s served, rows []row, _ page) {
			second := s.ask(pushPath(s.sim) + "?page=2&pageSize=20&" + newest)
			assert.Equal(t, trueKeys()[13:33], keys(readPage(t, second.body).rows(t)), "seven rows came in front")
			assert.Len(t, s.sim.Truth(), 107)
		}),
		StaleRow: listed(func(t *testing.T, s served, rows []row, _ page) {
			stale := slices.DeleteFunc(rows, func(r row) bool { return r.Status == Success })
			require.Len(t, stale, 1)
			assert.Equal(t, Pending, stale[0].Status)
			assert.Nil(t, stale[0].Completed)
			for _, op := range s.sim.Truth() {
				assert.Equal(t, Success, op.Status, "the truth does not flap")
			}
		}),
		MixedDates: listed(func(t *testing.T, s served, rows []row, _ page) {
			forms := map[string]int{}
			for i, r := range rows {
				at, form := readDate(t, *r.Completed)
				forms[form]++
				want := noon.Add(-time.Duration(i+1)*30*time.Second + 1234567900*time.Nanosecond)
				assert.True(t, want.Equal(at), "%s is not %s", *r.Completed, want)
			}
			assert.Equal(t, map[string]int{"Z": 10, "offset": 5, "none": 5}, forms)
			assert.Contains(t, rows[2].Requested+rows[3].Requested+rows[1].Requested+rows[0].Requested, ".0000000Z")
		}),
		HugeRow: listed(func(t *testing.T, _ served, rows []row, _ page) {
			huge := slices.DeleteFunc(rows, func(r row) bool { return r.Message == nil })
			require.Len(t, huge, 1)
			assert.Equal(t, 7<<20, len(*huge[0].Message))
		}),
		NullItem:     beside(func(t *testing.T, raw string) { assert.Equal(t, "null", raw) }),
		StringItem:   beside(func(t *testing.T, raw string) { assert.Equal(t, `"`, raw[:1]) }),
		MissingKey:   beside(func(t *testing.T, raw string) { assert.NotContains(t, raw, "pushOperationKey") }),
		NumberKey:    beside(has(`"pushOperationKey":20260131`)),
		LongKey:      beside(func(t *testing.T, raw string) { assert.Greater(t, len(raw), 10_000) }),
		WrongCompany: beside(has(`"companyId":"00000000-0000-4000-8000-000000000000"`)),
		NullStatus:   beside(has(`"status":null`)), NumberStatus: beside(has(`"status":2`)),
		DuplicateStatus: beside(func(t *testing.T, raw string) {
			assert.Contains(t, raw, `"status":"Success"`)
			assert.Contains(t, raw, `"status":"Failed"`)
		}),
		NULText: oddly(`\u0000`), LoneSurrogate: oddly(`\ud800`), UnknownFields: oddly(`"writeMode"`),
		UnreadableRequested: oddly("the day before yesterday"), UnreadableCompleted: oddly("2026-02-31T25:61:00Z"),
	}
	var tested []Fault
	for fault, check := range cases {
		tested = append(tested, fault)
		t.Run(string(fault), func(t *testing.T) {
			s := struckWorld(t, Rule{Fault: fault, N: 7, Seconds: map[Fault]float64{SlowBody: 0.05}[fault], To: "http://127.0.0.1:9"})
			if fault == TooManySeconds || fault == TooManyDate {
				require.NoError(t, s.sim.SetFaults(Rule{Fault: fault, Times: 1, Seconds: 6.5}))
			}
			query := "?pageSize=20&" + newest
			if fault == QueryRefused {
				query += "&query=status%3DPending"
			}
			got := s.ask(pushPath(s.sim) + query)
			check(t, s, got)
			if fault != OrderShuffled && fault != RepeatRow {
				assert.Equal(t, 1, s.sim.Stats().Struck[fault])
				assert.Empty(t, s.sim.Faults(), "it struck once")
			}
			require.NoError(t, s.sim.SetFaults())
			after := s.ask(pushPath(s.sim) + query)
			assert.Equal(t, 200, after.status)
			assert.NotEmpty(t, readPage(t, after.body).rows(t), "the next answer is good again")
		})
	}
	assert.ElementsMatch(t, AllFaults(), tested)
}

func readDate(t *testing.T, text string) (time.Time, string) {
	t.Helper()
	for layout, form := range map[string]string{"2006-01-02T15:04:05Z": "Z", "2006-01-02T15:04:05": "none", "2006-01-02T15:04:05-07:00": "offset"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, form
		}
	}
	require.Fail(t, "unreadable date", text)
	return time.Time{}, ""
}

func TestScriptedRulesStrikeOneRequestAfterTheOther(t *testing.T) {
	sim, _ := world(t, Config{History: 1})
	require.NoError(t, sim.Script(Once(ServerError), Once(Unavailable)))
	require.NoError(t, sim.Script(Rule{Fault: NotFound, Request: Get, Times: 1}))
	for _, want := range []int{500, 503, 200} {
		assert.Equal(t, want, knock(sim, pushPath(sim)).Code)
	}
	path := pushPath(sim) + "/" + sim.Truth()[0].Key
	assert.Equal(t, 404, knock(sim, path).Code)
	assert.Equal(t, 200, knock(sim, path).Code)
}

func TestABlowThatFindsNothingIsKept(t *testing.T) {
	sim, _ := world(t, Config{})
	company := sim.companies[0].ID
	key, err := sim.Add(Operation{CompanyID: company})
	require.NoError(t, err)
	require.NoError(t, sim.SetFaults(Once(StaleRow)))
	knock(sim, pushPath(sim))
	assert.Len(t, sim.Faults(), 1, "a Pending operation has no earlier status")
	require.NoError(t, sim.Set(company, key, Success))
	assert.Contains(t, knock(sim, pushPath(sim)+"/"+key).Body.String(), `"status":"Pending"`)
	assert.Empty(t, sim.Faults())
}

func TestAStaleRowMayBeLeftToOperationsThatHaveEnded(t *testing.T) {
	sim, _ := world(t, Config{})
	company := sim.companies[0].ID
	key, err := sim.Add(Operation{CompanyID: company})
	require.NoError(t, err)
	require.NoError(t, sim.SetFaults(Rule{Fault: StaleRow, Times: 1, Finished: true}))
	for _, status := range []string{Processing, Cancelled, Success, Pending} {
		require.NoError(t, sim.Set(company, key, status))
		if status != Success {
			assert.Contains(t, knock(sim, pushPath(sim)+"/"+key).Body.String(), `"status":"`+status+`"`)
		}
	}
	require.Len(t, sim.Faults(), 1)
	require.NoError(t, sim.Set(company, key, Failed))
	assert.Contains(t, knock(sim, pushPath(sim)+"/"+key).Body.String(), `"status":"Pending"`)
	assert.Empty(t, sim.Faults())
}

func TestServeStopsWithItsContextThoughABodyTrickles(t *testing.T) {
	sim, _ := world(t, Config{Faults: []Rule{{Fault: SlowBody, Seconds: 3600}}})
	listener, err := Listen(":0")
	require.NoError(t, err)
	assert.True(t, strings.HasPrefix(listener.Addr().String(), "127.0.0.1:"))
	_, err = Listen(listener.Addr().String())
	require.ErrorIs(t, err, syscall.EADDRINUSE)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, listener, sim) }()
	s := served{sim, "http://" + listener.Addr().String(), &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	health, err := s.client.Get(s.url + "/_sim/health")
	require.NoError(t, err)
	health.Body.Close()
	answer := make(chan seen, 1)
	go func() { answer <- s.ask(pushPath(sim)) }()
	require.Eventually(t, func() bool { return sim.Stats().Requests == 1 }, 5*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
	<-answer
}

func TestControlSurface(t *testing.T) {
	sim, _ := world(t, Config{History: 5, DayLimit: 1})
	assert.Equal(t, 200, knock(sim, "/_sim/companies").Code)
	var truth []Truth
	require.NoError(t, json.Unmarshal(knock(sim, "/_sim/truth").Body.Bytes(), &truth))
	assert.Equal(t, sim.Truth(), truth)
	assert.Equal(t, 200, knock(sim, "/_sim/stats").Code)
	assert.Zero(t, sim.Stats().Requests, "the control surface is not counted")
	assert.Equal(t, 404, knock(sim, "/_sim/nothing").Code)
}
