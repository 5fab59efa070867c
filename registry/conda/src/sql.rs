//! Every statement of the conda tables.

pub(crate) mod api;
pub(crate) mod documents;
pub(crate) mod plugins;

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
        // Names of which something may go: more builds than are kept, one of them old enough.
        names_beyond_retention = "select subdir, name from @conda_package where channel_id = $1 \
                                  group by subdir, name having count(*) > $2 and min(uploaded_at) < $3 order by subdir, name";
        builds_of_name = "select filename, version, build_number, uploaded_at from @conda_package \
                          where channel_id = $1 and subdir = $2 and name = $3";
        standing = "select p.id, p.blob_id, b.sha256, p.yanked_at is not null from @conda_package p join @blob b on b.id = p.blob_id \
                    where p.channel_id = $1 and p.subdir = $2 and p.filename = $3";
        insert_package = "insert into @conda_package (channel_id, subdir, name, filename, version, build, build_number, record, \
                              run_exports, about, facts, blob_id, uploaded_by, uploaded_at, \
                              patched, patched_run_exports, patched_out) \
                          values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17) on conflict do nothing";
        delete_package = "delete from @conda_package where id = $1";
        records_of_name = "select filename, coalesce(patched, record), coalesce(patched_run_exports, run_exports), section from @conda_package \
                           where channel_id = $1 and subdir = $2 and name = $3";
        mark_newest = "update @conda_package set newest = (filename = any($4)) where channel_id = $1 and subdir = $2 and name = $3 \
                       and newest is distinct from (filename = any($4))";
        set_shard = "update @conda_name set shard = $4 where channel_id = $1 and subdir = $2 and name = $3";
        insert_shard = "insert into @conda_shard (channel_id, sha256, subdir, name, bytes) values ($1, $2, $3, $4, $5) \
                        on conflict (channel_id, subdir, sha256) do update set replaced_at = null";
        set_yanked = "update @conda_package set yanked_at = $2, yanked_by = $3 where id = $1";
        replace_shard = "update @conda_shard set replaced_at = $4 where channel_id = $1 and subdir = $2 and sha256 = $3";

        records = "select name, filename, coalesce(patched, record) from @conda_package \
                   where channel_id = $1 and subdir = $2 and section = $3 and name >= $4 and ($5::text is null or name < $5) \
                   order by name, filename";
        // What is signed: what is offered, of both kinds.
        offered = "select name, filename, coalesce(patched, record) from @conda_package \
                   where channel_id = $1 and subdir = $2 and section < 2 and name >= $3 and ($4::text is null or name < $4) \
                   order by name, filename";
        names_offered = "select distinct name from @conda_package \
                         where channel_id = $1 and subdir = $2 and section < 2 and name >= $3 and ($4::text is null or name < $4) \
                         order by name";
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

        // Documents that were made of others; also of a path that is not there yet.
        lock_derived = "select pg_advisory_xact_lock(hashtextextended( \
                            'granary @conda_derived ' || $1::bigint || ' ' || $2::text || ' ' || $3::text, 0))";
        derived = "select d.source, d.made_at, b.sha256, b.size, b.object_key from @conda_derived d \
                   join @blob b on b.id = d.blob_id where d.channel_id = $1 and d.path = $2 and d.class = $3";
        derived_blob = "select blob_id from @conda_derived where channel_id = $1 and path = $2 and class = $3";
        put_derived = "insert into @conda_derived (channel_id, path, class, source, made_at, blob_id) \
                       values ($1, $2, $3, $4, $5, $6) \
                       on conflict (channel_id, path, class) do update set source = excluded.source, \
                           made_at = excluded.made_at, blob_id = excluded.blob_id";

        names_of_channel = "select distinct name from @conda_name where channel_id = $1 and shard is not null";

        // Mirrors
        due_mirrors = "select c.id, c.name from @channel c left join @conda_mirror m on m.channel_id = c.id \
                       where c.format = 'conda' and c.state = 'active' and c.settings -> 'source' ? 'mirror' \
                       and (m.channel_id is null or m.ended_at is null or m.started_at < c.updated_at \
                            or m.ended_at + interval '1 ms' * case when m.state = 'failed' \
                                then least((c.settings -> 'source' -> 'mirror' ->> 'scheduleMs')::bigint, $2::bigint) \
                                else (c.settings -> 'source' -> 'mirror' ->> 'scheduleMs')::bigint end <= $1)";
        mirror = "select state, started_at, ended_at, wanted, fetched, fetched_bytes, failed, removed, error \
                  from @conda_mirror where channel_id = $1";
        start_mirror = "insert into @conda_mirror (channel_id, state, started_at) values ($1, 'listing', $2) \
                        on conflict (channel_id) do update set state = 'listing', started_at = $2, ended_at = null, wanted = 0, \
                            fetched = 0, fetched_bytes = 0, failed = 0, removed = 0, error = null";
        listed_mirror = "update @conda_mirror set state = 'fetching', wanted = (select count(*) from @conda_mirror_file \
                             where channel_id = $1 and listed_at = $2) where channel_id = $1";
        end_mirror = "update @conda_mirror set state = $2, ended_at = $3, error = $4 where channel_id = $1";
        count_fetched = "update @conda_mirror set fetched = fetched + 1, fetched_bytes = fetched_bytes + $2 where channel_id = $1";
        count_failed = "update @conda_mirror set failed = failed + 1 where channel_id = $1";
        count_removed = "update @conda_mirror set removed = removed + $2 where channel_id = $1";
        put_mirror_files = "insert into @conda_mirror_file (channel_id, subdir, listed_at, filename, url, sha256, size) \
                            select $1, $2, $3, r.* from unnest($4::text[], $5::text[], $6::bytea[], $7::bigint[]) as r \
                            on conflict (channel_id, subdir, filename) do update set listed_at = excluded.listed_at, \
                                url = excluded.url, sha256 = excluded.sha256, size = excluded.size, error = null";
        move_mirror_files = "update @conda_mirror_file set url = $5::text || filename \
                             where channel_id = $1 and subdir = $2 and listed_at = $3 and url = $4::text || filename";
        missing_mirror_files = "select f.subdir, f.filename, f.url, f.sha256 from @conda_mirror_file f \
                                left join (@conda_package p join @blob b on b.id = p.blob_id) \
                                    on p.channel_id = f.channel_id and p.subdir = f.subdir and p.filename = f.filename \
                                where f.channel_id = $1 and f.listed_at = $2 and f.error is null \
                                and (p.id is null or b.sha256 <> f.sha256) limit $3";
        failed_mirror_file = "update @conda_mirror_file set error = $4 \
                              where channel_id = $1 and subdir = $2 and filename = $3";
        unwanted_packages = "select p.subdir, p.filename from @conda_package p where p.channel_id = $1 and not exists ( \
                                 select 1 from @conda_mirror_file f where f.channel_id = p.channel_id and f.subdir = p.subdir \
                                 and f.filename = p.filename and f.listed_at = $2) order by p.subdir, p.filename limit $3";
        forget_mirror_files = "delete from @conda_mirror_file where channel_id = $1 and listed_at <> $2";
    }
}
