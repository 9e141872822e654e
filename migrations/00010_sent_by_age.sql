-- +goose Up
-- Every published event paid for this index, and few are ever asked for by their
-- operation: the publication tells when and where each is, which sent_age finds.
drop index pushwatch.sent_operation;

-- +goose Down
create index sent_operation on pushwatch.sent (company_id, push_operation_key, version);
