package publisher

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAConnectionSaysWhoItIs(t *testing.T) {
	b := startBroker(t)
	host, err := os.Hostname()
	require.NoError(t, err)

	nc := dial(t, b.url())

	assert.Equal(t, "pushwatch@"+host, nc.Opts.Name)
	assert.True(t, strings.HasPrefix(nc.NewInbox(), "_INBOX_pw."))
}

func TestTheFirstConnectionIsTriedUntilTheDeadline(t *testing.T) {
	b := startBroker(t)
	p := startProxy(t, "")
	unavailable := (*UnavailableError)(nil)

	_, err := Dial(within(t, 400*time.Millisecond), DialConfig{URL: p.url()})
	require.ErrorAs(t, err, &unavailable)

	go p.point(b.address()) // a server that is slower to start than we are
	nc, err := Dial(within(t, 10*time.Second), DialConfig{URL: p.url()})
	require.NoError(t, err)
	closeConnection(nc)
}

func TestARefusedLoginIsToldAtOnceAndWithoutThePassword(t *testing.T) {
	b := startBroker(t, func(o *server.Options) { o.Username, o.Password = "relay", "right" })
	unavailable := (*UnavailableError)(nil)

	_, err := Dial(within(t, time.Minute), DialConfig{URL: strings.Replace(b.url(), "nats://", "nats://relay:canary@", 1)})

	require.ErrorAs(t, err, &unavailable)
	assert.NotContains(t, err.Error(), "canary")
}

func TestAWrongConfigurationIsAnotherKindOfErrorAndHoldsNoPassword(t *testing.T) {
	writable := filepath.Join(t.TempDir(), "writable.creds")
	require.NoError(t, os.WriteFile(writable, []byte("canary"), 0o600))
	require.NoError(t, os.Chmod(writable, 0o602)) // past the umask
	for name, c := range map[string]DialConfig{
		"a URL that is none":           {URL: "nats://relay:canary@a host:4222"},
		"a password with a slash":      {URL: "nats://relay:canary/x@127.0.0.1:1"},
		"a token with a slash":         {URL: "nats://canary/x@127.0.0.1:1"},
		"a password with a question":   {URL: "nats://relay:canary?x@127.0.0.1:1"},
		"a password with a hash":       {URL: "nats://relay:canary#x@127.0.0.1:1"},
		"a password with a space":      {URL: "nats://relay:my canary@127.0.0.1:1"},
		"a percent that escapes none":  {URL: "nats://relay:canary%zz@127.0.0.1:1"},
		"a port that is none":          {URL: "nats://127.0.0.1:1,nats://relay@127.0.0.1:canary"},
		"another scheme":               {URL: "https://canary@127.0.0.1:1"},
		"no server at all":             {URL: " , "},
		"a missing credentials file":   {URL: "nats://127.0.0.1:1", CredentialsFile: filepath.Join(t.TempDir(), "none.creds")},
		"credentials for all to write": {URL: "nats://127.0.0.1:1", CredentialsFile: writable},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Dial(within(t, 10*time.Second), c)
			require.Error(t, err)
			assert.NotErrorAs(t, err, new(*UnavailableError))
			assert.NotContains(t, err.Error(), "canary")
		})
	}
}

func TestAConnectionOutlivesALoginRefusedForAWhile(t *testing.T) {
	password := "right"
	b := startBroker(t, func(o *server.Options) { o.Username, o.Password = "relay", password })
	p := startProxy(t, b.address())
	logs := &lines{}
	nc, err := Dial(within(t, 10*time.Second), DialConfig{
		URL: strings.Replace(p.url(), "nats://", "nats://relay:right@", 1), Log: slog.New(slog.NewTextHandler(logs, nil))})
	require.NoError(t, err)
	t.Cleanup(func() { closeConnection(nc) })
	restart := func(to string) {
		p.point("")
		b.stop()
		password = to
		b.start()
		p.point(b.address())
	}

	restart("another")
	before := p.accepted() // some of them where no server was
	eventually(t, "refused", func() bool { return logs.count("uthorization violation") > 0 })
	eventually(t, "refused three times", func() bool { return p.accepted() >= before+3 })
	restart("right")

	eventually(t, "back", nc.IsConnected)
	eventually(t, "told", func() bool { return logs.count("NATS connection is back") == 1 })
	assert.Equal(t, 1, logs.count("uthorization violation"), "the same reason is not repeated: %s", logs.String())
	assert.Zero(t, logs.count("relay:right"))
}

func TestALostConnectionIsCalledThat(t *testing.T) {
	b := startBroker(t)
	nc := dial(t, b.url())
	b.stop()
	eventually(t, "not noticed", func() bool { return !nc.IsConnected() })
	_, _, err := Inspect(t.Context(), nc, streamConfig())
	assert.ErrorIs(t, err, nats.ErrDisconnected)
}
