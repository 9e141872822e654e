-- +goose Up
-- A relay reads the oldest events of its buckets, and mostly has all buckets. By
-- bucket and age it had to read and sort all that waits for every batch; by age alone
-- it reads one batch. Whoever has few buckets passes over the others' events, which
-- their own relays take away.
create index outbox_age on pushwatch.outbox (id) where rejected_class is null;
drop index pushwatch.outbox_due;

-- +goose Down
create index outbox_due on pushwatch.outbox (bucket, id) where rejected_class is null;
drop index pushwatch.outbox_age;
