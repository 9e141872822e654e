-- +goose Up
-- What is published leaves the outbox by its place, which is one number, beside each
-- other in the index for events of one batch; by company, key and version it was three
-- texts compared at places all over it. The order of service is the same index.
create unique index outbox_place on pushwatch.outbox (id);
drop index pushwatch.outbox_age;

-- +goose Down
create index outbox_age on pushwatch.outbox (id) where rejected_class is null;
drop index pushwatch.outbox_place;
