package deploy

import (
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
)

// healthy runs a service's health check with other addresses and files.
func (s *service) healthy(t *testing.T, replaced ...string) bool {
	t.Helper()
	args := s.HealthCheck.Test[1:]
	for i := range args {
		for j := 0; j < len(replaced); j += 2 {
			require.Contains(t, strings.Join(args, " "), replaced[j])
		}
		args[i] = strings.NewReplacer(replaced...).Replace(args[i])
	}
	return exec.CommandContext(t.Context(), args[0], args[1:]...).Run() == nil
}

// devTCP is an address as bash writes it.
func devTCP(address string) string { return "/dev/tcp/" + strings.Replace(address, ":", "/", 1) }

func TestTheSimulatorsHealthCheckTellsHealthFromSickness(t *testing.T) {
	c := readCompose(t)
	cmd := exec.Command(binary, "codatsim", "--listen", "127.0.0.1:0")
	address := said(t, background(t, cmd), simAddress)
	assert.True(t, c.Services["codatsim"].healthy(t, "/dev/tcp/127.0.0.1/9090", devTCP(address)))

	other := httptest.NewServer(nil) // answers 404
	defer other.Close()
	sick := readCompose(t).Services["codatsim"]
	assert.False(t, sick.healthy(t, "/dev/tcp/127.0.0.1/9090", devTCP(other.Listener.Addr().String())))
	sick = readCompose(t).Services["codatsim"]
	assert.False(t, sick.healthy(t, "/dev/tcp/127.0.0.1/9090", "/dev/tcp/127.0.0.1/1"), "nobody listens there")
}

// The composed daemon, with its entrypoint, its environment and its health check;
// only where things are is another.
func TestTheDaemonStartsAsComposedAndItsHealthCheckTellsHealthFromSickness(t *testing.T) {
	s := readCompose(t).Services["pushwatch"]
	database, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{UnsafeNoFsync: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, database.Stop(context.WithoutCancel(t.Context()))) })
	broker, err := embedded.StartNATS(embedded.NATSConfig{Dir: t.TempDir(), Port: -1})
	require.NoError(t, err)
	t.Cleanup(broker.Stop)
	sim, err := codatsim.New(codatsim.Config{Seed: 1, Companies: codatsim.MakeCompanies(1, 3), Key: s.Environment["CODAT_API_KEY"], History: 5})
	require.NoError(t, err)
	api := httptest.NewServer(sim)
	t.Cleanup(api.Close)

	run := filepath.Join(t.TempDir(), "run")
	require.NoError(t, os.Mkdir(run, 0o700))
	for name, value := range map[string]string{
		"DATABASE_URL": database.URL(), "NATS_URL": broker.URL(), "PUSHWATCH_CODAT_BASE_URL": api.URL,
		"PUSHWATCH_HTTP_LISTEN": "0.0.0.0:0", "PUSHWATCH_HTTP_TOKEN_FILE": filepath.Join(run, "token"),
	} {
		require.Contains(t, s.Environment, name)
		s.Environment[name] = value
	}
	require.Equal(t, []string{"bash", "-euc"}, s.Entrypoint[:2])
	require.Contains(t, s.Entrypoint[2], "/run/pushwatch/token")
	s.Entrypoint[2] = strings.ReplaceAll(s.Entrypoint[2], "/run/pushwatch", run)
	cmd := exec.Command(s.Entrypoint[0], append(s.Entrypoint[1:], s.Command...)...)
	cmd.Env = append(s.environ(), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "HOME=/")
	address := said(t, background(t, cmd), httpAddress)
	address = "127.0.0.1" + address[strings.LastIndex(address, ":"):]

	token, err := os.ReadFile(filepath.Join(run, "token"))
	require.NoError(t, err)
	assert.Regexp(t, `^[0-9a-f]{32}$`, string(token))
	wrong := filepath.Join(t.TempDir(), "wrong")
	require.NoError(t, os.WriteFile(wrong, []byte("guessed"), 0o600))
	probe := func(token string) bool {
		return readCompose(t).Services["pushwatch"].healthy(t,
			"/dev/tcp/127.0.0.1/8080", devTCP(address), "/run/pushwatch/token", token)
	}
	require.Eventually(t, func() bool { return probe(filepath.Join(run, "token")) }, 30*time.Second, 200*time.Millisecond)
	assert.False(t, probe(wrong), "without the token nobody learns anything")
	broker.Stop()
	require.Eventually(t, func() bool { return !probe(filepath.Join(run, "token")) }, 30*time.Second, 200*time.Millisecond,
		"healthy without its NATS server")
}
