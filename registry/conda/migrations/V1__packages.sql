-- Names are compared byte by byte, as the index documents are cut and sorted.
create table conda_package (
    id bigint generated always as identity primary key,
    channel_id bigint not null references channel on delete cascade,
    subdir text collate "C" not null,
    name text collate "C" not null,
    filename text collate "C" not null,
    version text not null,
    build text not null,
    build_number bigint not null,
    -- What an index says of it: JSON with the fields in the order of their names.
    record text not null,
    -- info/run_exports.json (CEP 12), and info/about.json, where the package has them. Text, for what people write in them need
    -- not be what the type for JSON takes: U+0000.
    run_exports text not null default '{}',
    about text,
    -- A blob that a package refers to cannot be removed.
    blob_id bigint not null references blob,
    uploaded_by text not null,
    uploaded_at timestamptz not null,
    unique (channel_id, subdir, filename)
);
create index conda_package_by_name on conda_package (channel_id, subdir, name);
create index conda_package_by_blob on conda_package (blob_id);

-- The shard (CEP 16) that holds all packages of a name in a subdir. Locked by whoever changes one of them.
create table conda_name (
    channel_id bigint not null references channel on delete cascade,
    subdir text collate "C" not null,
    name text collate "C" not null,
    -- Null while it is being made.
    shard bytea check (length(shard) = 32),
    changed_at timestamptz not null,
    primary key (channel_id, subdir, name)
);

-- Shards, the present ones and those of before: whoever has an older index still finds what it lists.
create table conda_shard (
    channel_id bigint not null references channel on delete cascade,
    sha256 bytea not null check (length(sha256) = 32),
    subdir text collate "C" not null,
    name text collate "C" not null,
    bytes bytea not null,
    -- When another one took its place; null while it is listed.
    replaced_at timestamptz,
    primary key (channel_id, subdir, sha256)
);
alter table conda_shard alter column bytes set storage external;
create index conda_shard_replaced on conda_shard (replaced_at) where replaced_at is not null;
