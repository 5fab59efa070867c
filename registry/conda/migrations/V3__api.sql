-- Packages that somebody announced through the API before they have a file.
create table conda_announced (
    channel_id bigint not null references channel on delete cascade,
    name text collate "C" not null,
    summary text,
    description text,
    announced_by text not null,
    announced_at timestamptz not null,
    primary key (channel_id, name)
);

-- What was asked for through the API, and what became of it. Most of it is done at once.
create table conda_job (
    id bigint generated always as identity primary key,
    channel_id bigint references channel on delete cascade,
    owner text not null,
    manifest text not null,
    items_spec text,
    start_at timestamptz,
    repeat_every_seconds bigint,
    status text not null check (status in ('pending', 'queued', 'running', 'success', 'failed', 'timeout', 'cancelled')),
    created_at timestamptz not null
);
create index conda_job_by_status on conda_job (status, id);

-- A package's files in all subdirs.
create index conda_package_by_package on conda_package (channel_id, name);
