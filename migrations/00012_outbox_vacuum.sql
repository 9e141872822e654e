-- +goose Up
-- Every event leaves a dead row of its size behind. Vacuum must not pause on the way, or
-- under full traffic the outbox grows to gigabytes.
alter table pushwatch.outbox set (autovacuum_vacuum_cost_delay = 0);

-- +goose Down
alter table pushwatch.outbox reset (autovacuum_vacuum_cost_delay);
