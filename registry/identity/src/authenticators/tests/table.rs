//! A table of a real Postgres.

use std::os::unix::fs::PermissionsExt as _;

use granary_embedded::postgres::{Options, Postgres};
use tokio_postgres::{Client, NoTls};

use super::super::sql::TableError;
use super::*;

const TABLE: &str = "
create table login (name text primary key, hash text, groups text[], number int);
insert into login values
    ('ada', '$2y$04$il4O5xa7fcgmNYsgCLUphOUhSZ2iBAatwDJg/Vx4VdizYN4Ks0f5C', '{team,ops,team,\"no name!\"}'),
    ('bob', '{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=', null),
    ('carol', '$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$4mqQiyq0VpIzuZmp+8eSF3YJ7Av58TkEJ4LIdOVsAc4', '{null,team}'),
    ('dave', '$apr1$b9wKwlEt$ECZHE0HdpKhURwO4vHxBm.', '{}'),
    ('erin', null, '{team}'),
    ('frank', 'secret', '{team}'),
    ('gina', '', '{team}');
create role one login password 'one';
create role two login password 'two';
grant select on login to one, two";

const QUERY: &str = "select hash, groups from login where name = $1";

struct Database {
    postgres: Postgres,
    client: Client,
    url: String,
    _folder: TempDir,
}

impl Database {
    async fn start() -> Self {
        let permissions = std::fs::Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir_in("/tmp").unwrap();
        let postgres = Postgres::start(&Options::new(&folder.path().join("postgres"))).await.unwrap();
        let url = postgres.url();
        let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(TABLE).await.unwrap();
        Self { postgres, client, url, _folder: folder }
    }

    async fn run(&self, statements: &str) {
        self.client.batch_execute(statements).await.unwrap();
    }
}

fn legacy(query: &str) -> String {
    format!("  - {{name: legacy, groups: [old, team], sql: {{urlKey: url, query: \"{query}\"}}}}\n")
}

fn kind(error: AuthenticatorError) -> (bool, TableError) {
    match error {
        AuthenticatorError::Unavailable { source: SourceError::Table(error), .. } => (true, error),
        AuthenticatorError::Misconfigured { source: SourceError::Table(error), .. } => (false, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_table_holds_hashes_and_groups() {
    let database = Database::start().await;
    let secrets = Secrets::of(&[("url", &format!("{}\n", database.url))]);
    // Certificates to trust do not turn TLS on; this server has none.
    let ca = secrets.path("ca.pem");
    let table = secrets.with(&legacy(QUERY), Some(&ca), Arc::new(SystemClock));
    for (user, groups) in [
        ("ada", &["old", "team", "ops"][..]),
        ("bob", &["old", "team"]),
        ("carol", &["old", "team"]),
        ("dave", &["old", "team"]),
    ] {
        assert_eq!(check(&table, user, "secret").await, right("legacy", groups), "{user}");
        assert_eq!(check(&table, user, "Secret").await, Verdict::Wrong, "{user}");
    }
    // No hash, a plain password, and an empty text: none of these is a way in.
    for user in ["erin", "frank", "gina"] {
        assert_eq!(check(&table, user, "secret").await, Verdict::Wrong, "{user}");
        assert_eq!(check(&table, user, "").await, Verdict::Wrong, "{user}");
    }
    assert_eq!(check(&table, "nobody", "secret").await, Verdict::Unknown);

    let hash_only = secrets.authenticators(&legacy("select hash::varchar from login where name = $1"));
    assert_eq!(check(&hash_only, "ada", "secret").await, right("legacy", &["old", "team"]));
    let several = secrets.authenticators(&legacy("select hash from login where name <> $1 or name = 'ada'"));
    assert_eq!(check(&several, "nobody", "secret").await, Verdict::Wrong);
    database.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_query_that_is_of_no_use_is_a_mistake_of_the_configuration() {
    let database = Database::start().await;
    let secrets = Secrets::of(&[("url", &database.url)]);
    for query in [
        "select hash from nowhere where name = $1",
        "select number from login where name = $1",
        "select hash, number from login where name = $1 and hash is null",
        "select hash, name from login where name = $1",
        "select from login where name = $1",
        "select hash from login where number = $1",
        "select hash from login where name = $1 and groups = $2",
        "nonsense $1",
    ] {
        database.run("update login set number = 1").await;
        let table = secrets.authenticators(&legacy(query));
        let user = if query.contains("is null") { "erin" } else { "ada" };
        let (is_unavailable, error) = kind(failure(&table, user, "secret").await);
        assert!(!is_unavailable, "{query}: {error:?}");
    }
    for (url, what) in [
        (database.url.replace("/granary?", "/nowhere?"), "database"),
        (database.url.replace("user=granary", "user=nobody"), "role"),
        ("no url at all".to_owned(), "url"),
    ] {
        secrets.write("url", &url);
        let (is_unavailable, error) =
            kind(failure(&secrets.authenticators(&legacy(QUERY)), "ada", "secret").await);
        assert!(!is_unavailable, "{what}: {error:?}");
    }
    std::fs::remove_file(secrets.path("url")).unwrap();
    let (is_unavailable, error) =
        kind(failure(&secrets.authenticators(&legacy(QUERY)), "ada", "secret").await);
    assert!(!is_unavailable && matches!(error, TableError::Url(_)));
    database.postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_that_is_silent_or_down_is_unavailable_and_a_new_url_counts_at_once() {
    let database = Database::start().await;
    let as_role = |role: &str| database.url.replace("user=granary", &format!("user={role}"));
    let secrets = Secrets::of(&[("url", &as_role("one"))]);
    let table =
        secrets.authenticators(&legacy("select hash, array[current_user::text] from login where name = $1"));
    assert_eq!(check(&table, "ada", "secret").await, right("legacy", &["old", "team", "one"]));
    secrets.write("url", &as_role("two"));
    assert_eq!(check(&table, "ada", "secret").await, right("legacy", &["old", "team", "two"]));

    database.run("begin; lock table login").await;
    let began = std::time::Instant::now();
    let (is_unavailable, error) = kind(failure(&table, "ada", "secret").await);
    assert!(is_unavailable && matches!(error, TableError::NoAnswer(_)), "{error:?}");
    assert!((ANSWER_LIMIT..ANSWER_LIMIT * 3).contains(&began.elapsed()));
    database.run("rollback").await;
    assert_eq!(check(&table, "ada", "secret").await, right("legacy", &["old", "team", "two"]));

    database.postgres.stop().await.unwrap();
    for _ in 0..3 {
        let (is_unavailable, error) = kind(failure(&table, "ada", "secret").await);
        assert!(is_unavailable, "{error:?}");
    }
}
