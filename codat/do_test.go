package codat

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
)

func TestWhatARequestCarries(t *testing.T) {
	var got *http.Request
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(context.Background())
		answering(with(`{}`))(w, r)
	}, func(c *Config) { c.UserAgent = "pushwatch/1.2.3" })
	_, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.NoError(t, err)
	assert.Equal(t, http.MethodGet, got.Method)
	assert.Equal(t, "Basic "+base64.StdEncoding.EncodeToString([]byte(canary)), got.Header.Get("Authorization"))
	assert.Equal(t, "pushwatch/1.2.3", got.Header.Get("User-Agent"))
	assert.Equal(t, "application/json", got.Header.Get("Accept"))
	assert.Empty(t, got.TransferEncoding, "the body that forbids a resend is not seen")
	assert.Zero(t, got.ContentLength)
	assert.Empty(t, got.Header["Content-Length"])
}

func TestTheLookIsTimedAroundTheRequestAndNotTheGate(t *testing.T) {
	now := noon
	client, ledger := serve(t, func(w http.ResponseWriter, r *http.Request) {
		now = now.Add(2 * time.Second)
		w.Header().Set("Date", noon.Add(time.Hour+30*time.Second).Format(http.TimeFormat))
		answering(with(`{}`))(w, r)
	}, func(c *Config) { c.Now = func() time.Time { return now } })
	ledger.onAdmit = func() { now = now.Add(time.Hour) }
	ledger.onSettle = func(context.Context) { now = now.Add(time.Hour) }
	page, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.NoError(t, err)
	assert.Equal(t, noon.Add(time.Hour), page.StartedAt)
	assert.Equal(t, noon.Add(time.Hour+2*time.Second), page.FinishedAt)
	assert.Equal(t, 28*time.Second, page.ServerAhead)
}

func TestNothingIsSentThatTheGateDoesNotAdmit(t *testing.T) {
	var sent atomic.Int32
	client, ledger := serve(t, func(http.ResponseWriter, *http.Request) { sent.Add(1) })
	spent := &push.AskError{Kind: push.KindQuota, Until: noon}
	for _, refusal := range []error{spent, context.Canceled, errors.New("database down")} {
		ledger.admit = refusal
		_, err := client.Get(t.Context(), company, "k", push.ForTrack)
		require.ErrorIs(t, err, refusal)
		for _, err := range client.Walk(t.Context(), push.ListWalk{CompanyID: company}) {
			require.ErrorIs(t, err, refusal)
		}
		_, err = client.Options(t.Context(), company, "c", "invoices")
		require.ErrorIs(t, err, refusal)
	}
	assert.Zero(t, sent.Load())
	assert.Empty(t, ledger.answers, "what was not admitted is not settled")
}

func TestSettleLearnsWhatTheAnswerSays(t *testing.T) {
	client, ledger := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Rate-Limit-Limit", "5000")
		w.Header().Set("X-Rate-Limit-Remaining", "17")
		w.Header().Set("Date", noon.Format(http.TimeFormat))
		answering(with(`{}`))(w, r)
	})
	_, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.NoError(t, err)
	limit, remaining := 5000, 17
	assert.Equal(t, []push.Answer{{Status: 200, Date: noon, Limits: push.Limits{Limit: &limit, Remaining: &remaining}}}, ledger.settled(t))
}

func TestSettleIsCalledWithALiveContextAlsoWhenTheCallersHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	client, ledger := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}, func(c *Config) { c.SettleTimeout = time.Minute })
	var alive, bounded bool
	ledger.onSettle = func(ctx context.Context) {
		deadline, ok := ctx.Deadline()
		alive, bounded = ctx.Err() == nil, ok && time.Until(deadline) <= time.Minute
	}
	_, err := client.Get(ctx, company, "k", push.ForTrack)
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, push.KindTransport, kindOfError(t, err))
	assert.True(t, alive)
	assert.True(t, bounded)
	assert.Equal(t, []push.Answer{{}}, ledger.settled(t), "no answer came")
}

