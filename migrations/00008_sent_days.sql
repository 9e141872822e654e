-- +goose Up
-- The days of pushwatch.sent are made and dropped through these functions, with
-- the rights of the schema's owner: so the daemon's role needs none to make or drop
-- anything by itself. The names are made of a date's digits alone.
-- +goose StatementBegin
create function pushwatch.add_sent_day(day date) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    execute format('create table if not exists pushwatch.%I partition of pushwatch.sent for values from (%L) to (%L)',
        'sent_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
end
$$;
-- +goose StatementEnd

-- A day goes only when the ten thousand newest events lie behind it, whoever asks:
-- they are what the stream's tail is healed from.
-- +goose StatementBegin
create function pushwatch.drop_sent_day(day date) returns void
    language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    newer bigint;
begin
    select count(*) into newer
    from (select from pushwatch.sent where published_at >= (day + 1)::timestamp at time zone 'UTC' limit 10000) as kept;
    if newer >= 10000 then
        execute format('drop table if exists pushwatch.%I', 'sent_' || to_char(day, 'YYYYMMDD'));
    end if;
end
$$;
-- +goose StatementEnd
revoke all on function pushwatch.add_sent_day(date), pushwatch.drop_sent_day(date) from public;

-- +goose Down
drop function pushwatch.add_sent_day(date), pushwatch.drop_sent_day(date);
