-- Names are compared byte by byte, as the index documents are cut and sorted.
create table pypi_project (
    id bigint generated always as identity primary key,
    channel_id bigint not null references channel on delete cascade,
    normalized text collate "C" not null,
    -- As the first upload wrote it.
    name text not null,
    -- Raised by each change: the `last_serial` of the JSON pages.
    serial bigint not null default 0,
    created_at timestamptz not null default now(),
    unique (channel_id, normalized)
);

create table pypi_release (
    id bigint generated always as identity primary key,
    project_id bigint not null references pypi_project on delete cascade,
    -- As the first upload wrote it, in canonical form (PEP 440).
    version text not null,
    -- Equal where versions are: `1.0` and `1.0.0` are one release.
    version_key text collate "C" not null,
    -- Of the latest upload, as the JSON pages show it.
    metadata jsonb not null,
    created_at timestamptz not null default now(),
    unique (project_id, version_key)
);

create table pypi_file (
    id bigint generated always as identity primary key,
    channel_id bigint not null references channel on delete cascade,
    project_id bigint not null references pypi_project on delete cascade,
    release_id bigint not null references pypi_release on delete cascade,
    filename text collate "C" not null,
    -- Equal where installers would take two files for the same, however their names are spelled.
    file_key text collate "C" not null,
    package_type text not null,
    python_tag text not null,
    -- A blob that a file refers to cannot be removed.
    blob_id bigint not null references blob,
    requires_python text,
    -- Null: not yanked. Empty: yanked without a reason (PEP 592).
    yanked text,
    -- The core metadata, byte by byte (PEP 658), and its digest.
    metadata bytea,
    metadata_sha256 bytea,
    -- As uploaded (PEP 740): a list of attestations.
    attestations jsonb,
    comment text not null default '',
    uploaded_by text not null,
    uploaded_at timestamptz not null,
    unique (channel_id, filename),
    unique (channel_id, file_key)
);
create index pypi_file_by_project on pypi_file (project_id, filename);
create index pypi_file_by_blob on pypi_file (blob_id);
create index pypi_file_by_release on pypi_file (release_id);

-- Files that were deleted: they never come back with other bytes.
create table pypi_deleted_file (
    channel_id bigint not null references channel on delete cascade,
    file_key text collate "C" not null,
    sha256 bytea not null,
    deleted_at timestamptz not null default now(),
    primary key (channel_id, file_key)
);
