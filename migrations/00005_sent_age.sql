-- +goose Up
-- The order in which an audit of the stream walks what was published.
create index sent_age on pushwatch.sent (published_at, stream_sequence);

-- +goose Down
drop index pushwatch.sent_age;
