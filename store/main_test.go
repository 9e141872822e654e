package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
	"github.com/pushwatch/pushwatch/store/storetest"
)

var server *storetest.Server

func TestMain(m *testing.M) {
	storetest.Main(m, func(s *storetest.Server) {
		server = s
		if err := grant(s); err != nil {
			panic(err)
		}
	})
}

// writer is the role that the stores of these tests work as.
const writer = "pushwatch_writer"

// grant gives the daemon's role what docs/security.md says that it needs: every
// test of this package shows that it is enough.
func grant(s *storetest.Server) error {
	roles, grants, prunes, err := securityPage()
	if err != nil {
		return err
	}
	script := ""
	for statement := range strings.SplitAfterSeq(roles, ";") {
		if strings.Contains(statement, "role "+writer) {
			script += statement
		}
	}
	return s.InTemplate(context.Background(), script+grants+prunes)
}

// securityPage returns the SQL of docs/security.md: the roles, what the owner
// grants the writer, and what pruning asks for beside it.
func securityPage() (roles, grants, prunes string, err error) {
	page, err := os.ReadFile("../docs/security.md")
	if err != nil {
		return "", "", "", err
	}
	blocks := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) < 3 {
		return "", "", "", errors.New("docs/security.md: where is its SQL?")
	}
	return blocks[0][1], blocks[1][1], blocks[2][1], nil
}

// addressOf returns the address of a database for a role.
func addressOf(t *testing.T, role, address string) string {
	u, err := url.Parse(address)
	require.NoError(t, err)
	u.User = url.User(role)
	return u.String()
}

const companyID = "8a210b68-6988-11ed-a1eb-0242ac120002"

// rig is a store, under the daemon's role, on a database of its own with one
// leased company.
type rig struct {
	*testing.T
	*store.Store
	url     string // of a superuser
	company push.Company
	fleet   *store.Fleet
	leases  *store.Leases
	now     time.Time // moves a second with each look
}

// newRig opens a store behind a pooler in transaction mode, which asks more of it
// than a server alone; see newDirectRig.
func newRig(t *testing.T, config store.Config) *rig {
	direct := server.URL(t)
	config.URL, config.TransactionPooler = storetest.Pooler(t, addressOf(t, writer, direct)), true
	return openRig(t, config, direct)
}

// newDirectRig opens a store on the server itself.
func newDirectRig(t *testing.T, config store.Config) *rig {
	direct := server.URL(t)
	config.URL = addressOf(t, writer, direct)
	return openRig(t, config, direct)
}

func openRig(t *testing.T, config store.Config, direct string) *rig {
	s := server.Open(t, config)
	r := &rig{T: t, Store: s, url: direct, now: s.Now()}
	r.company, r.fleet, r.leases = storetest.Company(t, s, companyID)
	return r
}

// firstLook finishes an empty baseline, so that what comes is news.
func (r *rig) firstLook() {
	walk, err := r.OpenWalk(r.Context(), r.company, push.WalkBaseline, r.tick())
	require.NoError(r, err)
	r.record(push.Record{Walk: &walk, Finish: push.Done, Page: push.Page{Last: true}})
}

func (r *rig) tick() time.Time {
	r.now = r.now.Add(time.Second)
	return r.now
}

// record keeps a page, filling in what the test left open, and checks the
// invariants.
func (r *rig) record(record push.Record) push.Recorded {
	r.Helper()
	recorded, err := r.Record(r.Context(), r.complete(record))
	require.NoError(r, err)
	storetest.CheckInvariants(r, r.url)
	return recorded
}

func (r *rig) complete(record push.Record) push.Record {
	if record.Company.ID == "" {
		record.Company = r.company
	}
	page := &record.Page
	if page.Source == "" {
		page.Source = push.FromList
	}
	if page.StartedAt.IsZero() {
		page.StartedAt = r.tick()
	}
	if page.FinishedAt.IsZero() {
		page.FinishedAt = page.StartedAt.Add(200 * time.Millisecond)
	}
	if page.Number == 0 {
		page.Number, page.Size = 1, 100
	}
	return record
}

// look records operations that one list or get showed.
func (r *rig) look(source push.Source, operations ...push.Operation) push.Recorded {
	r.Helper()
	return r.record(push.Record{Page: push.Page{Look: push.Look{Source: source}, Rows: push.RowsOf(operations...)}})
}

// op returns an operation requested now.
func (r *rig) op(key string, status push.Status) push.Operation {
	return push.Operation{CompanyID: companyID, Key: key, ConnectionID: "connection", DataType: "invoices",
		Status: status, RequestedOn: r.now}
}

// transition is what the reporting view shows of a change.
type transition struct {
	Version  int64
	Event    string
	Previous *string
	Status   string
	Source   string
	Baseline bool
	Seen     *time.Time
}

func (r *rig) transitions(key string) []transition {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.url)
	require.NoError(r, err)
	defer func() { require.NoError(r, conn.Close(r.Context())) }()
	rows, err := conn.Query(r.Context(), `
select version, event, previous_status, status, source, is_baseline, last_seen_previous_at
from reporting.push_transitions where push_operation_key = $1 order by version`, key)
	require.NoError(r, err)
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[transition])
	require.NoError(r, err)
	return all
}

func (r *rig) statuses(key string) []string {
	r.Helper()
	var statuses []string
	for _, t := range r.transitions(key) {
		statuses = append(statuses, t.Status)
	}
	return statuses
}

// query returns one value from the test's database.
func query[T any](r *rig, sql string, args ...any) T {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.url)
	require.NoError(r, err)
	defer func() { require.NoError(r, conn.Close(r.Context())) }()
	var value T
	require.NoError(r, conn.QueryRow(r.Context(), sql, args...).Scan(&value))
	return value
}

func (r *rig) exec(sql string, args ...any) error {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), r.url)
	require.NoError(r, err)
	defer func() { require.NoError(r, conn.Close(r.Context())) }()
	_, err = conn.Exec(r.Context(), sql, args...)
	return err
}
