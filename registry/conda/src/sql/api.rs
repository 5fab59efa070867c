//! The statements of the API.

/// The names of a channel's packages, with when they changed last: those that have files, and those that were announced.
macro_rules! names {
    () => {
        "select n.name, max(n.changed_at) as changed_at from ( \
             select name, changed_at from @conda_name where channel_id = $1 and shard is not null \
             union all select name, announced_at from @conda_announced where channel_id = $1) n \
         where $2::text is null or position($2 in n.name) > 0 group by n.name"
    };
}

/// What is told of a file of a package.
macro_rules! version {
    () => {
        "select id, subdir, filename, version, build, build_number, uploaded_by, uploaded_at from @conda_package \
         where channel_id = $1 and name = $2"
    };
}

/// Days between two, where they are given.
macro_rules! between {
    ($from:literal, $to:literal) => {
        concat!(
            " and ($",
            $from,
            "::date is null or day >= $",
            $from,
            ") and ($",
            $to,
            "::date is null or day <= $",
            $to,
            ")"
        )
    };
}

granary_store::statements! {
    pub(crate) struct ApiStatements {
        // packages
        names = concat!(names!(), " order by n.name offset $3 limit $4");
        names_backwards = concat!(names!(), " order by n.name desc offset $3 limit $4");
        names_by_change = concat!(names!(), " order by changed_at, n.name offset $3 limit $4");
        names_by_change_backwards = concat!(names!(), " order by changed_at desc, n.name offset $3 limit $4");
        count_names = concat!("select count(*) from (", names!(), ") counted");
        name = "select max(n.changed_at) from ( \
                    select changed_at from @conda_name where channel_id = $1 and name = $2 and shard is not null \
                    union all select announced_at from @conda_announced where channel_id = $1 and name = $2) n \
                having count(*) > 0";
        // Of each version one file.
        described = "select name, version, array_agg(distinct subdir order by subdir), max(id) from @conda_package \
                     where channel_id = $1 and name = any($2) group by name, version";
        abouts = "select id, about from @conda_package where id = any($1)";
        announced = "select name, summary, description from @conda_announced where channel_id = $1 and name = any($2)";
        announce = "insert into @conda_announced (channel_id, name, summary, description, announced_by, announced_at) \
                    values ($1, $2, $3, $4, $5, $6) on conflict do nothing";
        forget_announced = "delete from @conda_announced where channel_id = $1 and name = $2";
        count_packages = "select n.channel_id, count(distinct n.name) from ( \
                              select channel_id, name from @conda_name where channel_id = any($1) and shard is not null \
                              union all select channel_id, name from @conda_announced where channel_id = any($1)) n \
                          group by n.channel_id";

        // versions
        versions = concat!(version!(), " and ($3::timestamptz is null or uploaded_at >= $3)");
        version = concat!(version!(), " and subdir = $3 and filename = $4");
        version_records = "select id, record from @conda_package where id = any($1)";
        downloads = "select file, sum(downloads)::bigint from @usage_day where channel_id = $1 and package = $2 group by file";

        // metrics
        series_of_file = concat!(
            "select date_trunc($4, day::timestamp)::date as at, sum(downloads)::bigint from @usage_day \
             where channel_id = $1 and package = $2 and file = $3", between!("5", "6"), " group by at order by at");
        series_of_channel = concat!(
            "select package, file, date_trunc($2, day::timestamp)::date as at, sum(downloads)::bigint from @usage_day \
             where channel_id = $1 and ($3::text is null or starts_with(file, $3 || '/'))", between!("4", "5"),
            " group by package, file, at having sum(downloads) > 0 order by file, at limit $6");

        // quotas
        channel_size = "select coalesce(sum(size), 0)::bigint from @blob where channel_id = $1 and refs > 0";

        // jobs
        insert_job = "insert into @conda_job \
                          (channel_id, owner, manifest, items_spec, start_at, repeat_every_seconds, status, created_at) \
                      values ($1, $2, $3, $4, $5, $6, $7, $8) returning id";
        jobs = "select id, owner, manifest, items_spec, start_at, repeat_every_seconds, status, created_at from @conda_job \
                where status = any($1) and ($2::text is null or owner = $2) order by id offset $3 limit $4";
        count_jobs = "select count(*) from @conda_job where status = any($1) and ($2::text is null or owner = $2)";
        job = "select id, owner, manifest, items_spec, start_at, repeat_every_seconds, status, created_at from @conda_job \
               where id = $1";
    }
}
