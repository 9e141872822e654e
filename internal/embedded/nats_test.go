package embedded

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

func TestNATSTakesTheNextFreePort(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:4222")
	if err == nil { // else somebody else has it, which serves as well
		defer func() { _ = taken.Close() }()
	}
	n := startNATS(t, NATSConfig{Dir: t.TempDir()})
	assert.Greater(t, n.Port(), defaultPort)
	assert.Equal(t, fmt.Sprintf("nats://127.0.0.1:%d", n.Port()), n.Address())
	require.NoError(t, n.Healthy())

	_, err = StartNATS(NATSConfig{Dir: t.TempDir(), Port: n.Port()})
	require.ErrorContains(t, err, fmt.Sprintf("no free port from %d to %[1]d", n.Port()), "a wanted port is not changed")
}

func TestNATSServersThatStartAtOnceEachGetAPort(t *testing.T) {
	const servers = 5
	var starting errgroup.Group
	got := make([]*NATS, servers)
	for i := range got {
		dir := t.TempDir()
		starting.Go(func() (err error) {
			got[i], err = StartNATS(NATSConfig{Dir: dir})
			return err
		})
	}
	err := starting.Wait()
	ports := map[int]bool{}
	for _, n := range got {
		if n != nil {
			ports[n.Port()] = true
			n.Stop()
		}
	}
	require.NoError(t, err)
	assert.Len(t, ports, servers)
}

// The port is taken between our look and the server's.
func TestALostRaceForAPortIsAnErrorAndNoHang(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = taken.Close() }()
	port := taken.Addr().(*net.TCPAddr).Port
	n := &NATS{token: "t", limit: smallestStore}
	err = n.launch(port, t.TempDir(), new(serverVoice))
	require.ErrorContains(t, err, "address already in use")
}

func TestNATSAsksForATokenThatOutlivesARestart(t *testing.T) {
	dir := t.TempDir()
	n, err := StartNATS(NATSConfig{Dir: dir, Port: -1})
	require.NoError(t, err)
	for _, address := range []string{n.Address(), strings.Replace(n.Address(), "//", "//wrong@", 1)} {
		_, err = nats.Connect(address)
		require.ErrorIs(t, err, nats.ErrAuthorization)
	}
	nc, err := nats.Connect(n.URL())
	require.NoError(t, err)
	nc.Close()
	info, err := os.Stat(filepath.Join(dir, "nats", "token"))
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	first, limit := n.URL(), n.limit
	n.Stop()
	require.Error(t, n.Healthy())

	again := startNATS(t, NATSConfig{Dir: dir, Port: port(t, first)})
	assert.Equal(t, first, again.URL(), "so clients find it again")
	assert.Equal(t, limit, again.limit, "so the stream fits as it did")
	assert.Equal(t, limit/5*4, again.StreamMaxBytes())
}

func port(t *testing.T, address string) int {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	n, err := net.LookupPort("tcp", u.Port())
	require.NoError(t, err)
	return n
}

func TestTheStoreHasAnExplicitLimitAndSyncsAlways(t *testing.T) {
	n := startNATS(t, NATSConfig{Dir: t.TempDir(), Port: -1})
	config := n.server.JetStreamConfig()
	assert.True(t, config.SyncAlways)
	assert.Equal(t, n.limit, config.MaxStore)
	assert.GreaterOrEqual(t, n.limit, int64(smallestStore))
	assert.LessOrEqual(t, n.limit, int64(largestStore))

	nc, err := nats.Connect(n.URL())
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "FITS", Subjects: []string{"a"}, MaxBytes: n.StreamMaxBytes()})
	require.NoError(t, err)
	_, err = js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TOO_MUCH", Subjects: []string{"b"}, MaxBytes: n.StreamMaxBytes()})
	require.ErrorContains(t, err, "insufficient storage")
}

// A stream whose files are gone stands for a store that the disk failed.
func TestABrokenStoreIsReported(t *testing.T) {
	dir := t.TempDir()
	n := startNATS(t, NATSConfig{Dir: dir, Port: -1})
	require.NoError(t, n.Healthy())
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "nats", "jetstream", "$G", "streams", "LOST"), 0o700))
	require.ErrorContains(t, n.Healthy(), "LOST")
}

// TestAStoreThatIsGoneIsReported although the server makes its directory again
// when it writes, before anybody has looked.
func TestAStoreThatIsGoneIsReported(t *testing.T) {
	dir := t.TempDir()
	n := startNATS(t, NATSConfig{Dir: dir, Port: -1})
	require.NoError(t, n.Healthy())
	store := filepath.Join(dir, "nats", "jetstream")
	require.NoError(t, os.RemoveAll(store))
	require.ErrorContains(t, n.Healthy(), "its store is gone")
	require.NoError(t, os.MkdirAll(filepath.Join(store, "$G"), 0o700))
	require.ErrorContains(t, n.Healthy(), "its store is gone: "+store+" was made again")
}

func TestBrokenFilesOfTheStoreAreNamed(t *testing.T) {
	for file, content := range map[string]string{"token": "not hex\n", "max-bytes": "17\n"} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "nats"), 0o700))
		path := filepath.Join(dir, "nats", file)
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := StartNATS(NATSConfig{Dir: dir, Port: -1})
		require.ErrorContains(t, err, path)
	}
}

func TestNATSThatCannotOpenItsStoreSaysWhy(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "nats"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "nats", "jetstream"), nil, 0o600)) // where a directory belongs
	_, err := StartNATS(NATSConfig{Dir: dir, Port: -1})
	require.ErrorContains(t, err, "JetStream")
}
