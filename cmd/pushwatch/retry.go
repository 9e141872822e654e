package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/codat"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

func newQuarantineRetry(flags *config.Flags) *cobra.Command {
	var c chosen
	cmd := &cobra.Command{
		Use: "retry ID...|--all", Short: "Try again what was set aside",
		Long: "A record with a key is asked for again (get_operation, one request of the quota each) and recorded as\n" +
			"every look is. One without a key cannot be asked for: it is marked, and the next sweep decides. An event\n" +
			"goes back into the outbox in its operation's order: do that after its cause was mended, as by raising\n" +
			"max_payload of the NATS server.",
		Example: "  pushwatch quarantine retry r12 e345\n  pushwatch quarantine retry --all --class too_large",
	}
	c.flags(cmd, "retry")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := c.take(args); err != nil {
			return err
		}
		// Only records are asked for, so only they need the key.
		isEvent := func(id store.AsideID) bool { return strings.HasPrefix(string(id), "e") }
		keyed := *flags
		keyed.WithoutAPIKey = !c.all && !slices.ContainsFunc(c.filter.IDs, func(id store.AsideID) bool { return !isEvent(id) })
		return withStore(cmd.Context(), keyed, func(s settings, database *store.Store) error {
			found, err := c.read(cmd.Context(), database)
			if err != nil {
				return err
			}
			if len(found) == 0 {
				return tellNone(cmd, database, c.filter)
			}
			r := retrial{database: database, settings: s}
			defer r.close()
			return r.all(cmd, found)
		})
	}
	return cmd
}

// retrial tries again what was set aside.
type retrial struct {
	database *store.Store
	settings settings
	client   *codat.Client // nil before the first record that needs it
}

func (r *retrial) close() {
	if r.client != nil {
		r.client.Close()
	}
}

// all tries one after the other and goes on after a failure, but for one that
// concerns every request.
func (r *retrial) all(cmd *cobra.Command, found []store.Aside) error {
	failed := 0
	for _, a := range found {
		done, err := r.one(cmd.Context(), a)
		var refused *push.AskError
		switch {
		case errors.As(err, &refused) && refused.Kind.Blocking(), cmd.Context().Err() != nil:
			return err
		case errors.As(err, &refused) && refused.Kind == push.KindNotFound:
			done = "Codat knows no such operation (any more): drop it, or leave it to retention.quarantine"
		case err != nil:
			done = oneLine(err)
		}
		if err != nil {
			failed++
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", a.ID, printable(done))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d stay in the quarantine", failed, len(found))
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "retried %s\n", tally(found))
	return nil
}

// errStill says that a record reads no better than before.
var errStill = errors.New("still cannot be read")

// one tries one and says what became of it.
func (r *retrial) one(ctx context.Context, a store.Aside) (string, error) {
	switch {
	case a.Kind == store.AsideEvent:
		if err := r.database.RetryEvent(ctx, a.ID); err != nil {
			return "", err
		}
		return "back in the outbox, the relay publishes it next", nil
	case a.Key == "":
		if err := r.database.AwaitRecord(ctx, a.ID); err != nil {
			return "", err
		}
		return "has no key to ask for: marked, the next sweep decides", nil
	}
	return r.look(ctx, a)
}

// look asks for the operation and records the answer, under the fence of whoever
// works on the company now.
//
// True if we crash here: the look is recorded or not, and the record stays in the
// quarantine until it is retried once more.
func (r *retrial) look(ctx context.Context, a store.Aside) (string, error) {
	company, ok, err := r.database.Borrow(ctx, a.CompanyID)
	if err != nil || !ok {
		return "", errors.Join(err, fmt.Errorf("no pushwatch has worked on company %s yet", a.CompanyID))
	}
	if r.client == nil {
		if r.client, err = r.newClient(); err != nil {
			return "", err
		}
	}
	page, err := r.client.Get(ctx, a.CompanyID, a.Key, push.ForUser)
	if err != nil {
		return "", err
	}
	recorded, err := r.database.Record(ctx, push.Record{Company: company, Page: page})
	if err != nil {
		return "", err
	}
	// What PostgreSQL refuses is quarantined by Record itself, and was seen once more.
	after, err := r.database.ShowAside(ctx, a.ID)
	switch {
	case err != nil:
		return "", err
	case len(page.Quarantined) > 0:
		return "", fmt.Errorf("%w: %s: %s", errStill, page.Quarantined[0].Class, page.Quarantined[0].Detail)
	case after.Times > a.Times:
		return "", fmt.Errorf("%w: %s: %s", errStill, after.Class, after.Detail)
	}
	if err := r.database.ResolveRecord(ctx, a.ID); err != nil {
		return "", err
	}
	return fmt.Sprintf("read and recorded: operation %s is %s, %s", a.Key, page.Rows[0].Status,
		plural(int64(recorded.Events), "event")), nil
}

func (r *retrial) newClient() (*codat.Client, error) {
	s := r.settings
	api := s.codat
	api.Gate = &counted{Gate: poller.NewLedger(r.database, func() (float64, int) { return s.reserve, len(s.companies) }, s.log)}
	api.Now, api.UserAgent = r.database.Now, "pushwatch/"+version()
	client, err := codat.New(api)
	if err != nil {
		return nil, &configError{err}
	}
	return client, nil
}
