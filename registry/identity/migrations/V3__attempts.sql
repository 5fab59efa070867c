-- Wrong credentials of the last minutes, counted by all pods together.
create table failed_login (
    -- The digest of an address, or of a user name with an address: people type passwords into the field of the name.
    counted bytea primary key check (length(counted) = 32),
    -- When the counting began, plus the span of time that it lasts.
    ends_at timestamptz not null,
    -- How many more are borne until then.
    remaining integer not null check (remaining >= 0)
) with (fillfactor = 50);
create index failed_login_by_end on failed_login (ends_at);
