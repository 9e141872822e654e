package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pushwatch/pushwatch/internal/config"
	"github.com/pushwatch/pushwatch/poller"
	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

func newStatus() *cobra.Command {
	flags := config.Flags{WithoutCompanies: true, WithoutAPIKey: true}
	cmd := &cobra.Command{
		Use: "status", Short: "Show the state of the fleet",
		Long: "Shows companies with their last finished look, unfinished operations, the outbox, the day's quota, the\n" +
			"processes and what is set aside, as the database tells it: of all replicas, also while none runs. As\n" +
			"CSV it is the companies, one a row.",
		Args: arguments(),
	}
	placeFlags(cmd, &flags)
	form := outputFlag(cmd, "table", "json", "csv")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return withStore(cmd.Context(), flags, func(s settings, database *store.Store) error {
			o, err := database.Overview(cmd.Context())
			if err != nil {
				return err
			}
			state := fleetState(o, s)
			switch *form {
			case "json":
				return writeJSON(cmd.OutOrStdout(), state)
			case "csv":
				return state.writeCompanies(cmd.OutOrStdout())
			}
			return state.write(cmd.OutOrStdout())
		})
	}
	return cmd
}

// fleet is what status prints.
type fleet struct {
	At         time.Time          `json:"at"`
	Unfinished int64              `json:"unfinished"`
	Disputed   int64              `json:"disputed"`
	Outbox     outboxState        `json:"outbox"`
	Quota      quotaState         `json:"quota"`
	Aside      []store.AsideCount `json:"quarantine"`
	Companies  []companyState     `json:"companies"`
	Processes  []processState     `json:"processes"`
}

type outboxState struct {
	Waiting  int64      `json:"waiting"`
	Blocked  int64      `json:"blocked"` // wait behind a rejected event of their operation
	OldestAt *time.Time `json:"oldestAt"`
}

type quotaState struct {
	Limit       int        `json:"limit"`     // of the day, for all users of the key
	Allowed     int        `json:"allowed"`   // of it, to pushwatch
	Used        int64      `json:"used"`      // by pushwatch
	Remaining   *int64     `json:"remaining"` // for all users of the key, as last answered
	PausedUntil *time.Time `json:"pausedUntil"`
	PausedBy    string     `json:"pausedBy"`
}

type companyState struct {
	ID           string     `json:"id"`
	Name         string     `json:"name"`
	Process      string     `json:"process"`
	DiscoveredAt *time.Time `json:"discoveredAt"`
	Walking      []string   `json:"walking"`
	AbsentUntil  *time.Time `json:"absentUntil"`
	Operations   int64      `json:"operations"`
	Unfinished   int64      `json:"unfinished"`
	Disputed     int64      `json:"disputed"`
}

type processState struct {
	Name      string `json:"name"`
	Live      bool   `json:"live"`
	Companies int64  `json:"companies"`
	Buckets   int64  `json:"buckets"`
}

func fleetState(o store.Overview, s settings) fleet {
	f := fleet{At: o.At, Unfinished: o.Unfinished, Disputed: o.Disputed, Aside: o.Aside, Companies: []companyState{}, Processes: []processState{},
		Outbox: outboxState{o.Waiting, o.Blocked, optionalTime(o.OldestAt)},
		Quota: quotaState{Used: o.Quota.Used, Remaining: o.Quota.Remaining,
			PausedUntil: optionalTime(o.Quota.BlockedUntil), PausedBy: o.Quota.BlockedBy}}
	var answered push.Quota
	if o.Quota.Limit != nil {
		limit := int(*o.Quota.Limit)
		answered.Limit = &limit
	}
	f.Quota.Limit, f.Quota.Allowed = poller.Share(answered, s.reserve, max(len(s.companies), len(o.Companies)))
	for _, c := range o.Companies {
		walking := []string{}
		if c.Walking != "" {
			walking = strings.Split(c.Walking, ",")
		}
		f.Companies = append(f.Companies, companyState{c.ID, c.Name, processName(c.Holder), optionalTime(c.DiscoveredAt),
			walking, optionalTime(c.AbsentUntil), c.Operations, c.Unfinished, c.Disputed})
	}
	for _, p := range o.Processes {
		f.Processes = append(f.Processes, processState{processName(p.Holder), p.Live, p.Companies, p.Buckets})
	}
	if f.Aside == nil {
		f.Aside = []store.AsideCount{}
	}
	return f
}

// processName returns host and process id of a holder of leases, which are what a
// person looks for.
func processName(holder string) string {
	parts := strings.Split(holder, "/")
	if len(parts) != 4 {
		return holder
	}
	return parts[0] + "/" + parts[2]
}

