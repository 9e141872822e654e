package store

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

const minServerVersion = 140000

// checkServer refuses a server on which a commit may be lost or on which the
// statements of this package do not run, and returns what should be mended though
// it does not keep pushwatch from working, each one line.
func (s *Store) checkServer(ctx context.Context) (warnings []string, err error) {
	const q = `
select current_setting('server_version_num'), current_setting('server_version'),
       current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes'),
       current_setting('server_encoding'), pg_catalog.pg_is_in_recovery()`
	var is serverSettings
	err = s.pool.QueryRow(ctx, q).Scan(&is.number, &is.version, &is.commit, &is.fsync, &is.fullPages, &is.encoding, &is.standby)
	if err != nil {
		return nil, fmt.Errorf("read the server's settings: %w", err)
	}
	if problem := is.problem(); problem != "" {
		return nil, &SetupError{Problem: problem}
	}
	if is.fsync == "off" || is.fullPages == "off" {
		warnings = append(warnings, "fsync or full_page_writes is off: a power cut may lose or damage data")
	}
	if host := inTheClear(s.pool.Config().ConnConfig); host != "" {
		warnings = append(warnings, fmt.Sprintf("the connection to %s may be unencrypted; add sslmode=verify-full to its address "+
			"(sslrootcert names a certificate authority of your own)", host))
	}
	return warnings, nil
}

// serverSettings is what a server says of itself, in its own spelling.
type serverSettings struct {
	number, version          string
	commit, fsync, fullPages string
	encoding                 string
	standby                  bool
}

// problem says why the server cannot keep pushwatch's promises; empty: it can.
func (is serverSettings) problem() string {
	n, err := strconv.Atoi(is.number)
	switch {
	case err != nil || n < minServerVersion:
		return fmt.Sprintf("server is version %s; 14 or newer is needed", is.version)
	case is.standby:
		return "server is a standby and read only; give the address of the primary"
	case is.commit == "off":
		return "synchronous_commit is off: a crash would lose commits that were announced; " +
			"set it on for this role: alter role current_user set synchronous_commit = on"
	case is.encoding != "UTF8":
		return fmt.Sprintf("database encoding is %s; create it with encoding UTF8", is.encoding)
	}
	return ""
}

// inTheClear returns the first host beyond this machine to which a connection may
// be made without encryption: because sslmode is disable, or because it is allow
// or prefer, as it is where nothing says otherwise, which let whoever sits between
// decide. Empty means that there is none.
func inTheClear(c *pgx.ConnConfig) string {
	if c.TLSConfig == nil && !thisMachine(c.Host) {
		return c.Host
	}
	for _, f := range c.Fallbacks {
		if f.TLSConfig == nil && !thisMachine(f.Host) {
			return f.Host
		}
	}
	return ""
}

// thisMachine reports whether a host is a directory of sockets or a loopback
// address.
func thisMachine(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
