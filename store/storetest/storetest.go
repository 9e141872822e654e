// Package storetest gives tests a real PostgreSQL. It guarantees that every test
// works on a database of its own, cloned from a migrated template, on a private
// server that ends with the test binary; and that a machine without PostgreSQL's
// programs turns the tests red, never grey.
package storetest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

const template = "pushwatch_template"

// Server is the private PostgreSQL server of a test binary.
type Server struct {
	url  string
	made atomic.Int64
}

// Main starts a server, runs the tests of a package with it and ends it. Call it
// from TestMain; run gets the server before the first test. A goroutine that is
// left when all has ended, the server too, turns the tests red.
func Main(m *testing.M, run func(*Server)) {
	goleak.VerifyTestMain(suite(func() int { return serve(m, run) }))
}

// suite is a run of tests that returns its exit code.
type suite func() int

// Run implements goleak.TestingM.
func (s suite) Run() int { return s() }

func serve(m *testing.M, run func(*Server)) int {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	serverURL, stop, err := start(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer stop()
	s := &Server{url: serverURL}
	if err := s.makeTemplate(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	run(s)
	return m.Run()
}

func (s *Server) makeTemplate(ctx context.Context) error {
	if err := s.exec(ctx, "create database "+template); err != nil {
		return err
	}
	_, err := store.Migrate(ctx, store.Config{URL: s.database(template)}, true)
	return err
}

// InTemplate runs statements in the template that the tests' databases are cloned
// from. Call it before the first test.
func (s *Server) InTemplate(ctx context.Context, sql string) error {
	return (&Server{url: s.database(template)}).exec(ctx, sql)
}

func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

func (s *Server) database(name string) string {
	u, err := url.Parse(s.url)
	if err != nil {
		panic(err) // the server's own address
	}
	u.Path = "/" + name
	return u.String()
}

// URL returns the address of a migrated database that belongs to the test alone.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.made.Add(1))
	require.NoError(t, s.exec(t.Context(), fmt.Sprintf("create database %s template %s", name, template)))
	return s.database(name)
}

// Copy returns the address of a copy of a database, which belongs to the test alone. It
// ends the connections to that one.
func (s *Server) Copy(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	from, name := strings.TrimPrefix(u.Path, "/"), fmt.Sprintf("test_%d", s.made.Add(1))
	// The server waits some seconds for those that are about to end.
	require.NoError(t, s.exec(t.Context(), fmt.Sprintf("select pg_terminate_backend(pid) from pg_stat_activity where datname = '%s'", from)))
	require.NoError(t, s.exec(t.Context(), fmt.Sprintf("create database %s template %s", name, from)))
	return s.database(name)
}

// EmptyURL returns the address of a database that belongs to the test alone and
// has no schema yet.
func (s *Server) EmptyURL(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", s.made.Add(1))
	require.NoError(t, s.exec(t.Context(), "create database "+name))
	return s.database(name)
}

// Open returns a store on a database of the test's own.
func (s *Server) Open(t testing.TB, config store.Config) *store.Store {
	t.Helper()
	if config.URL == "" {
		config.URL = s.URL(t)
	}
	opened, err := store.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(opened.Close)
	return opened
}

// Company leases one company (and every relay bucket) to the test and returns it.
func Company(t testing.TB, s *store.Store, id string) (push.Company, *store.Fleet, *store.Leases) {
	t.Helper()
	leases := s.Leases(store.NewHolder(), nil)
	leases.Want(append(store.RelayLeases(), store.CompanyLease(id)))
	require.NoError(t, leases.Renew(t.Context()))
	fleet := s.Fleet(leases)
	require.NoError(t, fleet.Configure(t.Context(), []push.Company{{ID: id, Name: "Toft stores"}}))
	companies, err := fleet.Companies(t.Context())
	require.NoError(t, err)
	require.Len(t, companies, 1)
	return companies[0], fleet, leases
}

// CheckInvariants fails the test unless the database keeps the promises of
// package store. It may be called after every step of every scenario.
func CheckInvariants(t testing.TB, databaseURL string) {
	t.Helper()
	broken, err := Violations(t.Context(), databaseURL)
	require.NoError(t, err)
	require.Empty(t, broken)
}

// Violations returns what breaks the promises of package store: for each broken
// one its name and the keys that break it.
func Violations(ctx context.Context, databaseURL string) (broken []string, err error) {
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	for _, invariant := range invariants {
		rows, err := conn.Query(ctx, invariant.violations)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", invariant.name, err)
		}
		keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", invariant.name, err)
		}
		if len(keys) > 0 {
			broken = append(broken, fmt.Sprintf("%s: %v", invariant.name, keys))
		}
	}
	return broken, nil
}

var invariants = []struct{ name, violations string }{
	{"every transition is in the outbox, published or dropped, and never two of them", `
select t.event_id from pushwatch.transition t
left join pushwatch.outbox o using (company_id, push_operation_key, version)
left join pushwatch.publication p using (company_id, push_operation_key, version)
left join pushwatch.dropped_event d using (company_id, push_operation_key, version)
where num_nonnulls(o.version, p.version, d.version) <> 1`},
	{"every outbox row has its transition", `
select o.event_id from pushwatch.outbox o
left join pushwatch.transition t using (company_id, push_operation_key, version)
where t.version is null or t.event_id <> o.event_id`},
	{"versions count from 1, or from what was pruned, without gaps, up to the operation's", `
select o.push_operation_key from pushwatch.operation o
left join pushwatch.transition t using (company_id, push_operation_key)
group by o.company_id, o.push_operation_key
having count(t.version) <> o.versions - o.pruned_versions or coalesce(max(t.version), o.pruned_versions) <> o.versions
    or coalesce(min(t.version), o.pruned_versions + 1) <> o.pruned_versions + 1`},
	{"each transition begins where the one before it ended", `
select t.event_id from pushwatch.transition t
join pushwatch.transition before on before.company_id = t.company_id
     and before.push_operation_key = t.push_operation_key and before.version = t.version - 1
where t.previous_status is distinct from before.status`},
	{"an operation has the status of its last transition", `
select t.event_id from pushwatch.operation o
join pushwatch.transition t on t.company_id = o.company_id
     and t.push_operation_key = o.push_operation_key and t.version = o.versions
where t.status <> o.status`},
	{"what is kept of a published event is found by its publication", `
select s.event_id from pushwatch.sent s
left join pushwatch.publication p using (company_id, push_operation_key, version)
where (s.published_at, s.stream_sequence, s.stream_id) is distinct from (p.published_at, p.stream_sequence, p.stream_id)`},
	{"an event's payload says what its transition says", `
select o.event_id from pushwatch.outbox o
join pushwatch.transition t using (company_id, push_operation_key, version)
cross join lateral (select convert_from(o.payload, 'UTF8')::jsonb as body) as p
where body->>'id' <> t.event_id or body->>'status' <> t.status
   or body->>'previousStatus' is distinct from t.previous_status or (body->>'version')::bigint <> t.version`},
}
