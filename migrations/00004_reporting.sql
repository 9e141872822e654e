-- +goose Up
-- Users build on these views: they only ever gain columns, at the end.
create view reporting.push_operations as
select o.company_id, c.name as company_name, o.push_operation_key, o.connection_id, o.data_type,
       o.status, o.is_terminal, o.status_code, o.error_message, o.requested_at, o.completed_at,
       o.first_seen_at, o.last_changed_at, o.completed_at - o.requested_at as duration,
       o.is_baseline, o.versions
from pushwatch.operation o
left join pushwatch.company c on c.company_id = o.company_id;

create view reporting.push_transitions as
select t.company_id, t.push_operation_key, t.data_type, t.version, t.event, t.previous_status, t.status,
       t.observed_at, t.last_seen_previous_at, t.completed_at, t.source, t.is_baseline, t.event_id,
       p.published_at, p.stream_sequence
from pushwatch.transition t
left join pushwatch.publication p
       on p.company_id = t.company_id and p.push_operation_key = t.push_operation_key and p.version = t.version;

-- The reporting role sees these views and nothing else. A role belongs to the
-- whole cluster: it may be there already, and the connecting role may not be
-- allowed to make one, which is no error.
-- +goose StatementBegin
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'pushwatch_reporting') then
        create role pushwatch_reporting nologin;
    end if;
exception
    when insufficient_privilege or duplicate_object or unique_violation then
        raise notice 'role pushwatch_reporting: %', sqlerrm;
end
$$;
-- +goose StatementEnd
-- +goose StatementBegin
do $$
begin
    if exists (select from pg_catalog.pg_roles where rolname = 'pushwatch_reporting') then
        grant usage on schema reporting to pushwatch_reporting;
        grant select on all tables in schema reporting to pushwatch_reporting;
        alter default privileges in schema reporting grant select on tables to pushwatch_reporting;
    end if;
end
$$;
-- +goose StatementEnd

-- +goose Down
drop view reporting.push_transitions, reporting.push_operations;
