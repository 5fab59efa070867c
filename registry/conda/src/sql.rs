//! Every statement of the conda tables.

/// What is in a channel: names, files, their bytes, the newest upload.
pub(crate) const COUNT: &str = "select count(distinct p.name) as packages, count(*) as files, \
                                    coalesce(sum(b.size), 0)::bigint as bytes, max(p.uploaded_at) as last_publish \
                                from @conda_package p join @blob b on b.id = p.blob_id where p.channel_id = $1";

granary_store::statements! {
    pub(crate) struct Statements {
        // Locks the name, so that concurrent uploads to one shard queue here.
        lock_name = "insert into @conda_name as n (channel_id, subdir, name, changed_at) values ($1, $2, $3, $4) \
                     on conflict (channel_id, subdir, name) do update set changed_at = greatest(n.changed_at, excluded.changed_at) \
                     returning shard";
        // The file that an upload would stand in the place of.
        standing = "select p.id, p.blob_id, b.sha256, p.yanked_at is not null from @conda_package p join @blob b on b.id = p.blob_id \
                    where p.channel_id = $1 and p.subdir = $2 and p.filename = $3";
        insert_package = "insert into @conda_package (channel_id, subdir, name, filename, version, build, build_number, record, \
                              run_exports, about, blob_id, uploaded_by, uploaded_at) \
                          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing";
        delete_package = "delete from @conda_package where id = $1";
        records_of_name = "select filename, record, run_exports, section from @conda_package \
                           where channel_id = $1 and subdir = $2 and name = $3";
        set_shard = "update @conda_name set shard = $4 where channel_id = $1 and subdir = $2 and name = $3";
        insert_shard = "insert into @conda_shard (channel_id, sha256, subdir, name, bytes) values ($1, $2, $3, $4, $5) \
                        on conflict (channel_id, subdir, sha256) do update set replaced_at = null";
        set_yanked = "update @conda_package set yanked_at = $2, yanked_by = $3 where id = $1";
        replace_shard = "update @conda_shard set replaced_at = $4 where channel_id = $1 and subdir = $2 and sha256 = $3";

        records = "select name, filename, record from @conda_package \
                   where channel_id = $1 and subdir = $2 and section = $3 and name >= $4 and ($5::text is null or name < $5) \
                   order by name, filename";
        names = "select distinct name from @conda_package \
                 where channel_id = $1 and subdir = $2 and section = $3 and name >= $4 and ($5::text is null or name < $5) \
                 order by name";
        shards = "select name, shard, changed_at from @conda_name \
                  where channel_id = $1 and subdir = $2 order by name";
        shards_of = "select name, shard, changed_at from @conda_name \
                     where channel_id = $1 and subdir = $2 and name = any($3)";
        // So many at once that the statement stays short.
        prune_shards = "delete from @conda_shard where ctid = any(array( \
                            select ctid from @conda_shard where replaced_at < $1 limit 1000))";
        shard = "select name, bytes from @conda_shard where channel_id = $1 and subdir = $2 and sha256 = $3";
        download = "select b.sha256, b.size, b.object_key, p.name, p.uploaded_at \
                    from @conda_package p join @blob b on b.id = p.blob_id \
                    where p.channel_id = $1 and p.subdir = $2 and p.filename = $3";
    }
}