func (f fleet) write(out io.Writer) error {
	lines := facts{}
	lines.add("operations", fmt.Sprintf("%d unfinished, %d disputed", f.Unfinished, f.Disputed))
	outbox := plural(f.Outbox.Waiting, "event") + " waiting"
	if f.Outbox.OldestAt != nil {
		outbox += fmt.Sprintf(", the oldest for %s", ago(f.At, *f.Outbox.OldestAt))
	}
	if f.Outbox.Blocked > 0 {
		outbox += fmt.Sprintf("; %d behind rejected ones", f.Outbox.Blocked)
	}
	lines.add("outbox", outbox)
	quota := fmt.Sprintf("%d of %d requests used today, %d left", f.Quota.Used, f.Quota.Allowed, max(0, int64(f.Quota.Allowed)-f.Quota.Used))
	lines.add("quota", quota)
	whole := fmt.Sprintf("the key's limit is %d a day", f.Quota.Limit)
	if f.Quota.Remaining != nil {
		whole += fmt.Sprintf(", %d remain for all its users", *f.Quota.Remaining)
	}
	lines.add("", whole)
	if f.Quota.PausedUntil != nil {
		lines.add("", fmt.Sprintf("paused until %s: %s", f.Quota.PausedUntil.UTC().Format("15:04:05 UTC"), f.Quota.PausedBy))
	}
	lines.add("quarantine", asideLine(f.Aside))
	if err := lines.write(out); err != nil {
		return err
	}
	companies := listing{heads: []string{"company", "last_look", "operations", "unfinished", "state", "process"}}
	live := slices.ContainsFunc(f.Processes, func(p processState) bool { return p.Live })
	for _, c := range f.Companies {
		looked := ""
		if c.DiscoveredAt != nil {
			looked = ago(f.At, *c.DiscoveredAt)
		}
		companies.add(firstOf(c.Name, c.ID), looked, fmt.Sprint(c.Operations), fmt.Sprint(c.Unfinished), c.state(f.At, live), c.Process)
	}
	processes := listing{heads: []string{"process", "state", "companies", "relay_buckets"}}
	for _, p := range f.Processes {
		state := "gone"
		if p.Live {
			state = "live"
		}
		processes.add(p.Name, state, fmt.Sprint(p.Companies), fmt.Sprint(p.Buckets))
	}
	for _, l := range []listing{companies, processes} {
		if len(l.rows) == 0 {
			l.add(slices.Repeat([]string{""}, len(l.heads))...)
		}
		fmt.Fprintln(out)
		if err := l.write(out, "table"); err != nil {
			return err
		}
	}
	return nil
}

// writeCompanies prints the companies as CSV, whose cells are exact: ids and times,
// not names and ages.
func (f fleet) writeCompanies(out io.Writer) error {
	rows := listing{heads: []string{"company_id", "company_name", "discovered_at", "operations", "unfinished", "disputed", "walking", "absent_until", "process"}}
	for _, c := range f.Companies {
		rows.add(c.ID, c.Name, exact(c.DiscoveredAt), fmt.Sprint(c.Operations), fmt.Sprint(c.Unfinished), fmt.Sprint(c.Disputed),
			strings.Join(c.Walking, " "), exact(c.AbsentUntil), c.Process)
	}
	return rows.write(out, "csv")
}

// exact spells a time for programs; "" for none.
func exact(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// state says in a word what is going on with a company. Live tells whether there is a
// process: one takes what is in its configuration and in nobody's hands, so that a
// company which stays there was taken out of it.
func (c companyState) state(now time.Time, live bool) string {
	var words []string
	if live && c.Process == "" {
		words = append(words, "no process looks at it")
	}
	if c.AbsentUntil != nil && c.AbsentUntil.After(now) {
		words = append(words, "unknown to Codat")
	}
	if c.Disputed > 0 {
		words = append(words, fmt.Sprintf("%d disputed", c.Disputed))
	}
	return strings.Join(append(words, c.Walking...), ", ")
}

// asideLine counts by class what is set aside.
func asideLine(counts []store.AsideCount) string {
	var parts []string
	var dropped int64
	for _, c := range counts {
		if c.Aside > 0 {
			parts = append(parts, plural(c.Aside, string(c.Kind))+" "+c.Class)
		}
		dropped += c.Dropped
	}
	line := "empty"
	if len(parts) > 0 {
		line = strings.Join(parts, ", ")
	}
	if dropped > 0 {
		line += fmt.Sprintf("; %d dropped", dropped)
	}
	return line
}
