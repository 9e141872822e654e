package main

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestWhoIsServed(t *testing.T) {
	for _, c := range []struct {
		name, token       string
		path, host, sends string
		code              int
	}{
		{name: "a loopback address", path: "/readyz", host: "127.0.0.1:8080", code: 200},
		{name: "a loopback address without a port", path: "/readyz", host: "127.9.9.9", code: 200},
		{name: "IPv6 loopback", path: "/readyz", host: "[::1]:8080", code: 200},
		{name: "IPv6 loopback without a port", path: "/readyz", host: "[::1]", code: 200},
		{name: "localhost in any case", path: "/metrics", host: "LocalHost:8080", code: 200},
		{name: "a name that somebody lets point here", path: "/metrics", host: "rebound.example.com:8080", code: 421},
		{name: "a name that begins like loopback", path: "/readyz", host: "127.0.0.1.example.com", code: 421},
		{name: "another address", path: "/readyz", host: "192.0.2.1:8080", code: 421},
		{name: "no name", path: "/readyz", host: "", code: 421},
		{name: "the token, under any name", token: "t", path: "/readyz", host: "pushwatch.example.com", sends: "Bearer t", code: 200},
		{name: "no token where one is asked for", token: "t", path: "/readyz", host: "127.0.0.1", code: 401},
		{name: "another token", token: "t", path: "/metrics", host: "127.0.0.1", sends: "Bearer u", code: 401},
		{name: "the beginning of the token", token: "token", path: "/metrics", host: "127.0.0.1", sends: "Bearer tok", code: 401},
		{name: "the token without its scheme", token: "t", path: "/metrics", host: "127.0.0.1", sends: "t", code: 401},
		{name: "liveness needs no token", token: "t", path: "/livez", host: "10.0.0.1:80", code: 200},
		{name: "another path that looks like it does", token: "t", path: "/livez/../metrics", host: "127.0.0.1", code: 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://x"+c.path, nil)
			request.Host = c.host
			request.Header.Set("Authorization", c.sends)
			answer := httptest.NewRecorder()
			authorised(c.token, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200) })).ServeHTTP(answer, request)
			assert.Equal(t, c.code, answer.Code)
		})
	}
}

// TestTheServerHasNoOtherDoors: no profiler, no variables, nothing that changes
// state, whatever a dependency registers for the whole process.
func TestTheServerHasNoOtherDoors(t *testing.T) {
	handler := (&daemon{}).handler()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/livez/", "/metrics/x"} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1"+path, nil))
		assert.Equal(t, http.StatusNotFound, answer.Code, path)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1/livez", nil))
		assert.Equal(t, http.StatusMethodNotAllowed, answer.Code, method)
	}
}

func TestProfilesAreServedWhereTheyAreAskedForToThisMachine(t *testing.T) {
	var logged bytes.Buffer
	end, err := serveProfiles(t.Context(), "127.0.0.1:0", slog.New(slog.NewTextHandler(&logged, nil)))
	require.NoError(t, err)
	url := regexp.MustCompile(`http://127\S+/`).FindString(logged.String())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(path, host string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		require.NoError(t, err)
		request.Host = host
		answer, err := client.Do(request)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	code, body := ask("goroutine?debug=1", "")
	assert.Equal(t, http.StatusOK, code)
	assert.Contains(t, body, "goroutine profile: total")
	code, _ = ask("", "rebound.example.com")
	assert.Equal(t, http.StatusMisdirectedRequest, code)

	_, err = serveProfiles(t.Context(), regexp.MustCompile(`127[^/]+`).FindString(url), slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "http.pprof_listen: ")
	require.ErrorContains(t, err, "address already in use; give another address, or none")
	end()
	_, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", regexp.MustCompile(`127[^/]+`).FindString(url))
	require.Error(t, err, "it has ended")
}
