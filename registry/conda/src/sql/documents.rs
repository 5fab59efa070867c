//! The statements of the index documents beside `repodata.json`.

granary_store::statements! {
    pub(crate) struct DocumentStatements {
        run_exports = "select name, filename, coalesce(patched_run_exports, run_exports) from @conda_package \
                       where channel_id = $1 and subdir = $2 and section = $3 and name >= $4 and ($5::text is null or name < $5) \
                       order by name, filename";
        // By the section that it would have if there were no patch instructions.
        from_packages = "select name, filename, record from @conda_package \
                         where channel_id = $1 and subdir = $2 \
                         and case when yanked_at is not null then 2 when filename like '%.conda' then 1 else 0 end = $3::smallint and name >= $4 and ($5::text is null or name < $5) \
                         order by name, filename";

        // Those of the newest version of each name, and those that nobody has looked at.
        newest_packages = "select name, filename, coalesce(patched, record) from @conda_package \
                           where channel_id = $1 and subdir = $2 and newest is not false and section <> 2";
        removed_files = "select name, filename from @conda_package \
                         where channel_id = $1 and subdir = $2 and section = 2 order by name, filename";
        packages_of_names = "select name, filename, coalesce(patched, record) from @conda_package \
                             where channel_id = $1 and subdir = $2 and name = any($3) and section <> 2";

        // Any number of those who add packages, or one who changes patches. The schema is part of the key.
        patches_stay = "select pg_advisory_xact_lock_shared(hashtextextended('granary @conda_patch ' || $1::bigint::text, 0))";
        patches_change = "select pg_advisory_xact_lock(hashtextextended('granary @conda_patch ' || $1::bigint::text, 0))";
        patch_of_file = "select patch from @conda_patch where channel_id = $1 and subdir = $2 and filename = $3";
        patches = "select subdir, filename, patch from @conda_patch where channel_id = $1";
        delete_patches = "delete from @conda_patch where channel_id = $1 and subdir = $2 and filename = any($3)";
        insert_patches = "insert into @conda_patch (channel_id, subdir, filename, patch) \
                          select $1, $2, p.filename, p.patch from unnest($3::text[], $4::text[]) as p (filename, patch) \
                          where p.patch is not null";
        insert_instructions = "insert into @conda_patch_instructions (package_id, subdir, instructions) \
                               select id, $4, $5 from @conda_package where channel_id = $1 and subdir = $2 and filename = $3";
        instructions = "select subdir, instructions from @conda_patch_instructions where package_id = $1";
        patch_packages = "select id, filename, build_number from @conda_package \
                          where channel_id = $1 and subdir = 'noarch' and name = $2 and yanked_at is null";
        names_of_files = "select distinct name from @conda_package \
                          where channel_id = $1 and subdir = $2 and filename = any($3) order by name";
        records_of_name = "select id, filename, record, run_exports, patched, patched_run_exports, patched_out from @conda_package \
                           where channel_id = $1 and subdir = $2 and name = $3";
        set_patched = "update @conda_package set patched = $2, patched_run_exports = $3, patched_out = $4 where id = $1";

        names_from_packages = "select distinct name from @conda_package \
                               where channel_id = $1 and subdir = $2 \
                               and case when yanked_at is not null then 2 when filename like '%.conda' then 1 else 0 end = $3::smallint \
                               and name >= $4 and ($5::text is null or name < $5) order by name";
        channeldata_names = "select name from @conda_channeldata \
                             where channel_id = $1 and name >= $2 and ($3::text is null or name < $3) order by name";

        // For pages.
        channeldata_after = "select name, generation, record from @conda_channeldata \
                             where channel_id = $1 and name > $2 order by name limit $3";
        files_after = "select p.filename, p.name, b.size, p.uploaded_at from @conda_package p join @blob b on b.id = p.blob_id \
                       where p.channel_id = $1 and p.subdir = $2 and p.section <> 2 and p.filename > $3 order by p.filename limit $4";

        // Who publishes waits here for others of the same name.
        name_changed = "insert into @conda_channeldata as c (channel_id, name) values ($1, $2) \
                        on conflict (channel_id, name) do update set generation = c.generation + 1, record = null, newest = null";
        channeldata = "select name, generation, record from @conda_channeldata \
                       where channel_id = $1 and name >= $2 and ($3::text is null or name < $3) order by name";
        unset_channeldata = "select name, generation from @conda_channeldata where channel_id = $1 and record is null limit $2";
        channeldata_items = "select name, subdir, filename, coalesce(patched, record), facts, coalesce(patched_run_exports, run_exports), \
                                 case when facts is null then about end \
                             from @conda_package where channel_id = $1 and name = any($2) and section <> 2 order by name";
        // Not where the name has changed since its packages were read.
        set_channeldata = "update @conda_channeldata c set record = s.record, newest = s.newest \
                           from unnest($2::text[], $3::bigint[], $4::text[], $5::bigint[]) as s (name, generation, record, newest) \
                           where c.channel_id = $1 and c.name = s.name and c.generation = s.generation";
        newest_names = "select name, record, newest from @conda_channeldata \
                        where channel_id = $1 and record <> '' and (newest < $2 or (newest = $2 and name > $3)) \
                        order by newest desc, name limit $4";

        // From each subdir to the next, without looking at the names in between.
        subdirs = "with recursive listed as ( \
                       (select subdir from @conda_name where channel_id = $1 and shard is not null order by subdir limit 1) \
                       union all \
                       select (select n.subdir from @conda_name n where n.channel_id = $1 and n.subdir > listed.subdir \
                               and n.shard is not null order by n.subdir limit 1) from listed where listed.subdir is not null) \
                   select subdir from listed where subdir is not null";
        names_of_subdir = "select name from @conda_name \
                           where channel_id = $1 and subdir = $2 and shard is not null and name > $3 order by name limit $4";
    }
}
