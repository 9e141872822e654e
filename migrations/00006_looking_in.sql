-- +goose Up
-- A quarantined record that somebody dropped keeps its row without its body, so
-- that the same bytes, which Codat may list for ever, do not come back as news.
-- One without a key that somebody wants retried waits for the next walk.
alter table pushwatch.quarantine
    add column retried_at timestamptz,
    add column dropped_at timestamptz;

-- Events that somebody decided never to publish: the transition stays, the
-- stream has a gap at its version. Lives as long as the transition.
create table pushwatch.dropped_event (
    company_id         text collate "C" not null,
    push_operation_key text collate "C" not null,
    version            bigint not null constraint dropped_event_version_counts_from_one check (version > 0),
    event_id           text not null,
    class              text not null, -- why it could not be published
    detail             text not null,
    dropped_at         timestamptz not null,
    primary key (company_id, push_operation_key, version)
);
create index outbox_rejected on pushwatch.outbox (id) where rejected_class is not null;

-- An operation whose history was pruned keeps its row, stripped of texts: Codat
-- may list it for ever, and without the row it would be a first sight again.
alter table pushwatch.operation
    add column pruned_at timestamptz, -- null again when it changes after all
    add column pruned_versions bigint not null default 0
        constraint operation_pruned_versions_were_there check (pruned_versions between 0 and greatest(versions, 0));
create index operation_finished on pushwatch.operation (last_changed_at)
    where is_terminal and disputed_status is null and pruned_at is null;

create or replace view reporting.push_operations as
select o.company_id, c.name as company_name, o.push_operation_key, o.connection_id, o.data_type,
       o.status, o.is_terminal, o.status_code, o.error_message, o.requested_at, o.completed_at,
       o.first_seen_at, o.last_changed_at, o.completed_at - o.requested_at as duration,
       o.is_baseline, o.versions
from pushwatch.operation o
left join pushwatch.company c on c.company_id = o.company_id
where o.pruned_at is null;

-- +goose Down
create or replace view reporting.push_operations as
select o.company_id, c.name as company_name, o.push_operation_key, o.connection_id, o.data_type,
       o.status, o.is_terminal, o.status_code, o.error_message, o.requested_at, o.completed_at,
       o.first_seen_at, o.last_changed_at, o.completed_at - o.requested_at as duration,
       o.is_baseline, o.versions
from pushwatch.operation o
left join pushwatch.company c on c.company_id = o.company_id;
drop table pushwatch.dropped_event;
drop index pushwatch.outbox_rejected;
alter table pushwatch.operation drop column pruned_at, drop column pruned_versions;
alter table pushwatch.quarantine drop column retried_at, drop column dropped_at;
