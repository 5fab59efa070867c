//! Every statement of the identity tables.

granary_store::statements! {
    pub(crate) struct Statements {
        account = "select password_hash, admin, disabled, groups from @account where name = $1";
        accounts = "select name, admin, disabled, groups, created_at from @account order by name";
        insert_account = "insert into @account (name, password_hash, admin, groups) values ($1, $2, $3, $4) \
                          on conflict do nothing";
        set_password = "update @account set password_hash = $2 where name = $1";
        set_disabled = "update @account set disabled = $2 where name = $1";
        any_admin = "select 1 from @account where admin and not disabled limit 1";
        make_admin = "update @account set admin = true where name = $1 and not admin";

        token = "select t.account, t.kind, t.sha256, t.scope, t.expires_at, a.admin, a.disabled, a.groups \
                 from @token t join @account a on a.name = t.account where t.id = $1";
        tokens_of = "select id, kind, label, scope, created_at, expires_at, last_used_at from @token \
                     where account = $1 order by created_at";
        insert_token = "insert into @token (id, account, kind, sha256, label, scope, expires_at) \
                        values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing";
        delete_token = "delete from @token where id = $1 returning account";
        token_used = "update @token t set last_used_at = $2 where t.id = any($1) \
                      and (t.last_used_at is null or t.last_used_at < $2)";
        prune_tokens = "delete from @token where expires_at < $1";
    }
}
