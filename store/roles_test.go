package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pushwatch/pushwatch/push"
	"github.com/pushwatch/pushwatch/store"
)

// as runs statements as a role and returns the rows that the last one touched.
func (r *rig) as(role string, sql string) (int64, error) {
	r.Helper()
	conn, err := pgx.Connect(r.Context(), addressOf(r.T, role, r.url))
	require.NoError(r, err)
	defer func() { require.NoError(r, conn.Close(r.Context())) }()
	done, err := conn.Exec(r.Context(), sql)
	return done.RowsAffected(), err
}

func requireDenied(t *testing.T, err error, what string) {
	t.Helper()
	var refused *pgconn.PgError
	require.True(t, errors.As(err, &refused), "%s: %v", what, err)
	assert.Equal(t, "42501", refused.Code, "%s: %v", what, err) // insufficient_privilege
}

// That the daemon's role is enough is shown by every other test of this package.
func TestTheDaemonsRoleHasNoMoreThanItNeeds(t *testing.T) {
	r := newDirectRig(t, store.Config{})
	r.firstLook()
	r.look(push.FromList, r.op("told", push.Pending))
	r.look(push.FromList, r.op("told", push.Success))
	r.publishAll()
	for _, sql := range []string{
		// History.
		`update pushwatch.transition set status = 'x'`,
		`update pushwatch.transition set observed_at = now()`,
		`update pushwatch.transition set error_message = 'x', validation = null`,
		`truncate pushwatch.transition`,
		`alter table pushwatch.transition disable row level security`,
		`drop policy writer_drops on pushwatch.transition`,
		// What an operation is.
		`update pushwatch.operation set push_operation_key = 'x'`,
		`update pushwatch.operation set company_id = 'x'`,
		`update pushwatch.operation set subject_data_type = 'x'`,
		`update pushwatch.operation set first_seen_at = now()`,
		`update pushwatch.operation set is_baseline = true`,
		`delete from pushwatch.operation`,
		// What was sent, byte for byte.
		`update pushwatch.sent set payload = ''`,
		`truncate pushwatch.sent`,
		`drop table pushwatch.sent_default`,
		// What makes the database what it is.
		`update pushwatch.instance set id = '00000000'`,
		`delete from pushwatch.instance`,
		`insert into pushwatch.schema_version (version_id, is_applied) values (9999, true)`,
		`delete from pushwatch.company`,
		`delete from pushwatch.walk`,
		`delete from pushwatch.stream`,
		`update pushwatch.stream set epoch = 'x'`,
		`delete from pushwatch.quota_day`,
		`delete from pushwatch.quota_gate`,
		`delete from pushwatch.quota_gate; insert into pushwatch.quota_gate default values`,
		// Anything else.
		`create table pushwatch.t (n int)`,
		`create table reporting.t (n int)`,
		`create table public.t (n int)`,
		`create function pushwatch.f() returns int language sql as 'select 1'`,
		`create schema s`,
		`create role somebody`,
		`create or replace view reporting.push_operations as select 1 as n`,
		`copy (select 1) to program 'true'`,
		`select pg_read_file('PG_VERSION')`,
		`alter system set fsync = off`,
		`set role pushwatch`,
		`set session authorization pushwatch`,
	} {
		_, err := r.as(writer, sql)
		requireDenied(t, err, sql)
	}
}

func TestWhatIsInTheStreamTheDaemonsRoleCannotChange(t *testing.T) {
	r := newDirectRig(t, store.Config{})
	require.NoError(t, r.exec(`drop policy writer_prunes on pushwatch.transition`))
	r.firstLook()
	r.look(push.FromList, r.op("told", push.Pending))
	r.publishAll()
	r.look(push.FromList, r.op("told", push.Success))
	for _, c := range []struct {
		sql  string
		rows int64 // the one that waits
	}{
		{`update pushwatch.transition set event_id = 'x'`, 1},
		{`update pushwatch.transition set previous_status = 'x'`, 1},
		{`update pushwatch.transition set version = version + 1000 where version = 1`, 0},
		{`update pushwatch.transition set version = 1 where version = 2`, -1}, // becomes one that was told
		{`delete from pushwatch.transition`, 1},
		{`delete from pushwatch.transition where version = 1`, 0},
	} {
		n, err := r.as(writer, `begin; `+c.sql)
		if c.rows < 0 {
			require.Error(t, err, c.sql)
			continue
		}
		require.NoError(t, err, c.sql)
		assert.Equal(t, c.rows, n, c.sql)
	}
	// Nor can retention remove it, before it is let.
	r.look(push.FromList, r.op("told", push.Failed))
	r.publishAll()
	r.age()
	before := r.statuses("told")
	_, _ = r.Retain(t.Context(), store.Retention{History: 1, Horizon: 1})
	assert.Equal(t, before, r.statuses("told"))
}

