-- +goose Up
-- Events that wait to be published. Small and hot: inserted with the transition,
-- deleted when the stream has them. Read by state, never by "id greater than the
-- last": a lower id may commit later.
create table pushwatch.outbox (
    company_id         text collate "C" not null,
    push_operation_key text collate "C" not null,
    version            bigint not null constraint outbox_version_counts_from_one check (version > 0),
    bucket             smallint not null constraint outbox_bucket_is_of_64 check (bucket between 0 and 63),
    id                 bigint generated always as identity, -- age, for the order of service alone
    event_id           text not null,
    previous_event_id  text,
    subject            text not null,
    filter             text not null,
    header             jsonb not null,
    payload            bytea not null, -- rendered in the transaction of the change, never again
    created_at         timestamptz not null,
    rejected_class     text, -- set: can never be published; later versions of the operation wait behind it
    rejected_detail    text,
    rejected_at        timestamptz,
    primary key (company_id, push_operation_key, version)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
create index outbox_due on pushwatch.outbox (bucket, id) where rejected_class is null;

-- Streams that events went to: name and creation time, so that a recreated one
-- is another.
create table pushwatch.stream (
    stream_id smallint generated always as identity primary key,
    epoch     text not null unique
);

-- Where each version is in the stream; lives as long as the transition.
create table pushwatch.publication (
    company_id         text collate "C" not null,
    push_operation_key text collate "C" not null,
    version            bigint not null,
    stream_id          smallint not null,
    stream_sequence    bigint not null constraint publication_has_a_sequence check (stream_sequence > 0),
    published_at       timestamptz not null,
    primary key (company_id, push_operation_key, version)
);

-- Published events with their payload, for healing the stream, until the audit
-- horizon. Partitions of a day are dropped whole.
create table pushwatch.sent (
    published_at       timestamptz not null,
    stream_id          smallint not null,
    stream_sequence    bigint not null,
    company_id         text collate "C" not null,
    push_operation_key text collate "C" not null,
    version            bigint not null,
    bucket             smallint not null,
    event_id           text not null,
    previous_event_id  text,
    subject            text not null,
    filter             text not null,
    header             jsonb not null,
    payload            bytea not null,
    created_at         timestamptz not null
) partition by range (published_at);
create index sent_operation on pushwatch.sent (company_id, push_operation_key, version);
-- Takes what comes when the day's own partition is missing, so that a forgotten
-- maintenance never stops the relay.
create table pushwatch.sent_default partition of pushwatch.sent default;

-- +goose Down
drop table pushwatch.sent, pushwatch.publication, pushwatch.stream, pushwatch.outbox;
