package main

import (
	"context"
	"log/slog"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// counted is the gate of a command that sends one request: the ledger of the
// database that all replicas spend from, where there is one in order, else none.
// It keeps the answer's limits. Close must be called.
type counted struct {
	codat.Gate // nil: not counted
	answer     push.Answer
	database   *store.Store
}

// openGate opens the ledger, or explains on log why the request is not counted:
// a person who asks wants an answer also while the database is down, and the
// daemon learns of one request from the next answer's X-Rate-Limit-Remaining.
func openGate(ctx context.Context, s settings, log *slog.Logger) *counted {
	config := s.database
	config.LookOnly = true // a look at Codat is no reason to migrate
	database, err := store.Open(ctx, config)
	if err != nil {
		log.Warn("the request is not counted in pushwatch's ledger", "error", err)
		return &counted{}
	}
	ledger := poller.NewLedger(database, func() (float64, int) { return s.reserve, len(s.companies) }, log)
	return &counted{Gate: ledger, database: database}
}

func (g *counted) Close() {
	if g.database != nil {
		g.database.Close()
	}
}

// Admit counts the request.
func (g *counted) Admit(ctx context.Context, ask push.Ask) (push.Grant, error) {
	if g.Gate == nil {
		return push.Grant{Ask: ask}, nil
	}
	return g.Gate.Admit(ctx, ask)
}

// Settle keeps the answer and passes it on.
func (g *counted) Settle(ctx context.Context, grant push.Grant, answer push.Answer) error {
	g.answer = answer
	if g.Gate == nil {
		return nil
	}
	return g.Gate.Settle(ctx, grant, answer)
}