func TestAFailedSettleTakesTheAnswersPlace(t *testing.T) {
	down := errors.New("database down")
	client, ledger := serve(t, answering(with(`{}`)))
	ledger.settle = down
	page, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.ErrorIs(t, err, down)
	assert.ErrorContains(t, err, "settle get_operation of company "+company)
	assert.Empty(t, page)

	failing, ledger := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) })
	ledger.settle = down
	_, err = failing.Get(t.Context(), company, "k", push.ForTrack)
	require.ErrorIs(t, err, down)
	assert.Equal(t, push.KindThrottled, kindOfError(t, err), "the answer's failure is found too")
}

func TestAWalkDoesNotGoOnAfterAFailedSettle(t *testing.T) {
	list := &codatList{rows: rows(5), refuses: true}
	client, ledger := serve(t, list.ServeHTTP)
	ledger.settle = errors.New("database down")
	got := list.walk(t, client, push.ListWalk{})
	require.ErrorIs(t, got.err, ledger.settle)
	assert.Len(t, list.queries, 1, "not even without the order")
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var strayed atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		strayed.Add(1)
		assert.Empty(t, r.Header.Get("Authorization"))
	}))
	t.Cleanup(other.Close)
	for _, status := range []int{300, 301, 302, 303, 307, 308} {
		for name, location := range map[string]string{
			"same host, other path": "/elsewhere", "same host, other port": other.URL + "/companies",
			"other scheme": "https" + strings.TrimPrefix(other.URL, "http"), "nowhere": "", "no URL": "::", "file": "file:///etc/passwd",
		} {
			requests := 0
			client, ledger := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				requests++
				w.Header().Set("Location", location)
				w.WriteHeader(status)
			})
			_, err := client.Get(t.Context(), company, "k", push.ForTrack)
			assert.Equal(t, push.KindRedirected, kindOfError(t, err), "%d to %s", status, name)
			assert.Equal(t, 1, requests)
			assert.Equal(t, status, ledger.settled(t)[0].Status)
		}
	}
	assert.Zero(t, strayed.Load())
}

// raw answers with exactly these bytes and closes the connection.
func raw(t *testing.T, answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := w.(http.Hijacker).Hijack()
		if assert.NoError(t, err) {
			_, _ = connection.Write([]byte(answer))
			_ = connection.Close()
		}
	}
}

func TestAnswersThatAreNotComplete(t *testing.T) {
	page := `{"results":[],"pageSize":100,"_links":{}}`
	length := func(n int) string {
		return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(n) + "\r\n\r\n"
	}
	chunked := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n", len(page), page)
	for _, c := range []struct {
		name, answer string
		kind         push.Kind // empty: a page
		status       int       // that Settle learns
	}{
		{"the right length", length(len(page)) + page, "", 200},
		{"no length", "HTTP/1.0 200 OK\r\n\r\n" + page, "", 200},
		{"chunks to the end", chunked + chunk + "0\r\n\r\n", "", 200},
		{"chunks and a trailer", chunked + chunk + "0\r\nX-Trailer: 1\r\n\r\n", "", 200},
		{"a length too large", length(len(page)+5) + page, push.KindTransport, 200},
		{"a length too small", length(len(page)-5) + page, push.KindMalformed, 200},
		{"a length of nothing", length(0), push.KindMalformed, 200},
		{"no last chunk", chunked + chunk, push.KindTransport, 200},
		{"a chunk cut off", chunked + chunk[:20], push.KindTransport, 200},
		{"a chunk of no size", chunked + "zz\r\n" + page, push.KindTransport, 200},
		{"gzip that is none", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(page)) + "\r\n\r\n" + page, push.KindTransport, 200},
		{"no answer", "", push.KindTransport, 0},
		{"half a header", "HTTP/1.1 200 OK\r\nConte", push.KindTransport, 0},
		{"not HTTP", "SSH-2.0-OpenSSH\r\n", push.KindTransport, 0},
		{"headers without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n" + page, push.KindTransport, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, ledger := serve(t, raw(t, c.answer))
			for page, err := range client.Walk(t.Context(), push.ListWalk{CompanyID: company}) {
				if c.kind == "" {
					require.NoError(t, err)
					assert.True(t, page.Last)
				} else {
					assert.Equal(t, c.kind, kindOfError(t, err))
				}
			}
			assert.Equal(t, c.status, ledger.settled(t)[0].Status)
		})
	}
}

