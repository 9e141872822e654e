package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/internal/embedded"
)

// attach resolves a configuration for a command that works beside a daemon, or
// while there is none: external servers as they are, embedded ones through the
// pushwatch that runs them, else started for the time of the command. Where no
// pushwatch has run it refuses: a mistyped --data-dir would look like an empty
// history. Detach must be called when the work is done.
func attach(ctx context.Context, c config.Config, log *slog.Logger) (s settings, detach func(), err error) {
	s, beside, err := attachRunning(c, log)
	if err == nil && !beside {
		err = usedBefore(c)
	}
	if err != nil || beside {
		return s, func() {}, err
	}
	return startFor(ctx, c, log)
}

// attachDatabase is attach for a command that asks the database alone: beside an
// external one it needs no NATS, and no data directory.
func attachDatabase(ctx context.Context, c config.Config, log *slog.Logger) (s settings, detach func(), err error) {
	if !c.Postgres.External {
		return attach(ctx, c, log)
	}
	s, err = resolve(c, &servers{}, log)
	return s, func() {}, err
}

// attachNew is attachDatabase for a command that may also be the first one to use a
// data directory.
func attachNew(ctx context.Context, c config.Config, log *slog.Logger) (s settings, detach func(), err error) {
	if c.Postgres.External {
		return attachDatabase(ctx, c, log)
	}
	s, beside, err := attachRunning(c, log)
	if err != nil || beside {
		return s, func() {}, err
	}
	return startFor(ctx, c, log)
}

// startFor starts the embedded servers that a configuration asks for; detach stops
// them.
func startFor(ctx context.Context, c config.Config, log *slog.Logger) (s settings, detach func(), err error) {
	started, err := startServers(ctx, c, log)
	if err != nil {
		return settings{}, nil, err
	}
	detach = func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
		defer cancel()
		if err := started.stop(stopping); err != nil {
			log.Warn("embedded servers", "error", err)
		}
	}
	if s, err = resolve(c, started, log); err != nil {
		detach()
		return settings{}, nil, err
	}
	return s, detach, nil
}

// usedBefore refuses a data directory in which the embedded servers of a
// configuration have kept nothing yet.
func usedBefore(c config.Config) error {
	postgres, nats, err := embedded.Keeps(c.DataDir)
	there, variable := postgres, "DATABASE_URL"
	if c.Postgres.External {
		there, variable = nats, "NATS_URL"
	}
	switch {
	case err != nil:
		return &configError{err}
	case !there:
		return &configError{fmt.Errorf("no pushwatch has run on %s: start 'pushwatch run', give the --data-dir of the one you mean, or set %s",
			c.DataDir, variable)}
	}
	return nil
}

// attachRunning is attach as far as nothing needs to be started: beside is false
// when the configuration wants embedded servers and no pushwatch runs them. The
// address of each that runs is not empty.
func attachRunning(c config.Config, log *slog.Logger) (s settings, beside bool, err error) {
	if s, err = resolve(c, &servers{}, log); err != nil || c.Postgres.External && c.NATS.External() {
		return s, true, err
	}
	databaseURL, natsURL, running, err := embedded.Running(c.DataDir)
	if err != nil || !running {
		return s, false, err
	}
	if !c.NATS.External() {
		s.nats.URL = natsURL
		if s.stream.MaxBytes == 0 {
			s.stream.MaxBytes, err = embedded.StreamMaxBytes(c.DataDir)
		}
	}
	if err != nil || c.Postgres.External {
		return s, true, err
	}
	s.database.URL = databaseURL
	return s, true, embedded.IgnorePG()
}
