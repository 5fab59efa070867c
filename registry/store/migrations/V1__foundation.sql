-- Tables that every protocol shares. The migration runs with the registry's schema as its search path.

-- One row: which registry this schema belongs to. Buckets name it as their owner.
create table registry (
    singleton boolean primary key default true check (singleton),
    id uuid not null default gen_random_uuid()
);
insert into registry default values;

create table channel (
    id bigint generated always as identity primary key,
    format text not null,
    name text not null,
    bucket text not null,
    -- granary_crds::ChannelSettings as JSON.
    settings jsonb not null,
    -- Who may change the channel: a resource (Git) or an API.
    origin text not null check (origin in ('resource', 'api')),
    -- The resource that made it: its name, behind its namespace where it has one.
    object text,
    -- pending: waits for its bucket. retired: its resource is gone, bucket and rows are kept.
    state text not null check (state in ('pending', 'active', 'retired')),
    -- What happens when the resource is deleted.
    deletion_policy text not null default 'Retain' check (deletion_policy in ('Retain', 'Delete')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    unique (format, name)
);

create table channel_grant (
    channel_id bigint not null references channel on delete cascade,
    source text not null check (source in ('resource', 'api')),
    position integer not null,
    -- granary_core::Grant as JSON.
    body jsonb not null,
    primary key (channel_id, source, position)
);

-- A scope's revision is the sum of its slots. Scope 0 is the registry itself (accounts, tokens, channels);
-- the others are channel ids. Sixteen slots let sixteen publishes commit at the same moment.
create table revision_slot (
    scope bigint not null,
    slot smallint not null check (slot between 0 and 15),
    n bigint not null,
    -- Drawn anew with each step: a database that lost its last steps and took others is told from one that did not.
    mark bigint not null default 0,
    primary key (scope, slot)
) with (fillfactor = 20);
insert into revision_slot (scope, slot, n) select 0, slot, 0 from generate_series(0, 15) as slot;

-- Which document the n-th step of a slot touched; kept for a day, so that pods drop only what changed.
create table change (
    scope bigint not null,
    slot smallint not null,
    n bigint not null,
    mark bigint not null,
    document text not null,
    changed_at timestamptz not null default now(),
    primary key (scope, slot, n)
);
create index change_by_time on change using brin (changed_at);

-- Bytes in a bucket. A key is never used a second time, so removing an object can never hit a newer one.
create table blob (
    id bigint generated always as identity primary key,
    channel_id bigint not null references channel on delete cascade,
    sha256 bytea not null check (length(sha256) = 32),
    md5 bytea not null check (length(md5) = 16),
    blake2b256 bytea not null check (length(blake2b256) = 32),
    size bigint not null check (size >= 0),
    object_key text not null,
    refs integer not null default 0 check (refs >= 0),
    created_at timestamptz not null default now(),
    dereferenced_at timestamptz,
    scrubbed_at timestamptz,
    -- Set by the scrubber when the stored bytes are not the recorded ones.
    damage text,
    unique (channel_id, sha256),
    unique (channel_id, object_key)
);
create index blob_unreferenced on blob (dereferenced_at) where refs = 0;
create index blob_by_scrub on blob (scrubbed_at nulls first);

-- Objects whose row is gone: the collector removes them and then the row here.
create table doomed_object (
    bucket text not null,
    object_key text not null,
    doomed_at timestamptz not null default now(),
    primary key (bucket, object_key)
);

create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    credential text not null,
    address text,
    action text not null,
    channel text,
    package text,
    detail jsonb not null default '{}',
    outcome text not null,
    request_id text
);
create index audit_by_time on audit (at);

create table job (
    id bigint generated always as identity primary key,
    kind text not null,
    -- At most one waiting or running job for a key; null for jobs that may stand side by side.
    dedup_key text,
    payload jsonb not null default '{}',
    state text not null default 'queued' check (state in ('queued', 'running', 'dead')),
    run_at timestamptz not null default now(),
    attempts integer not null default 0,
    max_attempts integer not null default 10,
    locked_until timestamptz,
    last_error text,
    created_at timestamptz not null default now()
);
create unique index job_dedup on job (dedup_key) where state <> 'dead';
create index job_ready on job (run_at) where state <> 'dead';

-- Uploads and downloads a file and day, added up by the pods every few seconds.
create table usage_day (
    channel_id bigint not null references channel on delete cascade,
    package text not null,
    file text not null,
    day date not null,
    downloads bigint not null default 0,
    uploads bigint not null default 0,
    primary key (channel_id, package, file, day)
);