// On a connection that is used again net/http would log what comes after an answer.
func TestWhatComesAfterAnAnswerIsNotLogged(t *testing.T) {
	var logged bytes.Buffer
	log.SetOutput(&logged)
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	connections := map[string]bool{}
	var mu sync.Mutex
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		connections[r.RemoteAddr] = true
		mu.Unlock()
		connection, _, err := w.(http.Hijacker).Hijack()
		if assert.NoError(t, err) {
			body := with(`{}`)
			_, _ = fmt.Fprintf(connection, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\n\r\n%s", len(body), body, canary)
			_ = connection.Close()
		}
	})
	for range 20 {
		_, err := client.Get(t.Context(), company, "k", push.ForTrack)
		require.NoError(t, err)
	}
	assert.Len(t, connections, 20)
	assert.Empty(t, logged.String())
}

func TestAConnectionThatNobodyAnswersIsATransportError(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	ledger := &gate{}
	client, err := New(Config{BaseURL: "http://" + address, Key: NewSecret(canary), Gate: ledger})
	require.NoError(t, err)
	_, err = client.Get(t.Context(), company, "k", push.ForTrack)
	assert.Equal(t, push.KindTransport, kindOfError(t, err))
	assert.ErrorContains(t, err, "connection refused")
	assert.Equal(t, []push.Answer{{}}, ledger.settled(t))
}

// A request on a reused connection that breaks before the answer is one that
// net/http sends a second time by itself, uncounted, if it is let.
func TestABrokenConnectionIsNotTriedAgainBehindTheGatesBack(t *testing.T) {
	transport := &http.Transport{} // reuses connections, unlike the client's own
	var requests atomic.Int32
	client, ledger := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1)%2 == 0 {
			raw(t, "")(w, r)
			return
		}
		answering(with(`{}`))(w, r)
	}, func(c *Config) { c.Transport = transport })
	t.Cleanup(client.Close) // else its idle connection is found leaking
	for range 5 {
		_, err := client.Get(t.Context(), company, "k", push.ForTrack)
		require.NoError(t, err)
		_, err = client.Get(t.Context(), company, "k", push.ForTrack)
		assert.Equal(t, push.KindTransport, kindOfError(t, err))
	}
	assert.EqualValues(t, 10, requests.Load())
	assert.Len(t, ledger.settled(t), 10)
}

// filler writes a body of n MiB that is no JSON, compressed or not; below 0 without end. Compressed
// it is a gzip stream of n members, of which each is a kilobyte on the wire.
func filler(t *testing.T, n int, compress bool) http.HandlerFunc {
	mebibyte := bytes.Repeat([]byte("x"), 1<<20)
	if compress {
		var member bytes.Buffer
		squeezed := gzip.NewWriter(&member)
		_, err := squeezed.Write(mebibyte)
		require.NoError(t, err)
		require.NoError(t, squeezed.Close())
		mebibyte = member.Bytes()
	}
	return func(w http.ResponseWriter, _ *http.Request) {
		if compress {
			w.Header().Set("Content-Encoding", "gzip")
		}
		for i := 0; i < n || n < 0; i++ {
			if _, err := w.Write(mebibyte); err != nil {
				return
			}
		}
	}
}

