//! Every statement of the identity tables.

granary_store::statements! {
    pub(crate) struct Statements {
        account = "select password_hash, admin, disabled, groups, source from @account where name = $1";
        accounts = "select name, admin, disabled, groups, created_at from @account order by name";
        insert_account = "insert into @account (name, password_hash, admin, groups) values ($1, $2, $3, $4) \
                          on conflict do nothing";
        insert_external = "insert into @account (name, source, groups) values ($1, $2, $3) on conflict do nothing";
        account_by_subject = "select name, disabled, groups from @account where source = $1 and subject = $2";
        insert_person = "insert into @account (name, source, subject, groups) values ($1, $2, $3, $4) \
                         on conflict do nothing";
        set_groups = "update @account set groups = $2 where name = $1";
        set_password = "update @account set password_hash = $2 where name = $1";
        set_disabled = "update @account set disabled = $2 where name = $1";
        any_admin = "select 1 from @account where admin and not disabled limit 1";
        make_admin = "update @account set admin = true where name = $1 and not admin";

        user = "select name, admin, server_role from @account where name = $1 and not disabled";
        users = "select name, admin, server_role from @account where not disabled \
                 and position(lower($1) in lower(name)) > 0 and ($2::text is null or name = $2) order by name offset $3 limit $4";
        count_users = "select count(*) from @account where not disabled \
                       and position(lower($1) in lower(name)) > 0 and ($2::text is null or name = $2)";
        set_server_role = "update @account set admin = $2, server_role = $3 where name = $1";
        delete_tokens_of = "with recursive family as ( \
                                select id from @token where account = $1 \
                                union \
                                select t.id from @token t join family f on t.parent = f.id) \
                            delete from @token where id in (select id from family) returning id";

        token = "select t.account, t.kind, t.sha256, t.scope, t.expires_at, a.admin, a.disabled, a.groups, t.workload \
                 from @token t left join @account a on a.name = t.account where t.id = $1";
        tokens_of = "select id, label, scope, created_at, expires_at, last_used_at, account, kind from @token \
                     where account = $1 order by created_at";
        token_info = "select id, label, scope, created_at, expires_at, last_used_at, account, kind from @token \
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

        insert_login = "insert into @login \
                        (state, provider, browser, nonce, verifier, redirect_uri, next, expires_at) \
                        values ($1, $2, $3, $4, $5, $6, $7, $8)";
        // Whoever asks for a row uses it up, whether it is theirs or not.
        take_login = "delete from @login where state = $1 \
                      returning provider, browser, nonce, verifier, redirect_uri, next, expires_at";
        prune_logins = "delete from @login where state in ( \
                            select state from @login where expires_at < $1 order by expires_at limit $2)";

        count_devices = "select count(*) from @device where network = $1 and expires_at > $2";
        insert_device = "insert into @device \
                         (code, user_code, label, scope, lifetime_seconds, address, network, requested_at, \
                          expires_at, interval_seconds) \
                         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) on conflict do nothing";
        device_of_user = "select label, scope, lifetime_seconds, address, requested_at from @device \
                          where user_code = $1 and expires_at > $2 and account is null and not refused";
        decide_device = "update @device set account = $3, refused = $4 \
                         where user_code = $1 and expires_at > $2 and account is null and not refused";
        device = "select expires_at, interval_seconds, asked_at, account, refused, label, scope, lifetime_seconds \
                  from @device where code = $1 for update";
        device_asked = "update @device set asked_at = $2, interval_seconds = $3 where code = $1";
        delete_device = "delete from @device where code = $1";
        prune_devices = "delete from @device where code in ( \
                             select code from @device where expires_at < $1 order by expires_at limit $2)";

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
