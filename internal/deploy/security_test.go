package deploy

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/codat/codatsim"
	"github.com/pushwatch/pushwatch/internal/embedded"
	"github.com/pushwatch/pushwatch/publisher"
)

const securityPage = "docs/security.md"

// guarded is PostgreSQL and NATS as docs/security.md sets them up, word for word.
type guarded struct {
	superuser string // address of the server, for a superuser
	broker    *server.Server
}

// newGuarded follows the page up to where the daemon starts.
func newGuarded(t *testing.T) *guarded {
	database, err := embedded.StartPostgres(t.Context(), embedded.PostgresConfig{UnsafeNoFsync: true})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, database.Stop(context.WithoutCancel(t.Context()))) })
	g := &guarded{superuser: database.URL(), broker: startGuardedBroker(t)}
	sql := blocksOf(t, securityPage, "sql")
	require.Len(t, sql, 4, "roles, grants, pruning, readers")
	g.types(t, g.superuser, sql[0].text)
	// It needs no place for servers of its own.
	migrated := exec.CommandContext(t.Context(), binary, "migrate", "up")
	migrated.Env = []string{"HOME=/proc", "DATABASE_URL=" + g.database("pushwatch_owner")}
	out, err := migrated.CombinedOutput()
	require.NoError(t, err, string(out))
	for range 2 { // "and again after each upgrade"
		g.types(t, g.database("pushwatch_owner"), sql[1].text)
	}
	g.types(t, g.superuser, sql[3].text)
	return g
}

// startGuardedBroker starts a server with the accounts of the page.
func startGuardedBroker(t *testing.T) *server.Server {
	found := blocksOf(t, securityPage, "text")
	i := slices.IndexFunc(found, func(b block) bool { return strings.HasPrefix(b.text, "accounts {") })
	require.GreaterOrEqual(t, i, 0, "the page has no accounts")
	path := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(path, []byte(found[i].text), 0o600))
	for _, user := range []string{"PUSHWATCH", "BILLING", "ADMIN"} {
		t.Setenv(user+"_PASSWORD", strings.ToLower(user)+"-password")
	}
	options, err := server.ProcessConfigFile(path)
	require.NoError(t, err)
	options.Host, options.Port, options.JetStream, options.StoreDir = "127.0.0.1", -1, true, t.TempDir()
	options.NoSigs, options.NoLog = true, true
	s, err := server.NewServer(options)
	require.NoError(t, err)
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	require.True(t, s.ReadyForConnections(10*time.Second))
	return s
}

// nats returns the server's address for a user of the page.
func (g *guarded) nats(user string) string {
	return fmt.Sprintf("nats://%s:%s-password@%s", user, user, g.broker.Addr())
}

// database returns the address of the page's database for a role.
func (g *guarded) database(role string) string {
	u, err := url.Parse(g.superuser)
	if err != nil {
		panic(err) // the server's own address
	}
	u.User, u.Path = url.User(role), "/pushwatch"
	return u.String()
}

// types runs statements one by one, as psql does.
func (g *guarded) types(t *testing.T, address, script string) {
	conn, err := pgx.Connect(t.Context(), address)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for statement := range strings.SplitSeq(script, ";\n") {
		if strings.TrimSpace(statement) != "" {
			_, err := conn.Exec(t.Context(), statement)
			require.NoError(t, err, statement)
		}
	}
}

// query runs one statement as a role.
func (g *guarded) query(t *testing.T, role, sql string) (string, error) {
	conn, err := pgx.Connect(t.Context(), g.database(role))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var value string
	err = conn.QueryRow(t.Context(), sql).Scan(&value)
	return value, err
}