func TestEveryTableIsInTheDaemonsGrants(t *testing.T) {
	r := newDirectRig(t, store.Config{})
	_, grants, _, err := securityPage()
	require.NoError(t, err)
	readOnly := []string{"instance", "schema_version"}
	tables := query[[]string](r, `
select array_agg(c.relname::text order by c.relname) from pg_catalog.pg_class c
where c.relnamespace = 'pushwatch'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition`)
	require.Greater(t, len(tables), 10)
	for _, table := range tables {
		writes := query[bool](r, `select has_any_column_privilege($1, 'pushwatch.' || $2::text, 'insert, update')`, writer, table)
		if assert.Contains(t, append(readOnly, strings.FieldsFunc(grants, func(c rune) bool { return strings.ContainsRune(" ,.;\n()", c) })...), table) {
			assert.Equal(t, !strings.Contains(strings.Join(readOnly, " "), table), writes, table)
		}
		assert.True(t, query[bool](r, `select has_table_privilege($1, 'pushwatch.' || $2::text, 'select')`, writer, table))
		assert.False(t, query[bool](r, `select has_table_privilege('public', 'pushwatch.' || $1::text, 'select, insert, update, delete')`, table))
	}
}

func TestTheFunctionsOfTheOwnerAreNotEverybodys(t *testing.T) {
	r := newDirectRig(t, store.Config{})
	require.NoError(t, r.exec(`do $$ begin if not exists (select from pg_roles where rolname = 'nobody_in_particular') then create role nobody_in_particular login; end if; end $$`))
	for _, sql := range []string{`select pushwatch.add_sent_day('2026-01-01')`, `select pushwatch.drop_sent_day('2026-01-01')`} {
		_, err := r.as("nobody_in_particular", sql)
		requireDenied(t, err, sql)
	}
	definers := query[[]string](r, `
select coalesce(array_agg(p.proname || ' ' || array_to_string(coalesce(p.proconfig, '{}'), ',') order by p.proname), '{}')
from pg_catalog.pg_proc p where p.pronamespace = 'pushwatch'::regnamespace and p.prosecdef`)
	assert.Equal(t, []string{"add_sent_day search_path=pg_catalog, pg_temp,lock_timeout=1s", "drop_sent_day search_path=pg_catalog, pg_temp,lock_timeout=1s"}, definers)
}

// A table of the writer's own making cannot come before those that the functions
// mean: the names are qualified, and the path is theirs.
func TestTheOwnersFunctionsHeedNoSettingOfTheirCaller(t *testing.T) {
	r := newDirectRig(t, store.Config{})
	_, err := r.as(writer, `
create temporary table sent (published_at timestamptz);
insert into sent select now() + interval '9 years' from generate_series(1, 10000);
set search_path = pg_temp, pushwatch, public;
set timezone = 'America/St_Johns';
select pushwatch.add_sent_day('2020-02-29'), pushwatch.drop_sent_day('2020-02-29')`)
	require.NoError(t, err)
	assert.True(t, query[bool](r, `select to_regclass('pushwatch.sent_20200229') is not null`), "no ten thousand are newer")
	assert.Equal(t, "FOR VALUES FROM ('2020-02-29 00:00:00+00') TO ('2020-03-01 00:00:00+00')", query[string](r, `
select pg_get_expr(c.relpartbound, c.oid) from pg_catalog.pg_class c where c.oid = 'pushwatch.sent_20200229'::regclass`))
}
