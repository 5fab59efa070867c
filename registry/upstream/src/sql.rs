//! Every statement of the tables of what was fetched.

granary_store::statements! {
    pub(crate) struct Statements {
        file = "select f.url, f.etag, f.last_modified, f.fetched_at, f.facts, b.sha256, b.size, b.object_key \
                from @upstream_file f join @blob b on b.id = f.blob_id where f.channel_id = $1 and f.path = $2";
        // Also of a path that is not there yet.
        lock_path = "select pg_advisory_xact_lock(hashtextextended('granary @upstream_file ' || $1::bigint || ' ' || $2::text, 0))";
        file_blob = "select blob_id from @upstream_file where channel_id = $1 and path = $2";
        put_file = "insert into @upstream_file (channel_id, path, url, etag, last_modified, fetched_at, facts, blob_id) \
                    values ($1, $2, $3, $4, $5, $6, $7, $8) \
                    on conflict (channel_id, path) do update set url = excluded.url, etag = excluded.etag, \
                        last_modified = excluded.last_modified, fetched_at = excluded.fetched_at, facts = excluded.facts, \
                        blob_id = excluded.blob_id";
        delete_file = "delete from @upstream_file where channel_id = $1 and path = $2";
    }
}
