//! The schema and its roles.

use futures_util::future::join_all;
use granary_store::provision::{
    ProvisionSchemaError, Provisioned, Roles, SchemaPlan, Turn, Unwritable, ensure_schema, role_url,
    schema_version,
};
use granary_store::{Database, MIGRATIONS, migrate};
use secrecy::{ExposeSecret as _, SecretString};

use crate::support::{TestDatabase, connect, options};

fn plan() -> SchemaPlan {
    SchemaPlan {
        turn: Turn::First,
        schema: "granary".parse().unwrap(),
        owner_id: "team/packages".to_owned(),
        owner_password: "owner's \"secret\\".into(),
        app_password: "app secret".into(),
        set_passwords: false,
    }
}

async fn ensure(database: &TestDatabase, plan: &SchemaPlan) -> Result<Provisioned, ProvisionSchemaError> {
    ensure_schema(&options(&database.url), plan).await
}

fn url(database: &TestDatabase, role: &str, password: &SecretString) -> String {
    role_url(&database.url, role, password).unwrap().expose_secret().to_owned()
}

#[tokio::test]
async fn roles_and_schema_are_made_once_and_let_in_whom_they_should() {
    let database = TestDatabase::new().await;
    let plan = plan();
    let made = ensure(&database, &plan).await.unwrap();
    let roles = Roles::of(&database.name, &plan.schema, plan.turn);
    let expected =
        Provisioned { owner_role: roles.owner.clone(), app_role: roles.app.clone(), changed: true };
    assert_eq!(made, expected);
    let again = ensure(&database, &plan).await.unwrap();
    assert!(!again.changed, "nothing is written twice");

    let owner = url(&database, &roles.owner, &plan.owner_password);
    let app = url(&database, &roles.app, &plan.app_password);
    migrate(&options(&owner), &[MIGRATIONS]).await.unwrap();
    assert!(!ensure(&database, &plan).await.unwrap().changed, "the tables came with their grants");
    let app = connect(&app).await.unwrap();
    app.batch_execute(
        "insert into granary.audit (actor, credential, action, outcome) values ('a', 'b', 'c', 'd')",
    )
    .await
    .unwrap();
    app.batch_execute("update granary.audit set actor = 'e'; delete from granary.audit").await.unwrap();
    for forbidden in ["create table granary.x (a int)", "drop table granary.audit", "truncate granary.audit"]
    {
        let refused = app.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "42501", "{forbidden}");
    }
    let stranger = connect(&url(&database, "stranger", &"stranger".into())).await.unwrap();
    let refused = stranger.batch_execute("select * from granary.audit").await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501");
    assert!(connect(&url(&database, &roles.app, &"other".into())).await.is_err());
}

#[tokio::test]
async fn a_password_is_set_when_it_differs() {
    let database = TestDatabase::new().await;
    let mut plan = plan();
    let made = ensure(&database, &plan).await.unwrap();
    plan.app_password = "rotated".into();
    assert!(ensure(&database, &plan).await.unwrap().changed);
    assert!(!ensure(&database, &plan).await.unwrap().changed);
    connect(&url(&database, &made.app_role, &plan.app_password)).await.unwrap();
    // As Postgres itself writes it.
    database.run(&format!("alter role {} password 'by hand'", made.app_role)).await;
    plan.app_password = "by hand".into();
    assert!(!ensure(&database, &plan).await.unwrap().changed);
    for bad in ["", "tab\t", "ümlaut"] {
        plan.app_password = bad.into();
        assert!(matches!(ensure(&database, &plan).await, Err(ProvisionSchemaError::Password("app"))));
    }
}

#[tokio::test]
async fn what_is_somebody_elses_is_not_touched() {
    let database = TestDatabase::new().await;
    let plan = plan();
    let roles = Roles::of(&database.name, &plan.schema, plan.turn);
    database.run("create schema granary").await;
    let refused = ensure(&database, &plan).await.unwrap_err();
    assert!(matches!(&refused, ProvisionSchemaError::SchemaForeign { schema } if schema == "granary"));
    assert!(refused.is_conflict() && !refused.is_unavailable());
    let count =
        format!("select count(*) from pg_roles where rolname in ('{}', '{}')", roles.owner, roles.app);
    assert_eq!(database.row(&count).await.get::<_, i64>(0), 0, "no role was made either");

    database.run(&format!("drop schema granary; create role {} login", roles.app)).await;
    let refused = ensure(&database, &plan).await.unwrap_err();
    assert!(matches!(&refused, ProvisionSchemaError::RoleForeign { role, by: None } if *role == roles.app));
    database.run(&format!("drop role {}", roles.app)).await;

    ensure(&database, &plan).await.unwrap();
    let others = SchemaPlan { owner_id: "other/packages".to_owned(), ..plan.clone() };
    let refused = ensure(&database, &others).await.unwrap_err();
    assert!(matches!(&refused, ProvisionSchemaError::SchemaClaimed { by, .. } if by == "team/packages"));
    database.run("drop schema granary").await;
    let refused = ensure(&database, &others).await.unwrap_err();
    assert!(
        matches!(&refused, ProvisionSchemaError::RoleForeign { by: Some(by), .. } if by == "team/packages")
    );
    // Its own roles are taken up again.
    assert!(ensure(&database, &plan).await.unwrap().changed);
}

