package publisher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go"
)

// DialConfig says how to reach NATS.
type DialConfig struct {
	URL             string // one or more, separated by commas; may hold a token or a password
	CredentialsFile string // JWT and seed; empty: none
	Name            string // of the connection; empty: pushwatch@host
	Log             *slog.Logger
}

// Inbox is the prefix of the subjects on which answers come back, so that an
// account can grant it without granting every inbox.
const Inbox = "_INBOX_pw"

const (
	attemptTimeout = 2 * time.Second
	attemptPause   = 250 * time.Millisecond
)

// Dial connects to NATS, trying until ctx ends; from then on the connection
// reconnects for ever by itself. An [*UnavailableError] says that no server let
// us in; any other error is one of the configuration. The caller closes the
// connection.
func Dial(ctx context.Context, c DialConfig) (*nats.Conn, error) {
	if err := CheckURLs(c.URL); err != nil {
		return nil, fmt.Errorf("nats.url (NATS_URL): %w", err)
	}
	if c.CredentialsFile != "" {
		if err := checkCredentials(c.CredentialsFile); err != nil {
			return nil, fmt.Errorf("nats.credentials_file (NATS_CREDS): %w", err)
		}
	}
	options := c.options()
	op := "connect to NATS at " + hosts(c.URL)
	for {
		nc, err := nats.Connect(c.URL, options...)
		if err == nil {
			return nc, nil
		}
		if errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) {
			return nil, &UnavailableError{Op: op, Err: fmt.Errorf("%w; check the user or token of nats.url (NATS_URL), and nats.credentials_file", err)}
		}
		select {
		case <-ctx.Done():
			return nil, &UnavailableError{Op: op, Err: fmt.Errorf("%w; start it, or correct nats.url (NATS_URL)", err)}
		case <-time.After(attemptPause):
		}
	}
}

// checkCredentials refuses a file that cannot be read, and one in which everybody
// may put an identity of theirs.
func checkCredentials(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o002 != 0 {
		return fmt.Errorf("%s may be written by everybody (mode %04o); chmod o-w it and check what it holds", path, mode)
	}
	return nil
}

func (c DialConfig) options() []nats.Option {
	name := c.Name
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "unknown"
		}
		name = "pushwatch@" + host
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	// The client calls its handlers one after another. A trouble that repeats
	// itself, as a refused login does at every attempt, is logged once.
	last := ""
	trouble := func(err error) {
		if text := err.Error(); text != last {
			log.Warn("NATS reports a problem", "error", err)
			last = text
		}
	}
	options := []nats.Option{
		nats.Name(name),
		nats.CustomInboxPrefix(Inbox),
		nats.Timeout(attemptTimeout),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(500 * time.Millisecond),
		// A refused login may be a server that is being set up: never give up on it.
		nats.IgnoreAuthErrorAbort(),
		// What cannot be sent now fails now. Buffered, it would be sent at a time
		// when the relay has long decided anew.
		nats.ReconnectBufSize(-1),
		// A half-open connection is noticed within 20 s, not after four minutes.
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.FlusherTimeout(10 * time.Second),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("NATS connection lost", "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { trouble(err) }),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			last = ""
			// Not the URL: in "nats://token@host" the token is not redacted.
			log.Info("NATS connection is back", "server", nc.ConnectedAddr())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { trouble(err) }),
	}
	if c.CredentialsFile != "" {
		options = append(options, nats.UserCredentials(c.CredentialsFile))
	}
	return options
}
