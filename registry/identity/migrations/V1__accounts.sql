create table account (
    name text primary key,
    -- Argon2id in PHC form; null for an account that logs in by tokens only.
    password_hash text,
    admin boolean not null default false,
    disabled boolean not null default false,
    groups text[] not null default '{}',
    created_at timestamptz not null default now()
);

create table token (
    -- The public part of the token, which may stand in logs.
    id text primary key,
    account text not null references account on delete cascade,
    -- api: made for machines. session: a browser's cookie.
    kind text not null check (kind in ('api', 'session')),
    -- Of the whole token, of which only this hash is kept.
    sha256 bytea not null check (length(sha256) = 32),
    label text not null default '',
    -- granary_core::TokenScope as JSON; null for all that the account may.
    scope jsonb,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    last_used_at timestamptz
);
create index token_by_account on token (account);
