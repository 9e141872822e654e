-- +goose Up
-- Start of the newest look since a dispute arose that could not decide it: an older one
-- does not decide it either.
alter table pushwatch.operation add column undecided_at timestamptz;

-- +goose Down
alter table pushwatch.operation drop column undecided_at;
