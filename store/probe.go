package store

import (
	"context"
	"fmt"
)

// Server is what [Probe] tells of a database.
type Server struct {
	Address string // database, host and port; holds no secret
	Version string // as the server spells it
	Pending int    // migrations that it lacks

	Warnings []string // what should be mended, each one line
}

// Probe looks at a database as [Open] would and changes nothing. Its errors are
// Open's, but pending migrations are one only under VerifyOnly.
func Probe(ctx context.Context, config Config) (Server, error) {
	s, err := connect(ctx, config)
	if err != nil {
		return Server{}, err
	}
	defer s.Close()
	c := s.pool.Config().ConnConfig
	server := Server{Address: fmt.Sprintf("database %s on %s:%d", c.Database, c.Host, c.Port)}
	if server.Warnings, err = s.checkServer(ctx); err != nil {
		return server, err
	}
	if err := s.pool.QueryRow(ctx, `select current_setting('server_version')`).Scan(&server.Version); err != nil {
		return server, fmt.Errorf("read the server's version: %w", err)
	}
	all, err := s.migrations(ctx)
	if err != nil {
		return server, err
	}
	server.Pending = pending(all)
	if server.Pending > 0 && !config.VerifyOnly {
		return server, nil
	}
	return server, s.verifySchema(ctx)
}
