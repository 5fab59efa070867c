//! Every statement of the identity tables.

granary_store::statements! {
    pub(crate) struct Statements {
        account = "select password_hash, admin, disabled, groups, source from @account where name = $1";
        accounts = "select name, admin, disabled, groups, created_at from @account order by name";
        insert_account = "insert into @account (name, password_hash, admin, groups) values ($1, $2, $3, $4) \
                          on conflict do nothing";
        insert_external = "insert into @account (name, source, groups) values ($1, $2, $3) on conflict do nothing";
        set_groups = "update @account set groups = $2 where name = $1";
        set_password = "update @account set password_hash = $2 where name = $1";
        set_disabled = "update @account set disabled = $2 where name = $1";
        any_admin = "select 1 from @account where admin and not disabled limit 1";
        make_admin = "update @account set admin = true where name = $1 and not admin";

        token = "select t.account, t.kind, t.sha256, t.scope, t.expires_at, a.admin, a.disabled, a.groups, t.workload \
                 from @token t left join @account a on a.name = t.account where t.id = $1";
        tokens_of = "select id, label, scope, created_at, expires_at, last_used_at, account from @token \
                     where account = $1 order by created_at";
        token_info = "select id, label, scope, created_at, expires_at, last_used_at, account from @token \
                      where id = $1";
        insert_token = "insert into @token (id, account, workload, kind, sha256, label, scope, expires_at, parent) \
                        values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing";
        delete_token = "with recursive family as ( \
                            select id from @token where id = $1 \
                            union all \
                            select t.id from @token t join family f on t.parent = f.id) \
                        delete from @token where id in (select id from family) returning id";
        token_used = "update @token t set last_used_at = $2 where t.id = any($1) \
                      and (t.last_used_at is null or t.last_used_at < $2)";
        prune_tokens = "delete from @token where expires_at < $1";

        use_jti = "insert into @used_jti (issuer, jti, expires_at) values ($1, $2, $3) on conflict do nothing";
        prune_used_jtis = "delete from @used_jti where expires_at < $1";
        locked_out = "select counted, ends_at from @failed_login \
                      where counted = any($1) and remaining = 0 and ends_at > $2";
        // In order, so that pods never wait for each other in a ring. Of who is locked out, nothing is written.
        count_failure = "insert into @failed_login as f (counted, ends_at, remaining) \
                         select c.counted, $3::timestamptz, c.most - 1 \
                         from unnest($1::bytea[], $2::integer[]) as c (counted, most) order by c.counted \
                         on conflict (counted) do update set \
                             remaining = case when f.ends_at > $4::timestamptz then f.remaining - 1 \
                                 else excluded.remaining end, \
                             ends_at = case when f.ends_at > $4 then f.ends_at else excluded.ends_at end \
                         where f.ends_at <= $4 or f.remaining > 0 \
                         returning counted, ends_at, remaining";
        forget_failures = "delete from @failed_login where counted = $1";
        // The end is looked at again: meanwhile the row may have begun anew.
        prune_failures = "delete from @failed_login where ends_at <= $1 and counted in ( \
                              select counted from @failed_login where ends_at <= $1 order by ends_at limit $2)";
    }
}
