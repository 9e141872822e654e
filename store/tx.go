package store

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	txTimeout       = 30 * time.Second
	rollbackTimeout = 5 * time.Second
	txAttempts      = 4
)

// tx runs fn in a transaction and commits it. It is the only place that begins
// one for the package's facts. A deadlock or a serialisation failure runs fn
// again from the start, so fn must not keep what it learned in an attempt that
// failed.
//
// If the answer to COMMIT is lost, the transaction may have committed or not;
// the error says neither. Every fact of this package may therefore be stated
// again.
func (s *Store) tx(ctx context.Context, fn func(context.Context, pgx.Tx) error) error {
	ctx, cancel := context.WithTimeout(ctx, txTimeout)
	defer cancel()
	for attempt := 1; ; attempt++ {
		err := s.attempt(ctx, begin, fn)
		if err == nil || attempt == txAttempts || !transient(err) {
			return err
		}
	}
}

// begin bounds how long a process that was stopped, or whose machine is gone, in
// the middle of a transaction keeps its locks: less than a lease's term, so that
// whoever takes the lease over finds the rows free. It is set for the transaction
// alone, because a pooler may lend the session to others.
const begin = `begin; set local idle_in_transaction_session_timeout = '10s'`

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
// again: serialization_failure, deadlock_detected, and unique_violation, by which
// two looks that find one operation at once meet: the later one finds its row then.
func transient(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "40001" || pg.Code == "40P01" || pg.Code == uniqueViolation)
}