// asUser connects to NATS; denied waits for and returns what the server refused.
func (g *guarded) asUser(t *testing.T, user, inbox string) (nc *nats.Conn, denied func() []string) {
	var mu sync.Mutex
	var refusals []string
	nc, err := nats.Connect(g.nats(user), nats.CustomInboxPrefix(inbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		mu.Lock()
		defer mu.Unlock()
		refusals = append(refusals, err.Error())
	}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc, func() []string {
		require.NoError(t, nc.Flush()) // refusals come before its answer, and are handled behind it
		var last int
		assert.Eventually(t, func() bool {
			mu.Lock()
			defer mu.Unlock()
			settled := len(refusals) > 0 && len(refusals) == last
			last = len(refusals)
			return settled
		}, 2*time.Second, 20*time.Millisecond)
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(refusals)
	}
}

// TestTheLeastPrivilegesOfTheSecurityPageAreEnoughAndNoMore sets everything up as
// the page says, runs the daemon and its commands under it, and then tries, as
// each of the roles, what it does not grant.
func TestTheLeastPrivilegesOfTheSecurityPageAreEnoughAndNoMore(t *testing.T) {
	g := newGuarded(t)
	companies := codatsim.MakeCompanies(1, 2)
	sim, err := codatsim.New(codatsim.Config{Seed: 1, Companies: companies, Key: "demo-key", History: 30, Rate: 120})
	require.NoError(t, err)
	api := httptest.NewServer(sim)
	t.Cleanup(api.Close)
	environ := []string{"HOME=" + t.TempDir(), "DATABASE_URL=" + g.database("pushwatch_writer"), "PUSHWATCH_POSTGRES_MIGRATE=verify",
		"NATS_URL=" + g.nats("pushwatch"), "PUSHWATCH_NATS_MANAGE=verify", "CODAT_API_KEY=demo-key", "PUSHWATCH_CODAT_BASE_URL=" + api.URL,
		"PUSHWATCH_COMPANIES=" + companies[0].ID + "," + companies[1].ID, "PUSHWATCH_POLL_BASELINE=publish",
		"PUSHWATCH_POLL_DISCOVER=@every 1s", "PUSHWATCH_POLL_TRACK=@every 1s", "PUSHWATCH_HTTP_LISTEN=127.0.0.1:0", "PUSHWATCH_LOG_FORMAT=json"}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		cmd.Env = environ
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run("check")
	require.Error(t, err, "nobody has made the stream")
	require.Contains(t, out, "nats stream add CODAT_PUSH", "it says what admin must type")
	admin, _ := g.asUser(t, "admin", "_INBOX")
	_, _, err = publisher.EnsureStream(t.Context(), admin, publisher.StreamConfig{Name: "CODAT_PUSH", SubjectPrefix: "codat.push",
		Manage: publisher.ManageCreate, MaxAge: 720 * time.Hour})
	require.NoError(t, err)

	cmd := exec.Command(binary, "run")
	cmd.Env = environ
	log := background(t, cmd)
	published := `select count(*)::text from reporting.push_transitions where published_at is not null`
	require.Eventually(t, func() bool {
		n, err := g.query(t, "pushwatch_owner", published)
		require.NoError(t, err)
		return len(n) >= 3 // a hundred
	}, 2*time.Minute, 200*time.Millisecond)

	t.Run("the daemon and its commands are refused nothing", func(t *testing.T) {
		for _, args := range []string{"check", "audit", "status", "quarantine list", "migrate status", "replay --dry-run --since 1h"} {
			out, err := run(strings.Fields(args)...)
			if args != "replay --dry-run --since 1h" { // which looks for another stream
				assert.NoError(t, err, "%s: %s", args, out)
			}
			assert.NotContains(t, out, "permission denied", args)
		}
		text, err := os.ReadFile(log)
		require.NoError(t, err)
		for _, refusal := range []string{"permission denied", "ermissions violation", "ERROR", "row-level security"} {
			assert.NotContains(t, string(text), refusal)
		}
	})
	t.Run("a subscriber reads its own consumer and nothing else", func(t *testing.T) { g.checkSubscriber(t, admin) })
	t.Run("pushwatch may not do more at NATS", func(t *testing.T) { g.checkRelay(t) })
	t.Run("readers read the views", func(t *testing.T) { g.checkReaders(t) })
	t.Run("nobody else reads anything", func(t *testing.T) {
		g.types(t, g.superuser, "create role stranger login")
		_, err := g.query(t, "stranger", "select 'in'")
		assert.ErrorContains(t, err, "permission denied for database")
		_, err = g.query(t, "pushwatch_owner", "select rolname::text from pg_roles where rolname = 'pushwatch_writer' and rolsuper")
		assert.ErrorIs(t, err, pgx.ErrNoRows)
	})
}

func (g *guarded) checkSubscriber(t *testing.T, admin *nats.Conn) {
	js, err := jetstream.New(admin)
	require.NoError(t, err)
	_, err = js.CreateConsumer(t.Context(), "CODAT_PUSH", jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	_, err = js.CreateConsumer(t.Context(), "CODAT_PUSH", jetstream.ConsumerConfig{Durable: "shipping", AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
	nc, denied := g.asUser(t, "billing", "_INBOX_billing")
	own, err := jetstream.New(nc)
	require.NoError(t, err)
	consumer, err := own.Consumer(t.Context(), "CODAT_PUSH", "billing")
	require.NoError(t, err)
	batch, err := consumer.Fetch(10, jetstream.FetchMaxWait(10*time.Second))
	require.NoError(t, err)
	read := 0
	for message := range batch.Messages() {
		require.NoError(t, message.DoubleAck(t.Context()))
		read++
	}
	require.NoError(t, batch.Error())
	assert.Equal(t, 10, read)
	for _, subject := range []string{"codat.push.a.b.c.d", "$JS.API.STREAM.MSG.GET.CODAT_PUSH", "$JS.API.CONSUMER.MSG.NEXT.CODAT_PUSH.shipping",
		"$JS.API.CONSUMER.DELETE.CODAT_PUSH.billing", "$JS.API.STREAM.DELETE.CODAT_PUSH", "$JS.ACK.CODAT_PUSH.shipping.1.1.1.1.0"} {
		require.NoError(t, nc.Publish(subject, nil))
		assert.Contains(t, strings.Join(denied(), "\n"), `Publish to "`+subject+`"`)
	}
	for _, subject := range []string{"codat.push.>", "_INBOX_pw.>", "_INBOX.>", ">"} {
		_, err := nc.Subscribe(subject, func(*nats.Msg) {})
		require.NoError(t, err)
		assert.Contains(t, strings.Join(denied(), "\n"), `Subscription to "`+subject+`"`)
	}
}

func (g *guarded) checkRelay(t *testing.T) {
	nc, denied := g.asUser(t, "pushwatch", publisher.Inbox)
	for _, subject := range []string{
		"$JS.API.STREAM.DELETE.CODAT_PUSH", "$JS.API.STREAM.PURGE.CODAT_PUSH", "$JS.API.STREAM.UPDATE.CODAT_PUSH",
		"$JS.API.STREAM.CREATE.CODAT_PUSH", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.MSG.DELETE.CODAT_PUSH",
		"$JS.API.STREAM.SNAPSHOT.CODAT_PUSH", "$JS.API.STREAM.RESTORE.CODAT_PUSH", "$JS.API.STREAM.LIST", "$JS.API.STREAM.NAMES",
		"$JS.API.STREAM.INFO.OTHER", "$JS.API.STREAM.MSG.GET.OTHER", "$JS.API.CONSUMER.CREATE.CODAT_PUSH",
		"$JS.API.CONSUMER.DELETE.CODAT_PUSH.billing", "$JS.API.CONSUMER.MSG.NEXT.CODAT_PUSH.billing", "$JS.API.ACCOUNT.PURGE.CODAT",
		"$JS.ACK.CODAT_PUSH.billing.1.1.1.1.0", "codat.replay.a", "orders.new", "_INBOX.x",
	} {
		require.NoError(t, nc.Publish(subject, nil))
		assert.Contains(t, strings.Join(denied(), "\n"), `Publish to "`+subject+`"`)
	}
	for _, subject := range []string{"codat.push.>", "$JS.API.>", "_INBOX.>", "_INBOX_billing.>", ">"} {
		_, err := nc.Subscribe(subject, func(*nats.Msg) {})
		require.NoError(t, err)
		assert.Contains(t, strings.Join(denied(), "\n"), `Subscription to "`+subject+`"`)
	}
}

func (g *guarded) checkReaders(t *testing.T) {
	for _, view := range []string{"push_operations", "push_transitions"} {
		n, err := g.query(t, "analyst", `select count(*)::text from reporting.`+view)
		require.NoError(t, err)
		assert.NotEqual(t, "0", n, view)
	}
	for setting, want := range map[string]string{"default_transaction_read_only": "on", "statement_timeout": "1min",
		"idle_in_transaction_session_timeout": "1min"} {
		got, err := g.query(t, "analyst", `select current_setting('`+setting+`')`)
		require.NoError(t, err)
		assert.Equal(t, want, got, setting)
	}
	tables, err := g.query(t, "pushwatch_owner", `select string_agg(relname::text, ' ') from pg_class where relnamespace = 'pushwatch'::regnamespace and relkind in ('r', 'p')`)
	require.NoError(t, err)
	refused := []string{`create table reporting.t (n int)`, `set default_transaction_read_only = off; create table public.t (n int)`,
		`set role pushwatch_owner`, `set role pushwatch_writer`, `select pushwatch.drop_sent_day('2020-01-01')::text`,
		`set default_transaction_read_only = off; update reporting.push_operations set status = 'x'`}
	for table := range strings.FieldsSeq(tables) {
		refused = append(refused, `select count(*)::text from pushwatch.`+table)
	}
	require.Greater(t, len(refused), 15)
	conn, err := pgx.Connect(t.Context(), g.database("analyst"))
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	for _, sql := range refused {
		_, err := conn.Exec(t.Context(), sql)
		var pg *pgconn.PgError
		require.True(t, errors.As(err, &pg), "%s: %v", sql, err)
		assert.Contains(t, []string{"42501", "25006", "55000"}, pg.Code, "%s: %v", sql, err) // not allowed, read only, a join is no table
	}
}
