package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/event"
	"github.com/pushwatch/pushwatch/internal/audit"
	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/publisher"
	"github.com/pushwatch/pushwatch/store"
)

// auditAgainst compares the truth (status by operation) with the database and the
// stream.
func (d *daemon) auditAgainst(ctx context.Context, truth map[audit.Operation]string) (audit.Report, error) {
	a := audit.New()
	for op, status := range truth {
		a.Truth(op, status)
	}
	err := d.store.EachOperation(ctx, func(o store.Stored) error {
		a.Stored(audit.Operation{CompanyID: o.CompanyID, Key: o.Key}, string(o.Status))
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = d.store.EachTransition(ctx, func(t store.Transition) error {
		a.Transition(t.EventID)
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = readStream(ctx, d.nats, d.settings.stream.Name, a)
	return a.Report(), err
}

// readStream tells a every message of the stream. One that is no event is somebody
// else's.
func readStream(ctx context.Context, nc *nats.Conn, stream string, a *audit.Audit) error {
	return publisher.ReadAll(ctx, nc, stream, func(m publisher.StoredMessage) error {
		var e event.Event
		if _, ok := event.ParseID(m.ID); !ok || json.Unmarshal(m.Data, &e) != nil {
			a.Foreign(fmt.Sprintf("message %d of the stream", m.Sequence))
			return nil
		}
		a.Message(audit.Operation{CompanyID: e.CompanyID, Key: e.PushOperationKey}, e.Version, m.ID)
		return nil
	})
}

func newAudit() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	cmd := &cobra.Command{
		Use: "audit", Short: "Compare the whole stream with the database",
		Long: "Reads every change in the database and every message of the stream, and counts changes that the\n" +
			"stream has lost, messages that it has twice, out of order, or that no change accounts for. Exits 1\n" +
			"on any of them. It may run beside a daemon: what waits to be published is not lost, nor is what\n" +
			"has reached the stream's max_age.",
		Args: arguments(),
	}
	placeFlags(cmd, &flags)
	form := outputFlag(cmd, "table", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runAudit(cmd, flags, *form) }
	return cmd
}

func runAudit(cmd *cobra.Command, flags config.Flags, form string) error {
	c, log, err := loadConfig(flags)
	if err != nil {
		return err
	}
	s, detach, err := attach(cmd.Context(), c, log)
	if err != nil {
		return err
	}
	defer detach()
	ctx, cancel := context.WithTimeout(cmd.Context(), startTimeout)
	defer cancel()
	s.database.LookOnly = true // a comparison is no reason to migrate
	database, err := openStore(ctx, s.database)
	if err != nil {
		return err
	}
	defer database.Close()
	nc, err := dial(ctx, s.nats)
	if err != nil {
		return err
	}
	defer nc.Close()
	report, err := auditLive(cmd.Context(), database, nc, s.stream, database.Now().Add(-time.Second)) // published_at is a transaction's start
	if err != nil {
		return streamError(err, s.stream.Name)
	}
	if form == "json" {
		err = writeJSON(cmd.OutOrStdout(), auditDocument(report))
	} else {
		err = auditTable(cmd, report)
	}
	if err == nil && !report.Sound() {
		err = errors.New("the stream and the database differ")
	}
	return err
}

// auditLive compares database and stream while a daemon may be at work. What is
// in the stream was committed before, so the stream is read first; what was
// published since began need not be in what was read.
func auditLive(ctx context.Context, s *store.Store, nc *nats.Conn, stream publisher.StreamConfig, began time.Time) (audit.Report, error) {
	a := audit.New()
	aged := func(t store.Transition) bool {
		return stream.MaxAge > 0 && !t.PublishedAt.IsZero() && began.Sub(t.PublishedAt) > stream.MaxAge-min(stream.MaxAge/10, time.Hour)
	}
	err := s.EachTransition(ctx, func(t store.Transition) error {
		if aged(t) {
			a.Aged(audit.Operation{CompanyID: t.CompanyID, Key: t.Key}, t.Version, t.EventID)
		}
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = s.EachDropped(ctx, func(t store.Transition) error {
		a.Dropped(audit.Operation{CompanyID: t.CompanyID, Key: t.Key}, t.Version, t.EventID)
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	err = s.EachPruned(ctx, func(p store.Pruned) error {
		a.Forgotten(audit.Operation{CompanyID: p.CompanyID, Key: p.Key}, p.Versions)
		return nil
	})
	if err != nil {
		return audit.Report{}, err
	}
	if err := readStream(ctx, nc, stream.Name, a); err != nil {
		return audit.Report{}, err
	}
	err = s.EachTransition(ctx, func(t store.Transition) error {
		switch {
		case aged(t):
		case t.SetAside:
			a.SetAside(t.EventID)
		case t.PublishedAt.IsZero() || t.PublishedAt.After(began):
			a.Waiting(t.EventID)
		default:
			a.Transition(t.EventID)
		}
		return nil
	})
	return a.Report(), err
}

// damage is one kind of damage in the command's output.
type damage struct {
	Kind     string   `json:"kind"`
	Count    int      `json:"count"`
	Examples []string `json:"examples"` // event ids, the first ten
}

func damagesOf(r audit.Report) []damage {
	return []damage{
		{"lost", r.Lost, r.Examples.Lost}, {"duplicated", r.Duplicated, r.Examples.Duplicated},
		{"out_of_order", r.OutOfOrder, r.Examples.OutOfOrder}, {"unknown", r.Unknown, r.Examples.Unknown},
	}
}

func auditDocument(r audit.Report) any {
	d := damagesOf(r)
	for i := range d {
		d[i].Examples = append([]string{}, d[i].Examples...) // never null
	}
	return struct {
		Sound     bool     `json:"sound"`
		Changes   int      `json:"changes"`
		Published int      `json:"published"`
		Waiting   int      `json:"waiting"`
		SetAside  int      `json:"setAside"`
		Damage    []damage `json:"damage"`
	}{r.Sound(), r.Changes, r.Published, r.Waiting, r.Aside, d}
}

// auditTable prints the counts, and below them what is damaged, one event a line.
func auditTable(cmd *cobra.Command, r audit.Report) error {
	counts := facts{}
	count := func(what string, n int) { counts.add(what, fmt.Sprint(n)) }
	count("changes", r.Changes)
	count("published", r.Published)
	count("waiting", r.Waiting)
	count("set aside", r.Aside)
	events := facts{}
	for _, d := range damagesOf(r) {
		kind := strings.ReplaceAll(d.Kind, "_", " ")
		count(kind, d.Count)
		for _, id := range d.Examples {
			events.add(kind, id)
		}
		if more := d.Count - len(d.Examples); more > 0 && len(d.Examples) > 0 {
			events.add(kind, fmt.Sprintf("and %d more", more))
		}
	}
	out := cmd.OutOrStdout()
	if err := counts.write(out); err != nil {
		return err
	}
	if len(events) > 0 {
		fmt.Fprintln(out)
	}
	if err := events.write(out); err != nil {
		return err
	}
	return auditNote(cmd.ErrOrStderr(), r)
}

// auditNote says of what is not in the stream that it is no damage.
func auditNote(out io.Writer, r audit.Report) (err error) {
	if r.Waiting > 0 {
		_, err = fmt.Fprintf(out, "%s still to be published\n", are(int64(r.Waiting), "event"))
	}
	if r.Aside > 0 {
		_, err = fmt.Fprintf(out, "%s set aside: see 'pushwatch quarantine list'\n", are(int64(r.Aside), "event"))
	}
	return err
}

func are(n int64, thing string) string {
	if n == 1 {
		return plural(n, thing) + " is"
	}
	return plural(n, thing) + " are"
}
