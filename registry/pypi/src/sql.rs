//! Every statement of the `PyPI` tables.

/// What is in a channel: projects with files, files, their bytes, the newest upload.
pub(crate) const COUNT: &str = "select count(distinct f.project_id) as packages, count(*) as files, \
                                    coalesce(sum(b.size), 0)::bigint as bytes, max(f.uploaded_at) as last_publish \
                                from @pypi_file f join @blob b on b.id = f.blob_id where f.channel_id = $1";

granary_store::statements! {
    pub(crate) struct Statements {
        // Locks the project, so that concurrent uploads to one project queue here. `inserted` tells a new project.
        upsert_project = "insert into @pypi_project as p (channel_id, normalized, name, serial) values ($1, $2, $3, 1) \
                          on conflict (channel_id, normalized) do update set serial = p.serial + 1 \
                          returning id, (xmax = 0) as inserted";
        upsert_release = "insert into @pypi_release (project_id, version, version_key, metadata) values ($1, $2, $3, $4) \
                          on conflict (project_id, version_key) do update set metadata = excluded.metadata \
                          returning id";
        // The file that an upload would stand beside or in the place of.
        standing_file = "select b.sha256, f.id, f.blob_id, p.normalized, f.filename, b.damage is not null \
                        from @pypi_file f join @blob b on b.id = f.blob_id join @pypi_project p on p.id = f.project_id \
                        where f.channel_id = $1 and (f.filename = $2 or f.file_key = $3)";
        deleted_file = "select sha256 from @pypi_deleted_file where channel_id = $1 and file_key = $2";
        insert_file = "insert into @pypi_file (channel_id, project_id, release_id, filename, package_type, python_tag, \
                           blob_id, requires_python, metadata, metadata_sha256, attestations, comment, uploaded_by, uploaded_at, \
                           file_key) \
                       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
                       on conflict do nothing";
        delete_file = "delete from @pypi_file where id = $1";
        remember_deleted = "insert into @pypi_deleted_file (channel_id, file_key, sha256) values ($1, $2, $3) \
                            on conflict (channel_id, file_key) do update set sha256 = excluded.sha256, deleted_at = now()";
        lock_project = "select id from @pypi_project where channel_id = $1 and normalized = $2 for update";
        raise_serial = "update @pypi_project set serial = serial + 1 where id = $1";
        delete_empty_release = "delete from @pypi_release r where r.project_id = $1 \
                                and not exists (select 1 from @pypi_file f where f.release_id = r.id)";
        delete_empty_project = "delete from @pypi_project p where p.id = $1 \
                                and not exists (select 1 from @pypi_release r where r.project_id = p.id)";
        files_of_version = "select f.id, f.filename, f.blob_id, b.sha256, f.file_key \
                            from @pypi_file f join @pypi_release r on r.id = f.release_id join @blob b on b.id = f.blob_id \
                            where f.project_id = $1 and ($2::text is null or r.version_key = $2) order by f.filename";
        yank = "update @pypi_file f set yanked = $3 from @pypi_release r \
                where r.id = f.release_id and f.project_id = $1 and r.version_key = $2 and f.yanked is distinct from $3";

        project = "select id, name, serial from @pypi_project where channel_id = $1 and normalized = $2";
        project_names = "select normalized, name from @pypi_project \
                         where channel_id = $1 and normalized >= $2 and ($3::text is null or normalized < $3) \
                         order by normalized";
        project_files = "select f.filename, b.sha256, b.size, f.requires_python, f.yanked, f.metadata_sha256, \
                             f.attestations is not null, f.uploaded_at, r.version \
                         from @pypi_file f join @blob b on b.id = f.blob_id join @pypi_release r on r.id = f.release_id \
                         where f.project_id = $1 order by f.filename";
        release_metadata = "select metadata from @pypi_release where project_id = $1 and version_key = $2";
        json_files = "select f.filename, b.sha256, b.md5, b.blake2b256, b.size, f.requires_python, f.yanked, f.package_type, \
                          f.python_tag, f.comment, f.uploaded_at, r.version \
                      from @pypi_file f join @blob b on b.id = f.blob_id join @pypi_release r on r.id = f.release_id \
                      where f.project_id = $1 order by f.filename";
        download = "select b.sha256, b.size, b.object_key, p.normalized, f.uploaded_at, f.metadata_sha256 \
                    from @pypi_file f join @blob b on b.id = f.blob_id join @pypi_project p on p.id = f.project_id \
                    where f.channel_id = $1 and f.filename = $2";
        core_metadata = "select f.metadata from @pypi_file f join @blob b on b.id = f.blob_id \
                         where f.channel_id = $1 and f.filename = $2 and b.sha256 = $3";
        attestations = "select f.attestations from @pypi_file f join @blob b on b.id = f.blob_id \
                        where f.channel_id = $1 and f.filename = $2 and b.sha256 = $3";
    }
}
