-- A yanked package can be downloaded still, but no index offers it: it stands among what is removed, as one does that patch
-- instructions take out.
alter table conda_package
    add column yanked_at timestamptz,
    add column yanked_by text,
    -- In which list of repodata.json it stands: 0 `packages`, 1 `packages.conda`, 2 `removed`.
    add column section smallint not null generated always as (
        case when yanked_at is not null or patched_out then 2 when filename like '%.conda' then 1 else 0 end
    ) stored;
create index conda_package_by_section on conda_package (channel_id, subdir, section, name);
