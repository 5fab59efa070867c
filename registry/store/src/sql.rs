//! Every statement of the shared tables.

/// The digest of what a channel's resource decides, in the canonical text of `jsonb`; `c` is the channel. Grants
/// that came through an API are no resource's business.
macro_rules! fingerprint {
    () => {
        "sha256(convert_to(jsonb_build_array(c.bucket, c.settings, c.origin, c.state, c.deletion_policy, c.object, \
         (select jsonb_agg(g.body order by g.position) from @channel_grant g \
          where g.channel_id = c.id and g.source = 'resource'))::text, 'UTF8'))"
    };
}

crate::statements! {
    pub(crate) struct Statements {
        // registry
        registry_id = "select id from @registry";

        // revisions
        revision_slots = "select scope, array_agg(n order by slot), array_agg(mark order by slot) from @revision_slot where scope = any($1) group by scope";
        changes = "select c.document, c.slot, c.n, c.mark from @change c join unnest($2::smallint[], $3::bigint[], $4::bigint[]) \
                   as span (slot, after, upto) on c.slot = span.slot and c.n >= span.after and c.n <= span.upto \
                   where c.scope = $1";
        // One statement, the last of every transaction: bumps the slot by the number of documents and names them.
        bump = "with bumped as (update @revision_slot set n = n + cardinality($3::text[]), mark = $4 \
                where scope = $1 and slot = $2 returning n) \
                insert into @change (scope, slot, n, mark, document) \
                select $1, $2, bumped.n - cardinality($3::text[]) + d.ordinality, $4, d.document \
                from bumped, unnest($3::text[]) with ordinality as d (document, ordinality)";
        // documents
        keep_parts = "insert into @document_part (channel_id, key, bytes, kept_at) \
                      select $1, k.key, k.bytes, $4 from unnest($2::bytea[], $3::bytea[]) as k (key, bytes) \
                      on conflict (channel_id, key) do update set kept_at = excluded.kept_at";
        parts = "select key, bytes from @document_part where channel_id = $1 and key = any($2)";
        save_checkpoint = "insert into @document_checkpoint (channel_id, document, generation, steps, marks, outline, parts, saved_at) \
                           values ($1, $2, $3, $4, $5, $6, $7, $8) \
                           on conflict (channel_id, document, generation) do update set steps = excluded.steps, \
                               marks = excluded.marks, outline = excluded.outline, parts = excluded.parts, \
                               saved_at = excluded.saved_at";
        checkpoint = "select steps, marks, outline from @document_checkpoint \
                      where channel_id = $1 and document = $2 and generation = $3";
        moved_checkpoints = "select distinct channel_id, document from @document_checkpoint c where saved_at < $1 and steps <> ( \
                                 select array_agg(n order by slot) from @revision_slot s where s.scope = c.channel_id)";
        prune_checkpoints = "delete from @document_checkpoint c where saved_at < $1 and exists ( \
                                 select from @document_checkpoint n where n.channel_id = c.channel_id \
                                 and n.document = c.document and n.saved_at > c.saved_at)";
        prune_parts = "delete from @document_part p where (channel_id, key) in ( \
                           select channel_id, key from @document_part where kept_at < $1 \
                           except select channel_id, unnest(parts) from @document_checkpoint limit $2)";
        insert_slots = "insert into @revision_slot (scope, slot, n) select $1, slot, 0 from generate_series(0, 15) as slot \
                        on conflict do nothing";
        delete_slots = "delete from @revision_slot where scope = $1";
        prune_changes = "delete from @change where changed_at < $1";

        // channels
        channel_by_name = "select id, bucket, settings, origin, state, object from @channel where format = $1 and name = $2";
        channels = "select id, format, name, bucket, settings, origin, state, deletion_policy, object from @channel order by format, name";
        // One writer a name at a time, with those whose names begin with the same segment. The schema is part of the key.
        lock_name = "select pg_advisory_xact_lock(hashtextextended('granary @channel ' || $1, 0))";
        channel_of_object = "select format, name from @channel where object = $1 and origin = 'resource' \
                             and state in ('pending', 'active') and not (format = $2 and name = $3) limit 1";
        neighbour = "select name from @channel where format = $1 and state in ('pending', 'active') \
                     and (name = any($2) or starts_with(name, $3)) order by name limit 1";
        lock_channel = "select id, bucket, settings, origin, state, deletion_policy, object, \
                            exists (select 1 from @blob b where b.channel_id = c.id) \
                        from @channel c where format = $1 and name = $2 for no key update";
        insert_channel = "insert into @channel (format, name, bucket, settings, origin, object, deletion_policy, state) \
                          values ($1, $2, $3, $4, $5, $6, $7, 'pending') returning id";
        update_channel = "update @channel set bucket = $2, settings = $3, origin = $4, object = $5, deletion_policy = $6, \
                          state = $7, updated_at = now() where id = $1";
        channel_bucket = "select id, bucket, state, bucket_settings, origin, object from @channel where format = $1 and name = $2";
        note_bucket = "update @channel set bucket_settings = $3, updated_at = now() \
                       where id = $1 and bucket = $2 and state in ('pending', 'active') \
                       and bucket_settings is distinct from $3";
        // Only if it is still the channel whose bucket was looked at.
        activate = "update @channel set state = 'active', updated_at = now() \
                    where id = $1 and bucket = $2 and state = 'pending' and origin = $3 and object is not distinct from $4";
        pending_of_api = "select id, format, name from @channel where state = 'pending' and origin = 'api' order by id";
        set_pending_bucket = "update @channel set bucket = $2 where bucket <> $2 and id = $1 and state = 'pending' and origin = 'api' \
                              and not exists (select 1 from @blob b where b.channel_id = $1)";

        set_channel_settings = "update @channel set settings = $2, updated_at = now() where id = $1";
        channel_of_any_case = "select name from @channel where format = $1 and lower(name) = lower($2) limit 1";
        channels_of_format = "select id, name, bucket, settings from @channel where format = $1 and state = 'active' order by name";
        grants_of_format = "select g.channel_id, g.body from @channel_grant g join @channel c on c.id = g.channel_id \
                            where c.format = $1 and c.state = 'active' order by g.channel_id, g.source, g.position";

        // removal
        begin_removal = "update @channel set state = 'deleting', removal_until = null, updated_at = now() where id = $1";
        owned_by_object = "select id, format, name, bucket from @channel \
                           where object = $1 and origin = 'resource' and state <> 'retired' order by id";
        retire = "update @channel set state = $3, removal_until = null, updated_at = now() \
                  where id = $1 and object is not distinct from $2 and origin = 'resource' and state in ('pending', 'active') \
                  and ($4::text is null or deletion_policy = $4)";
        // Either nobody is at it, or who was is taken for dead.
        claim_removal = "update @channel set remover = $2, removal_until = now() + $3::bigint * interval '1 ms' \
                         where id = $1 and state = 'deleting' and (removal_until is null or removal_until < now())";
        renew_removal = "update @channel set removal_until = now() + $3::bigint * interval '1 ms' \
                         where id = $1 and state = 'deleting' and remover = $2";
        release_removal = "update @channel set removal_until = null where id = $1 and remover = $2";
        unfinished_removals = "select id, format, name, bucket from @channel \
                               where state = 'deleting' and (removal_until is null or removal_until < now()) order by id";
        delete_channel = "delete from @channel where id = $1 and state = 'deleting' and remover = $2";

        // drift
        served_channels = "select count(*) from @channel where state in ('pending', 'active')";
        fingerprints = concat!("select c.format, c.name, ", fingerprint!(), " from @channel c");
        fingerprint = concat!("select ", fingerprint!(), " from @channel c where c.id = $1");

        grants = "select body from @channel_grant where channel_id = $1 order by source desc, position";
        grants_of_source = "select body from @channel_grant where channel_id = $1 and source = $2 order by position";
        delete_grants = "delete from @channel_grant where channel_id = $1 and source = $2";
        insert_grants = "insert into @channel_grant (channel_id, source, position, body) \
                         select $1, $2, g.ordinality, g.body \
                         from unnest($3::jsonb[]) with ordinality as g (body, ordinality)";

        // blobs
        // Equal bytes join here: the row keeps the key it has, and the caller's own object is doomed.
        // A damaged object is replaced by the new one.
        damaged_key = "select object_key from @blob where channel_id = $1 and sha256 = $2 and damage is not null for update";
        attach_blob = "insert into @blob as b (channel_id, sha256, md5, blake2b256, size, object_key, refs) \
                       values ($1, $2, $3, $4, $5, $6, 1) \
                       on conflict (channel_id, sha256) do update set refs = b.refs + 1, dereferenced_at = null, \
                           object_key = case when b.damage is null then b.object_key else excluded.object_key end, \
                           scrubbed_at = case when b.damage is null then b.scrubbed_at end, damage = null \
                       returning id, object_key";
        // A reference to bytes that are already there, such as a copy between two packages of a channel.
        release_blob = "update @blob set refs = refs - 1, \
                        dereferenced_at = case when refs = 1 then now() else null end where id = $1";
        doom = "insert into @doomed_object (bucket, object_key) values ($1, $2) on conflict do nothing";

        // collector
        collect_blobs = "with gone as (delete from @blob b using @channel c where b.id in ( \
                             select id from @blob where refs = 0 and dereferenced_at < $1 limit 1000 for update skip locked) \
                             and c.id = b.channel_id returning c.bucket, b.object_key) \
                         insert into @doomed_object (bucket, object_key) select bucket, object_key from gone \
                         on conflict do nothing";
        doomed_buckets = "select distinct bucket from @doomed_object";
        doomed = "select object_key from @doomed_object where bucket = $1 order by doomed_at limit 1000";
        undoom = "delete from @doomed_object where bucket = $1 and object_key = any($2)";
        known_keys = "select object_key from @blob where channel_id = $1 and object_key = any($2)";

        // scrubber
        blobs_to_scrub = "select b.id, c.bucket, b.object_key, b.sha256, b.size, c.format || '/' || c.name \
                          from @blob b join @channel c on c.id = b.channel_id \
                          where b.refs > 0 and (b.scrubbed_at is null or b.scrubbed_at < $1) and c.state = 'active' \
                          order by b.scrubbed_at nulls first limit $2";
        scrubbed = "update @blob set scrubbed_at = $2, damage = $3 where id = $1";
        damaged = "select count(*) from @blob where damage is not null";

        // audit
        insert_audit = "insert into @audit (actor, credential, address, action, channel, package, detail, outcome, request_id) \
                        values ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        // Pods that refuse the same in the same minute count in one row. In order, so that they never wait in a ring.
        count_refusals = "insert into @audit as a (refusal, at, actor, credential, address, action, channel, package, detail, \
                              request_id, times, outcome) \
                          select r.*, 'refused' from unnest($1::bytea[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], \
                              $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::text[], $11::integer[]) \
                              as r (refusal, at, actor, credential, address, action, channel, package, detail, request_id, times) \
                          order by r.refusal \
                          on conflict (refusal) where refusal is not null do update set times = a.times + excluded.times";
        // A filter's statement is put together of these; `$n` is the parameter of the condition.
        audit_log = "select id, at, actor, credential, address, action, channel, package, outcome, times, request_id, detail \
                     from @audit where true";
        // As the index has it. One condition where that is enough: of two, the planner expects far too few rows.
        audit_of_actor = " and left(actor, 128) = $n";
        audit_of_long_actor = " and left(actor, 128) = left($n, 128) and actor = $n";
        audit_of_channel = " and channel = $n";
        audit_of_package = " and package = $n";
        audit_of_action = " and action = $n";
        // Not as parameters: an index holds refusals alone.
        audit_done = " and outcome = 'done'";
        audit_refused = " and outcome = 'refused'";
        audit_since = " and at >= $n";
        audit_until = " and at < $n";
        audit_before = " and id < $n";
        audit_newest = " order by id desc limit $n";
        // The same, as the indexes of actors, channels and packages have it.
        audit_before_within = " and -id > -$n::bigint";
        audit_newest_within = " order by -id limit $n";
        prune_audit = "delete from @audit where id in (select id from @audit where at < $1 order by at limit $2)";

        // jobs
        enqueue = "insert into @job (kind, dedup_key, payload, run_at, max_attempts) values ($1, $2, $3, $4, $5) \
                   on conflict (dedup_key) where state <> 'dead' do nothing";
        // A job whose worker died is taken again when its lock has run out.
        claim = "update @job set state = 'running', attempts = attempts + 1, runs = runs + 1, locked_until = $2 where id = ( \
                     select id from @job where state <> 'dead' and kind = any($3) and run_at <= $1 \
                     and (locked_until is null or locked_until < $1) \
                     order by run_at for update skip locked limit 1) \
                 returning id, kind, payload, attempts, max_attempts, runs";
        // All of these touch the job only while it is held by the run that asks.
        renew_job = "update @job set locked_until = $3 where id = $1 and runs = $2 and state = 'running'";
        release_job = "update @job set state = 'queued', attempts = greatest(attempts - 1, 0), locked_until = null \
                       where id = $1 and runs = $2 and state = 'running'";
        complete = "delete from @job where id = $1 and runs = $2 and state = 'running'";
        repeat = "update @job set state = 'queued', attempts = 0, locked_until = null, last_error = null, run_at = $3 \
                  where id = $1 and runs = $2 and state = 'running'";
        retry = "update @job set state = 'queued', locked_until = null, last_error = $3, run_at = $4 \
                 where id = $1 and runs = $2 and state = 'running'";
        bury = "update @job set state = 'dead', locked_until = null, last_error = $3 \
                where id = $1 and runs = $2 and state = 'running'";
        job_states = "select kind, state, count(*), max(last_error) from @job group by kind, state order by kind, state";

        // usage
        add_usage = "insert into @usage_day as u (channel_id, package, file, day, downloads, uploads) \
                     select r.* from unnest($1::bigint[], $2::text[], $3::text[], $4::date[], $5::bigint[], $6::bigint[]) \
                     as r (channel_id, package, file, day, downloads, uploads) where exists (select 1 from @channel c where c.id = r.channel_id) \
                     on conflict (channel_id, package, file, day) \
                     do update set downloads = u.downloads + excluded.downloads, uploads = u.uploads + excluded.uploads";
        usage_of_package = "select file, sum(downloads)::bigint, sum(uploads)::bigint from @usage_day \
                            where channel_id = $1 and package = $2 group by file";
        prune_usage_days = "delete from @usage_day where ctid = any(array( \
                                select ctid from @usage_day where day < $1 order by day limit $2))";

        // statistics
        // What was counted slowly is counted rarely: at most a twentieth of the time goes into it.
        stats_to_count = "select c.id, c.format from @channel c \
                          join (select scope, sum(n) as revision from @revision_slot group by scope) r on r.scope = c.id \
                          left join @channel_stats s on s.channel_id = c.id \
                          where c.state = 'active' and c.format = any($1) and s.revision is distinct from r.revision \
                          and (s.counted_at is null or s.counted_at + 20 * s.took <= now()) \
                          order by s.counted_at nulls first, c.id";
        lock_stats = "select pg_try_advisory_xact_lock(hashtextextended('granary @channel_stats ' || $1::bigint, 0)) \
                      and not exists (select 1 from @channel_stats s where s.channel_id = $1 \
                          and s.revision = (select sum(n) from @revision_slot where scope = $1))";
        // Around the query of a protocol, which yields what is counted.
        count_into = "insert into @channel_stats \
                      (channel_id, packages, files, bytes, last_publish, revision, counted_at, took) \
                      select $1::bigint, counted.packages, counted.files, counted.bytes, counted.last_publish, \
                      (select sum(n)::bigint from @revision_slot where scope = $1), now(), interval '0'";
        count_on_conflict = "on conflict (channel_id) do update set packages = excluded.packages, files = excluded.files, \
                             bytes = excluded.bytes, last_publish = excluded.last_publish, \
                             revision = excluded.revision, counted_at = excluded.counted_at";
        stats_took = "update @channel_stats set took = $2::bigint * interval '1 ms' where channel_id = $1";
        channel_stats = "select c.format, c.name, s.packages, s.files, s.bytes, s.last_publish, s.counted_at \
                         from @channel_stats s join @channel c on c.id = s.channel_id where c.state = 'active'";
    }
}
