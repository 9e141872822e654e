-- +goose Up
-- Where an earlier database published to the stream, operations without a version
-- of their own are compared with it once. The index holds those that were not yet,
-- so that it is the progress of that walk, and rows that come later are in it too.
alter table pushwatch.operation add column compared boolean not null default false;
create index operation_uncompared on pushwatch.operation (company_id, push_operation_key)
    where versions = 0 and not compared;

-- +goose Down
drop index pushwatch.operation_uncompared;
alter table pushwatch.operation drop column compared;
