-- Tokens of workloads that were exchanged: each counts once, on all pods together.
create table used_jti (
    -- The issuer's name in the registry's configuration.
    issuer text not null,
    jti text not null,
    -- The token's own end.
    expires_at timestamptz not null,
    primary key (issuer, jti)
);
create index used_jti_by_end on used_jti (expires_at);

-- A token belongs to an account, or to the workload that it was made for (granary_core::Workload as JSON).
alter table token alter column account drop not null;
alter table token add column workload jsonb;
alter table token add constraint token_owner check ((account is null) <> (workload is null));

-- Who knows the account's password: local, or the name of an authenticator in the registry's configuration.
alter table account add column source text not null default 'local';

-- The token that made it: when that one goes, so does this.
alter table token add column parent text references token on delete cascade;
create index token_by_parent on token (parent) where parent is not null;
