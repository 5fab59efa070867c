-- Who the account is at its source: the `sub` of an identity provider, GitHub's number. Null where the source knows
-- people by their names.
alter table account add column subject text;
create unique index account_by_subject on account (source, subject) where subject is not null;

-- Logins that began at an identity provider and have not come back yet.
create table login (
    -- Of the `state`, which only the browser's address bar and the provider hold.
    state bytea primary key check (length(state) = 32),
    -- The provider's name in the registry's configuration.
    provider text not null,
    -- Of the cookie of the browser in which it began.
    browser bytea not null check (length(browser) = 32),
    nonce text not null,
    -- The code verifier of PKCE, worth nothing without the code.
    verifier text not null,
    redirect_uri text not null,
    -- The page to go on with: a path of ours.
    next text not null,
    expires_at timestamptz not null
);
create index login_by_end on login (expires_at);

-- Terminals that wait for somebody to say in a browser that they may have a token (RFC 8628).
create table device (
    -- Of the device code, which only the terminal holds.
    code bytea primary key check (length(code) = 32),
    -- What the person types, without the dash.
    user_code text not null unique,
    label text not null,
    -- granary_core::TokenScope as JSON; null for all that the account may.
    scope jsonb,
    -- How long the token lives.
    lifetime_seconds bigint not null,
    -- Where the terminal is, and its network, by which those that wait are counted.
    address text,
    network text not null,
    requested_at timestamptz not null,
    expires_at timestamptz not null,
    -- How long the terminal has to wait between two questions, and when it asked last.
    interval_seconds integer not null,
    asked_at timestamptz,
    -- The answer: who allowed it, or that somebody refused.
    account text references account on delete cascade,
    refused boolean not null default false
);
create index device_by_end on device (expires_at);
create index device_by_network on device (network);
