-- +goose Up
-- What was published on a day without a partition lies in the default, which holds up
-- the day's own: a partition may not be made while rows of it lie elsewhere. So they
-- move, and those of other days with them. Nobody waits long behind a long query, such
-- as a dump, that holds the table: lock_timeout ends the wait, and the next hour tries
-- again. The locks are taken in one order, the parent before its parts, as dropping
-- does; publishing waits for the default's alone, which is held for as long as the
-- few rows take. If we crash here, nothing has happened.
-- +goose StatementBegin
create or replace function pushwatch.add_sent_day(day date) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp set lock_timeout = '1s'
as $$
declare
    missing date;
    name text;
begin
    lock table only pushwatch.sent in share update exclusive mode;
    lock table pushwatch.sent_default in access exclusive mode;
    foreach missing in array array(
        select day union select (d.published_at at time zone 'UTC')::date from pushwatch.sent_default d)
    loop
        name := 'sent_' || to_char(missing, 'YYYYMMDD');
        continue when to_regclass(format('pushwatch.%I', name)) is not null;
        execute format('create table pushwatch.%I (like pushwatch.sent including all)', name);
        execute format('with moved as (
                delete from pushwatch.sent_default where published_at >= %L and published_at < %L
                returning published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
                    previous_event_id, subject, filter, header, payload, created_at
            )
            insert into pushwatch.%I (published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket,
                event_id, previous_event_id, subject, filter, header, payload, created_at)
            select published_at, stream_id, stream_sequence, company_id, push_operation_key, version, bucket, event_id,
                previous_event_id, subject, filter, header, payload, created_at from moved',
            missing || ' 00:00:00+00', missing + 1 || ' 00:00:00+00', name);
        execute format('alter table pushwatch.sent attach partition pushwatch.%I for values from (%L) to (%L)',
            name, missing || ' 00:00:00+00', missing + 1 || ' 00:00:00+00');
    end loop;
end
$$;
-- +goose StatementEnd
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
