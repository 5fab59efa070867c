-- What was fetched for a proxy channel, by the path under which the channel serves it.
create table upstream_file (
    channel_id bigint not null references channel on delete cascade,
    path text collate "C" not null,
    -- Where it came from: what is kept of another URL is asked for without conditions.
    url text not null,
    etag text,
    last_modified text,
    fetched_at timestamptz not null,
    -- What the protocol noted of the bytes when they came.
    facts jsonb not null,
    blob_id bigint not null references blob,
    primary key (channel_id, path)
);
create index upstream_file_by_blob on upstream_file (blob_id);