func TestBodiesAreBoundedAfterDecompression(t *testing.T) {
	walk := func(t *testing.T, c *Client) error {
		for _, err := range c.Walk(t.Context(), push.ListWalk{CompanyID: company, PageSize: 1}) {
			return err
		}
		return nil
	}
	get := func(t *testing.T, c *Client) error {
		_, err := c.Get(t.Context(), company, "k", push.ForTrack)
		return err
	}
	options := func(t *testing.T, c *Client) error {
		_, err := c.Options(t.Context(), company, "c", "invoices")
		return err
	}
	newClient := func(t *testing.T, handler http.HandlerFunc) (*Client, *gate) {
		client, ledger := serve(t, handler)
		require.EqualValues(t, 16<<20, client.maxListBody)
		require.EqualValues(t, 4<<20, client.maxOtherBody)
		client.maxListBody, client.maxOtherBody = 2<<20, 1<<20 // the race detector is slow
		return client, ledger
	}
	for _, c := range []struct {
		name  string
		ask   func(*testing.T, *Client) error
		limit int // MiB
	}{{"a page", walk, 2}, {"a get", get, 1}, {"options", options, 1}} {
		for _, compress := range []bool{true, false} {
			client, ledger := newClient(t, filler(t, c.limit, compress))
			err := c.ask(t, client)
			assert.Equal(t, push.KindMalformed, kindOfError(t, err), "%s of just the limit is read", c.name)
			assert.Equal(t, 200, ledger.settled(t)[0].Status)

			client, ledger = newClient(t, filler(t, c.limit+1, compress))
			err = c.ask(t, client)
			assert.Equal(t, push.KindTooLarge, kindOfError(t, err), "%s over it is not", c.name)
			assert.ErrorContains(t, err, fmt.Sprintf("larger than %d MiB", c.limit))
			assert.Equal(t, 200, ledger.settled(t)[0].Status)
		}
		for _, compress := range []bool{true, false} {
			endless, _ := newClient(t, filler(t, -1, compress))
			endless.requestTimeout = 5 * time.Second
			assert.Equal(t, push.KindTooLarge, kindOfError(t, c.ask(t, endless)), "without reading it to its end")
		}
		announced, _ := newClient(t, raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"))
		assert.Equal(t, push.KindTooLarge, kindOfError(t, c.ask(t, announced)), "without reading it")
	}
}

func TestAPageMayBeCompressed(t *testing.T) {
	client, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "gzip", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "gzip")
		squeezed := gzip.NewWriter(w)
		_, _ = squeezed.Write([]byte(with(`{}`)))
		_ = squeezed.Close()
	})
	page, err := client.Get(t.Context(), company, "k", push.ForTrack)
	require.NoError(t, err)
	assert.Len(t, page.Rows, 1)
}

func TestASlowAnswerIsGivenUp(t *testing.T) {
	for name, begin := range map[string]string{
		"before the headers": "",
		"within the headers": "HTTP/1.1 200 OK\r\nContent-",
		"within the body":    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			client, ledger := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				connection, _, err := w.(http.Hijacker).Hijack()
				if assert.NoError(t, err) {
					_, _ = connection.Write([]byte(begin))
					<-release
					_ = connection.Close()
				}
			}, func(c *Config) { c.RequestTimeout = 50 * time.Millisecond })
			t.Cleanup(func() { close(release) })
			_, err := client.Get(t.Context(), company, "k", push.ForTrack)
			assert.Equal(t, push.KindTransport, kindOfError(t, err))
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.NoError(t, t.Context().Err(), "the request's own time, not the caller's")
			ledger.settled(t)
		})
	}
}

func TestAClientIsSafeForConcurrentUse(t *testing.T) {
	list := &codatList{rows: rows(20), refuses: true}
	client, ledger := serve(t, list.ServeHTTP)
	errs := make(chan error)
	for range 8 {
		go func() {
			n := 0
			for page, err := range client.Walk(t.Context(), push.ListWalk{CompanyID: company, PageSize: 7}) {
				if err != nil {
					errs <- err
					return
				}
				n += len(page.Rows)
			}
			if n != 20 {
				errs <- fmt.Errorf("%d operations", n)
				return
			}
			errs <- nil
		}()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
	ledger.settled(t)
}
