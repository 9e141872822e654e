package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	defaultPatience = 30 * time.Second
	rollbackTimeout = 5 * time.Second
	txAttempts      = 4
)

// bounded returns a context under which a statement or a transaction ends within
// the store's patience. A connection whose peer is gone without a word, or a pooler
// that has lost a query, would otherwise hold its caller for as long as TCP tries,
// and whatever the caller holds up meanwhile: a company, at work, is not looked at
// by anybody else.
func (s *Store) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.patience)
}

// tx runs fn in a transaction and commits it; see attempts.
func (s *Store) tx(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	return s.attempts(ctx, begin, fn)
}

// attempts runs fn in a transaction that begins as told, and commits it. It is the
// only place that begins one for the package's facts. A deadlock, a serialisation
// failure or a lock that does not come runs fn again from the start, so fn must not
// keep what it learned in an attempt that failed.
//
// If the answer to COMMIT is lost, the transaction may have committed or not;
// the error says neither. Every fact of this package may therefore be stated
// again.
func (s *Store) attempts(ctx context.Context, begin string, fn func(context.Context, pgx.Tx) error) error {
	ctx, cancel := s.bounded(ctx)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := s.attempt(ctx, begin, fn)
		if err == nil || attempt == txAttempts || !transient(err) {
			return err
		}
	}
}

// How transactions begin: all of them, and those that lock the quota's gate, behind
// which every request of every process stands. They bound how long processes that
// were stopped, or whose machine is gone, keep locks: less than a lease's term, so
// that whoever takes the lease over finds the rows free. Waiting for a lock ends
// sooner than holding one: else a stopped process that waits behind another would
// get the lock when that one's session ends, and keep it for as long again, and the
// next one too. They are set for the transaction alone, because a pooler may lend
// the session to others.
const (
	begin     = `begin; set local idle_in_transaction_session_timeout = '10s'; set local lock_timeout = '8s'`
	beginGate = `begin; set local idle_in_transaction_session_timeout = '5s'; set local lock_timeout = '4s'`
)

func (s *Store) attempt(ctx context.Context, begin string, fn func(context.Context, pgx.Tx) error) error {
	tx, err := s.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin})
	if err != nil {
		return err
	}
	// The rollback survives the caller's cancellation, so that no session is left
	// idle in a transaction with its locks held. After a commit it does nothing.
	defer func() {
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_ = tx.Rollback(detached)
	}()
	if err := fn(ctx, tx); err != nil {
		return err
	}
	return tx.Commit(ctx)
}

const uniqueViolation = "23505"

// transient reports a failure that the same transaction may survive when tried
// again: serialization_failure, deadlock_detected, lock_not_available, and
// unique_violation, by which two looks that find one operation at once meet: the
// later one finds its row then.
func transient(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && slices.Contains([]string{"40001", "40P01", "55P03", uniqueViolation}, pg.Code)
}
