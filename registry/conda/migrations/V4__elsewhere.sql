-- Index documents that were made of those of other registries or other channels: with less in them, or leading nowhere else.
create table conda_derived (
    channel_id bigint not null references channel on delete cascade,
    -- Below the channel.
    path text collate "C" not null,
    -- Of the rules by which it was made: what is left out.
    class text collate "C" not null,
    -- Of the bytes that it was made of.
    source text not null,
    made_at timestamptz not null,
    blob_id bigint not null references blob,
    primary key (channel_id, path, class)
);
create index conda_derived_by_blob on conda_derived (blob_id);

-- How the last synchronisation of a mirror went, or how far the present one is.
create table conda_mirror (
    channel_id bigint primary key references channel on delete cascade,
    -- listing: what there is, is being found out. fetching: what is missing, is being fetched.
    state text not null check (state in ('listing', 'fetching', 'done', 'failed')),
    started_at timestamptz not null,
    ended_at timestamptz,
    -- Packages: wanted, of these fetched and failed since the start, and removed.
    wanted bigint not null default 0,
    fetched bigint not null default 0,
    fetched_bytes bigint not null default 0,
    failed bigint not null default 0,
    removed bigint not null default 0,
    error text
);

-- What a mirror wants: the list of one synchronisation, which the next one replaces.
create table conda_mirror_file (
    channel_id bigint not null references channel on delete cascade,
    subdir text collate "C" not null,
    filename text collate "C" not null,
    url text not null,
    sha256 bytea check (length(sha256) = 32),
    size bigint,
    -- Which synchronisation listed it last, by its start.
    listed_at timestamptz not null,
    -- Why it could not be fetched, in the present synchronisation.
    error text,
    primary key (channel_id, subdir, filename)
);
