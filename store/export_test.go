package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// TransactionSetting returns a setting as it holds in the transactions of the
// package, for tests.
func (s *Store) TransactionSetting(ctx context.Context, name string) (string, error) {
	var value string
	err := s.tx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		return tx.QueryRow(ctx, `select current_setting($1::text)`, name).Scan(&value)
	})
	return value, err
}

// BeginGate begins a transaction that locks the quota's gate.
const BeginGate = beginGate

// ServerProblem says what is wrong with a server of a version, such as 130008.
func ServerProblem(number string) string {
	return serverSettings{number: number, version: number, commit: "on", encoding: "UTF8"}.problem()
}

// InTheClear returns the host that a connection string may reach unencrypted.
func InTheClear(url string) (string, error) {
	c, err := pgx.ParseConfig(url)
	if err != nil {
		return "", err
	}
	return inTheClear(c), nil
}

// Pause is how long Run would wait now, and its longest pause.
func (l *Leases) Pause() (pause, longest time.Duration) { return l.pause(), lookPeriod }

// SetPatience sets how long a statement or a transaction may take, for tests.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// SetPage sets how many keys the replay finds at once, for tests.
func (r *Replay) SetPage(n int) { r.page = n }

// ReadHeader reads the headers of an event as PostgreSQL prints them.
var ReadHeader = readHeader
