-- +goose Up
-- Who may work on a company or relay a bucket. The token grows at every change of
-- holder; a write under an older token is refused.
create table pushwatch.lease (
    name       text collate "C" primary key,
    holder     text collate "C", -- null when given back
    token      bigint not null default 0,
    expires_at timestamptz not null
);

create table pushwatch.quota_day (
    day           date primary key,
    request_limit bigint, -- as last answered on that day
    remaining     bigint,
    used          bigint not null default 0 constraint quota_used_counts_from_zero check (used >= 0),
    used_walks    bigint not null default 0
);

-- One row: the gate before every request of every replica.
create table pushwatch.quota_gate (
    singleton     boolean primary key default true constraint quota_gate_is_one_row check (singleton),
    next_slot     timestamptz not null default 'epoch',
    blocked_until timestamptz,
    blocked_by    text
);
insert into pushwatch.quota_gate default values;

-- +goose Down
drop table pushwatch.quota_gate, pushwatch.quota_day, pushwatch.lease;
