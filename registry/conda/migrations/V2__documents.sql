-- What channeldata.json says of a package beyond its record: JSON, from about.json, the recipe and paths.json. Null where the
-- package came before it was read: about.json has some of it.
alter table conda_package
    add column facts text,
    -- What patch instructions make of the record and of what it exports; null where they say nothing.
    add column patched text,
    add column patched_run_exports text,
    -- Whether patch instructions take it out of the index.
    add column patched_out boolean not null default false,
    -- Whether it is of the newest version of its name in its subdir; null where nobody has looked.
    add column newest boolean;
create index conda_package_newest on conda_package (channel_id, subdir, name) where newest is not false;

-- What the patch instructions in force say of a file, whether or not it is there: JSON.
create table conda_patch (
    channel_id bigint not null references channel on delete cascade,
    subdir text collate "C" not null,
    filename text collate "C" not null,
    patch text not null,
    primary key (channel_id, subdir, filename)
);

-- The patch_instructions.json of a package that holds them, compressed by zstd.
create table conda_patch_instructions (
    package_id bigint not null references conda_package on delete cascade,
    subdir text collate "C" not null,
    instructions bytea not null,
    primary key (package_id, subdir)
);
alter table conda_patch_instructions alter column instructions set storage external;

-- What channeldata.json says of a name, of all its packages in all subdirs.
create table conda_channeldata (
    channel_id bigint not null references channel on delete cascade,
    name text collate "C" not null,
    -- Raised with every change of a package of the name.
    generation bigint not null default 1,
    -- JSON, made when somebody asks; null from a change until then, and empty where the name has no packages left.
    record text,
    -- When its newest package was built, in seconds since 1970.
    newest bigint,
    primary key (channel_id, name)
);
create index conda_channeldata_newest on conda_channeldata (channel_id, newest desc, name) where record <> '';
create index conda_channeldata_unset on conda_channeldata (channel_id) where record is null;
insert into conda_channeldata (channel_id, name) select distinct channel_id, name from conda_package;
