//! The statements of the plugins.

granary_store::statements! {
    pub(crate) struct Statements {
        // What a package exports, with its name for the check.
        run_exports = "select name, run_exports from @conda_package where channel_id = $1 and subdir = $2 and filename = $3";

        // conda-suggest: all builds of the names that bring a command in one build or more.
        set_commands = "update @conda_package set commands = $4 where channel_id = $1 and subdir = $2 and filename = $3";
        commands = "select p.name, p.version, p.commands from @conda_package p \
                    where p.channel_id = $1 and p.subdir = $2 and ($3::text[] is null or p.name = any($3)) \
                        and exists (select 1 from @conda_package q where q.channel_id = $1 and q.subdir = $2 \
                                        and q.name = p.name and q.commands <> '{}') \
                    order by p.name";

        // Terms of service.
        terms = "select id, uploaded_by, uploaded_at from @conda_terms where $1::uuid is null or id = $1 order by number desc limit 1";
        terms_files = "select language, filename, content from @conda_terms_file where terms_id = $1 order by position";
        terms_signature = "select signed_at from @conda_terms_signature where terms_id = $1 and signer = $2";
        sign_terms = "insert into @conda_terms_signature (terms_id, signer, signed_at) values ($1, $2, $3) on conflict do nothing";
        insert_terms = "insert into @conda_terms (uploaded_by, uploaded_at) values ($1, $2) returning id";
        insert_terms_file = "insert into @conda_terms_file (terms_id, position, language, filename, content) values ($1, $2, $3, $4, $5)";

        // Transmutation: of each channel that wants it, the packages that have no twin yet; those that have one of other bytes are
        // put on the queue as they are published.
        to_transmute = "select c.name, p.subdir, p.filename from @channel c join @conda_package p on p.channel_id = c.id \
                        where c.format = 'conda' and c.state = 'active' and c.settings @> '{\"conda\": {\"transmutation\": true}}' \
                            and p.filename like '%.tar.bz2' \
                            and not exists (select 1 from @conda_package q where q.channel_id = p.channel_id and q.subdir = p.subdir \
                                                and q.filename = left(p.filename, -8) || '.conda') \
                        limit $1";
        transmute_source = "select p.record, p.run_exports, b.sha256, b.md5, b.size, b.object_key \
                            from @conda_package p join @blob b on b.id = p.blob_id \
                            where p.channel_id = $1 and p.subdir = $2 and p.filename = $3";

        // Content trust.
        trust_roles = "select distinct on (role) role, document from @conda_trust_role where channel_id = $1 order by role, version desc";
        trust_role = "select document from @conda_trust_role where channel_id = $1 and role = $2 and ($3::bigint is null or version = $3) \
                      order by version desc limit 1";
        insert_trust_role = "insert into @conda_trust_role (channel_id, role, version, document, expires_at, uploaded_by, uploaded_at) \
                             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing";
        trust_keys = "select public_key, sealed from @conda_trust_key where channel_id = $1 order by public_key";
        insert_trust_key = "insert into @conda_trust_key (channel_id, public_key, sealed, made_by, made_at) values ($1, $2, $3, $4, $5)";
        all_trust_keys = "select channel_id, public_key, sealed from @conda_trust_key where (channel_id, public_key) > ($1, $2) \
                          order by channel_id, public_key limit 100";
        reseal_trust_key = "update @conda_trust_key set sealed = $4 where channel_id = $1 and public_key = $2 and sealed = $3";
    }
}