#[tokio::test]
async fn an_administrator_need_not_be_a_superuser() {
    let database = TestDatabase::new().await;
    let admin = format!("admin_of_{}", database.name);
    database
        .run(&format!(
            "create role {admin} login createrole noinherit password 'admin'; \
             grant create on database {} to {admin}",
            database.name
        ))
        .await;
    let admin_url = url(&database, &admin, &"admin".into());
    let mut plan = plan();
    let made = ensure_schema(&options(&admin_url), &plan).await.unwrap();
    assert!(made.changed);
    assert!(!ensure_schema(&options(&admin_url), &plan).await.unwrap().changed);
    migrate(&options(&url(&database, &made.owner_role, &plan.owner_password)), &[MIGRATIONS]).await.unwrap();
    assert!(!ensure_schema(&options(&admin_url), &plan).await.unwrap().changed);
    // It cannot compare passwords, so it has to be told.
    plan.app_password = "rotated".into();
    assert!(!ensure_schema(&options(&admin_url), &plan).await.unwrap().changed);
    plan.set_passwords = true;
    assert!(ensure_schema(&options(&admin_url), &plan).await.unwrap().changed);
    connect(&url(&database, &made.app_role, &plan.app_password)).await.unwrap();

    let powerless = url(&database, "stranger", &"stranger".into());
    plan.schema = "another".parse().unwrap();
    let refused = ensure_schema(&options(&powerless), &plan).await.unwrap_err();
    assert!(
        matches!(&refused, ProvisionSchemaError::Denied { role, .. } if role == "stranger"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn drift_is_repaired() {
    let database = TestDatabase::new().await;
    let plan = plan();
    let made = ensure(&database, &plan).await.unwrap();
    migrate(&options(&url(&database, &made.owner_role, &plan.owner_password)), &[MIGRATIONS]).await.unwrap();
    let Provisioned { owner_role: owner, app_role: app, .. } = made;
    for drift in [
        format!("alter role {app} superuser createdb"),
        format!("alter role {owner} nologin"),
        format!("revoke usage on schema granary from {app}"),
        "grant usage on schema granary to public".to_owned(),
        format!("revoke insert on granary.channel from {app}"),
        format!(
            "alter default privileges for role {owner} in schema granary revoke select on tables from {app}"
        ),
        // As after a restore without owners.
        "alter schema granary owner to granary; alter table granary.audit owner to granary".to_owned(),
    ] {
        database.run(&drift).await;
        assert!(ensure(&database, &plan).await.unwrap().changed, "{drift}");
        assert!(!ensure(&database, &plan).await.unwrap().changed, "{drift}");
    }
    let row =
        database.row(&format!("select rolsuper or rolcreatedb from pg_roles where rolname = '{app}'")).await;
    assert!(!row.get::<_, bool>(0));
    let client = connect(&url(&database, &app, &plan.app_password)).await.unwrap();
    client
        .batch_execute("insert into granary.channel_grant select * from granary.channel_grant")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_do_not_race() {
    let database = TestDatabase::new().await;
    let (plan, options) = (plan(), options(&database.url));
    let results = join_all((0..6).map(|_| ensure_schema(&options, &plan))).await;
    let changed = results.into_iter().filter(|result| result.as_ref().unwrap().changed).count();
    assert_eq!(changed, 1);
}

#[tokio::test]
async fn who_answers_is_told_from_who_does_not() {
    let database = TestDatabase::new().await;
    let plan = plan();
    for (url, is_unavailable) in [
        ("postgresql://admin@127.0.0.1:1/x".to_owned(), true),
        (database.url.replace("/test_", "/no_such_"), false),
        (url(&database, "stranger", &"wrong".into()), false),
    ] {
        let failed = ensure_schema(&options(&url), &plan).await.unwrap_err();
        assert!(matches!(failed, ProvisionSchemaError::Connect(_)), "{failed:?}");
        assert_eq!(failed.is_unavailable(), is_unavailable, "{url}");
    }
}

#[tokio::test]
async fn the_schemas_version_says_who_may_write() {
    let database = TestDatabase::new().await;
    let ours = Database::new(&options(&database.url)).unwrap();
    assert_eq!(schema_version(&ours).await.unwrap().check(), Err(Unwritable::NotMigrated));
    migrate(&options(&database.url), &[MIGRATIONS]).await.unwrap();
    let version = schema_version(&ours).await.unwrap();
    assert_eq!(version.applied, Some(version.known));
    assert_eq!(version.check(), Ok(()));
    // A newer program has been here, and gone again.
    database
        .run(
            "insert into granary.migration_store select version + 7, 'x', applied_on, checksum \
              from granary.migration_store where version = 2",
        )
        .await;
    assert_eq!(schema_version(&ours).await.unwrap().check(), Ok(()));
    database.run("update granary.registry set oldest_writer = 9").await;
    let refused = schema_version(&ours).await.unwrap().check();
    assert_eq!(refused, Err(Unwritable::TooNew { oldest_writer: 9, known: version.known }));
}
