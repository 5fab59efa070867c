-- The commands that a package brings (conda-suggest).
alter table conda_package add column commands text[] not null default '{}';
create index conda_package_with_commands on conda_package (channel_id, subdir, name) where commands <> '{}';

-- Content trust: every version of the documents that say who may sign what.
create table conda_trust_role (
    channel_id bigint not null references channel on delete cascade,
    role text not null check (role in ('root', 'key_mgr', 'pkg_mgr')),
    version bigint not null check (version > 0),
    -- As it was uploaded, byte by byte.
    document text not null,
    expires_at timestamptz not null,
    uploaded_by text not null,
    uploaded_at timestamptz not null,
    primary key (channel_id, role, version)
);

-- The keys that packages are signed with.
create table conda_trust_key (
    channel_id bigint not null references channel on delete cascade,
    public_key bytea not null check (length(public_key) = 32),
    -- The private key, encrypted with a key of the registry's configuration.
    sealed bytea not null,
    made_by text not null,
    made_at timestamptz not null,
    primary key (channel_id, public_key)
);

-- Terms of service: the last ones count.
create table conda_terms (
    id uuid primary key default gen_random_uuid(),
    number bigint generated always as identity unique,
    uploaded_by text not null,
    uploaded_at timestamptz not null
);
create table conda_terms_file (
    terms_id uuid not null references conda_terms on delete cascade,
    position integer not null,
    language text not null,
    filename text not null,
    content text not null,
    primary key (terms_id, position)
);
create table conda_terms_signature (
    terms_id uuid not null references conda_terms on delete cascade,
    -- The account, or a workload's issuer and subject.
    signer text not null,
    signed_at timestamptz not null,
    primary key (terms_id, signer)
);
