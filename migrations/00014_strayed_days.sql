-- +goose Up
-- What was published on a day without a partition lies in the default, which holds up
-- the day's own: a partition may not be made while rows of it lie elsewhere. So they
-- move, and those of other days with them, as far as that takes a second or two. A day
-- with more of them stays in the default, where everything finds it too.
--
-- The parent is locked first and against everybody, as making a partition always does:
-- a statement that has looked for its partitions already would go past the new one.
-- Nobody waits long behind a long query that holds the table, such as a dump:
-- lock_timeout ends the wait, and the next hour tries again. If we crash here, nothing
-- has happened.
-- +goose StatementBegin
create or replace function pushwatch.add_sent_day(day date) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    most constant integer := 20000;
    missing date;
    name text;
    since timestamptz;
    till timestamptz;
    strayed bigint;
begin
    lock table only pushwatch.sent in access exclusive mode;
    foreach missing in array array(
        select day union select (d.published_at at time zone 'UTC')::date from pushwatch.sent_default d)
    loop
        name := 'sent_' || to_char(missing, 'YYYYMMDD');
        since := missing::timestamp at time zone 'UTC';
        till := (missing + 1)::timestamp at time zone 'UTC';
        continue when to_regclass(format('pushwatch.%I', name)) is not null;
        select count(*) into strayed
        from (select from pushwatch.sent_default where published_at >= since and published_at < till limit most + 1) as there;
        continue when strayed > most;
        execute format('create table pushwatch.%I (like pushwatch.sent including all)', name);
        execute format('with moved as (
                delete from pushwatch.sent_default where published_at >= $1 and published_at < $2
                returning published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
                    previous_event_id, subject, filter, header, payload, created_at
            )
            insert into pushwatch.%I (published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket,
                event_id, previous_event_id, subject, filter, header, payload, created_at)
            select published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
                previous_event_id, subject, filter, header, payload, created_at from moved', name) using since, till;
        execute format('alter table pushwatch.sent attach partition pushwatch.%I for values from (%L) to (%L)',
            name, missing || ' 00:00:00+00', missing + 1 || ' 00:00:00+00');
    end loop;
end
$$;
-- +goose StatementEnd

-- Two that drop days may wait for each other: one ends, and goes on in the next hour.
alter function pushwatch.drop_sent_day(date) set lock_timeout = '1s';

-- +goose Down
alter function pushwatch.drop_sent_day(date) reset lock_timeout;
-- +goose StatementBegin
create or replace function pushwatch.add_sent_day(day date) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create table if not exists pushwatch.%I partition of pushwatch.sent for values from (%L) to (%L)',
        'sent_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
end
$$;
-- +goose StatementEnd
