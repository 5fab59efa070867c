//! What Postgres' catalogue says about a schema and its roles.

use tokio_postgres::{Error, Transaction};

use super::Roles;

/// Reads within a transaction.
pub(super) struct Catalogue<'a> {
    pub(super) tx: &'a Transaction<'a>,
}

/// The verifier of a role's password.
pub(super) enum RoleState {
    /// Readable; empty where there is no password.
    Known(String),
    /// Only a superuser may read it.
    Hidden,
}

/// A role that is there.
pub(super) struct Role {
    pub(super) comment: Option<String>,
    pub(super) verifier: RoleState,
    /// `login`, `superuser`, `createrole`, `createdb`, `replication`, `bypassrls`, connection limit.
    attributes: (bool, bool, bool, bool, bool, bool, i32),
}

impl Role {
    /// Whether it may log in.
    pub(super) fn may_log_in(&self) -> bool {
        self.attributes.0
    }

    /// The words that take from the role what it should not have, and give what it should. Only those that are
    /// needed: some are a superuser's to say.
    pub(super) fn unwanted(&self) -> Vec<&'static str> {
        let (login, superuser, createrole, createdb, replication, bypass, limit) = self.attributes;
        [
            (!login, "login"),
            (superuser, "nosuperuser"),
            (createrole, "nocreaterole"),
            (createdb, "nocreatedb"),
            (replication, "noreplication"),
            (bypass, "nobypassrls"),
            (limit != -1, "connection limit -1"),
        ]
        .into_iter()
        .filter_map(|(is_needed, words)| is_needed.then_some(words))
        .collect()
    }
}

/// A schema that is there.
pub(super) struct FoundSchema {
    pub(super) owner: String,
    pub(super) comment: Option<String>,
}

/// What the application's role may do already.
#[expect(clippy::struct_excessive_bools, reason = "four independent answers of the catalogue")]
pub(super) struct Rights {
    /// Whether everybody may do something with the schema.
    pub(super) public: bool,
    pub(super) usage: bool,
    /// On every table that is there.
    pub(super) tables: bool,
    /// On every sequence that is there.
    pub(super) sequences: bool,
    /// On those that are to come.
    pub(super) defaults: bool,
}

impl Catalogue<'_> {
    pub(super) async fn schema(&self, name: &str) -> Result<Option<FoundSchema>, Error> {
        let query = "select pg_get_userbyid(nspowner)::text, obj_description(oid, 'pg_namespace') \
                     from pg_namespace where nspname = $1";
        let row = self.tx.query_opt(query, &[&name]).await?;
        row.map(|row| Ok(FoundSchema { owner: row.try_get(0)?, comment: row.try_get(1)? })).transpose()
    }

    pub(super) async fn role(&self, name: &str) -> Result<Option<Role>, Error> {
        let query = "select shobj_description(oid, 'pg_authid'), rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, \
                     rolreplication, rolbypassrls, rolconnlimit, has_table_privilege('pg_catalog.pg_authid', 'select') \
                     from pg_roles where rolname = $1";
        let Some(row) = self.tx.query_opt(query, &[&name]).await? else { return Ok(None) };
        let verifier = if row.try_get(8)? {
            let row = self
                .tx
                .query_one("select coalesce(rolpassword, '') from pg_authid where rolname = $1", &[&name])
                .await?;
            RoleState::Known(row.try_get(0)?)
        } else {
            RoleState::Hidden
        };
        let attributes = (
            row.try_get(1)?,
            row.try_get(2)?,
            row.try_get(3)?,
            row.try_get(4)?,
            row.try_get(5)?,
            row.try_get(6)?,
            row.try_get(7)?,
        );
        Ok(Some(Role { comment: row.try_get(0)?, verifier, attributes }))
    }

    pub(super) async fn may_connect(&self, role: &str) -> Result<bool, Error> {
        let query = "select has_database_privilege($1::text, current_database(), 'connect')";
        self.tx.query_one(query, &[&role]).await?.try_get(0)
    }

    /// Whether the current user can give things to the role and act as it. From Postgres 16 on, who made a role is
    /// a member that may administer it and nothing more.
    pub(super) async fn may_become(&self, role: &str) -> Result<bool, Error> {
        let version = self.tx.query_one("select current_setting('server_version_num')::int", &[]).await?;
        let privilege = if version.try_get::<_, i32>(0)? >= 160_000 { "set" } else { "member" };
        let query = "select pg_has_role(current_user, $1::text, $2)";
        self.tx.query_one(query, &[&role, &privilege]).await?.try_get(0)
    }

    pub(super) async fn tables_of_others(&self, schema: &str, owner: &str) -> Result<Vec<String>, Error> {
        let query = "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
                     where n.nspname = $1 and c.relkind in ('r', 'p', 'v', 'm') \
                     and pg_get_userbyid(c.relowner) <> $2 order by 1";
        self.tx.query(query, &[&schema, &owner]).await?.iter().map(|row| row.try_get(0)).collect()
    }

    pub(super) async fn rights(&self, schema: &str, roles: &Roles) -> Result<Rights, Error> {
        let query = "select \
            exists (select 1 from aclexplode(n.nspacl) a where a.grantee = 0), \
            exists (select 1 from aclexplode(n.nspacl) a where a.grantee = app.oid and a.privilege_type = 'USAGE'), \
            not exists (select 1 from pg_class c where c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm') \
                and (select count(distinct a.privilege_type) from aclexplode(c.relacl) a where a.grantee = app.oid \
                     and a.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) < 4), \
            not exists (select 1 from pg_class c where c.relnamespace = n.oid and c.relkind = 'S' \
                and (select count(distinct a.privilege_type) from aclexplode(c.relacl) a where a.grantee = app.oid \
                     and a.privilege_type in ('SELECT', 'USAGE')) < 2), \
            (select count(distinct (d.defaclobjtype, a.privilege_type)) \
                from pg_default_acl d, aclexplode(d.defaclacl) a \
                where d.defaclrole = owner.oid and d.defaclnamespace = n.oid and a.grantee = app.oid \
                and (d.defaclobjtype, a.privilege_type) in (('r', 'SELECT'), ('r', 'INSERT'), ('r', 'UPDATE'), \
                    ('r', 'DELETE'), ('S', 'SELECT'), ('S', 'USAGE'))) = 6 \
            from pg_namespace n, pg_roles owner, pg_roles app \
            where n.nspname = $1 and owner.rolname = $2 and app.rolname = $3";
        let row = self.tx.query_one(query, &[&schema, &roles.owner, &roles.app]).await?;
        Ok(Rights {
            public: row.try_get(0)?,
            usage: row.try_get(1)?,
            tables: row.try_get(2)?,
            sequences: row.try_get(3)?,
            defaults: row.try_get(4)?,
        })
    }
}
