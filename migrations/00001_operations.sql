-- +goose Up
-- The schema pushwatch exists already: the table of applied migrations is in it.
create schema reporting;

-- One row, made with the database: part of every event id, so that a fresh
-- database beside an old stream never says "already published" of another's event.
create table pushwatch.instance (
    singleton  boolean primary key default true constraint instance_is_one_row check (singleton),
    id         text not null constraint instance_id_is_eight_hex check (id ~ '^[0-9a-f]{8}$'),
    created_at timestamptz not null default clock_timestamp()
);
insert into pushwatch.instance (id) values (left(replace(gen_random_uuid()::text, '-', ''), 8));

create table pushwatch.company (
    company_id           text collate "C" primary key
                         constraint company_id_fits check (octet_length(company_id) between 1 and 256),
    name                 text,
    first_look_at        timestamptz, -- start of the first look, committed before its request; never moved
    first_look_server_at timestamptz, -- the same moment on Codat's clock, fixed by the first answer
    progress_at          timestamptz, -- newest requestedOn at the start of the last finished walk
    discovered_at        timestamptz, -- start of the last finished discover or baseline walk
    first_page_oldest    timestamptz, -- oldest requestedOn on the first page of the last list
    sweep_ticked_at      timestamptz, -- the last sweep tick that was taken up
    baselined            boolean not null default false,
    absent_until         timestamptz  -- Codat said 404: not listed before
);

-- One row an operation, as last seen. Rows that read the same again are not
-- written, so a look costs a quiet company no vacuum; when they were seen is kept
-- per look, in company_look.
create table pushwatch.operation (
    company_id         text collate "C" not null,
    push_operation_key text collate "C" not null
                       constraint operation_key_fits check (octet_length(push_operation_key) between 1 and 256),
    connection_id      text not null,
    data_type          text,
    subject_data_type  text not null, -- of the first recorded sight: subjects never move
    status             text not null constraint operation_status_says_something check (btrim(status) <> ''),
    is_terminal        boolean not null,
    status_code        bigint,
    error_message      text,
    validation         jsonb,
    changes            jsonb,
    requested_at       timestamptz,   -- null when Codat's date was unusable
    completed_at       timestamptz,
    timeout_minutes    bigint,
    flags              text[] not null default '{}', -- what the decoder had to mend
    fingerprint        bytea not null,
    versions           bigint not null constraint operation_versions_count_from_zero check (versions >= 0),
    is_baseline        boolean not null,
    first_seen_at      timestamptz not null,
    last_changed_at    timestamptz not null,
    looked_at          timestamptz not null, -- start of the look that last wrote the row: older looks are stale
    got_at             timestamptz,          -- start of the last get that showed the state
    disputed_status    text,
    disputed_at        timestamptz,
    constraint operation_dispute_is_whole check ((disputed_status is null) = (disputed_at is null)),
    primary key (company_id, push_operation_key)
) with (fillfactor = 80);
create index operation_followed on pushwatch.operation (company_id, requested_at)
    where not is_terminal or disputed_status is not null;

-- Append only. A transition keeps every field of its event's body, so that
-- history can be published again long after the payload is gone.
create table pushwatch.transition (
    company_id            text collate "C" not null,
    push_operation_key    text collate "C" not null,
    version               bigint not null constraint transition_version_counts_from_one check (version > 0),
    event_id              text not null,
    event                 text not null,
    connection_id         text not null,
    data_type             text,
    subject_data_type     text not null,
    previous_status       text,
    status                text not null,
    status_code           bigint,
    error_message         text,
    validation            jsonb,
    changes               jsonb,
    requested_at          timestamptz,
    completed_at          timestamptz,
    timeout_minutes       bigint,
    observed_at           timestamptz not null,
    last_seen_previous_at timestamptz,
    source                text not null constraint transition_source_is_a_look check (source in ('list', 'get')),
    is_baseline           boolean not null,
    constraint transition_changes_something check (previous_status is distinct from status),
    primary key (company_id, push_operation_key, version)
);

-- How deep each recent list of a company reached: a list shows every operation
-- requested after reached_at ('-infinity': all of them). Only rows that tell
-- something are kept: a newer look that reached as deep replaces an older one.
create table pushwatch.company_look (
    company_id text collate "C" not null,
    looked_at  timestamptz not null,
    reached_at timestamptz not null,
    primary key (company_id, looked_at)
);

-- Walks that are unfinished, and the whole-history walks that were. At most one
-- of a kind is open per company.
create table pushwatch.walk (
    company_id  text collate "C" not null,
    kind        text not null constraint walk_kind_is_known check (kind in ('discover', 'baseline', 'sweep')),
    started_at  timestamptz not null,
    newest_at   timestamptz, -- newest requestedOn on the first page
    next_page   integer not null default 1 constraint walk_pages_count_from_one check (next_page >= 1),
    page_size   integer not null default 0, -- as last granted; 0 before the first answer
    pages       bigint not null default 0,
    operations  bigint not null default 0,
    finished_at timestamptz,
    primary key (company_id, kind, started_at)
);
create unique index walk_one_open on pushwatch.walk (company_id, kind) where finished_at is null;

-- Records that could not be decoded or stored.
create table pushwatch.quarantine (
    id                 bigint generated always as identity primary key,
    company_id         text collate "C" not null,
    push_operation_key text collate "C", -- null when it could not be read
    class              text not null,
    detail             text not null,
    body_hash          bytea not null,
    body               text not null,
    first_seen_at      timestamptz not null,
    last_seen_at       timestamptz not null,
    times              bigint not null default 1,
    constraint quarantine_once_per_body unique (company_id, body_hash)
);
create index quarantine_key on pushwatch.quarantine (company_id, push_operation_key);

-- +goose Down
drop schema reporting cascade;
drop table pushwatch.quarantine, pushwatch.walk, pushwatch.company_look, pushwatch.transition,
    pushwatch.operation, pushwatch.company, pushwatch.instance;
