//! Files of names and passwords, and the order of sources.

use std::os::unix::fs::symlink;
use std::time::Instant;

use super::*;

const USERS: &str = "\
# Those of the old server.
ada: correct horse
bob:pa:ss # word
  carol  :  $2y$04$il4O5xa7fcgmNYsgCLUphOUhSZ2iBAatwDJg/Vx4VdizYN4Ks0f5C\r
dave: $argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$4mqQiyq0VpIzuZmp+8eSF3YJ7Av58TkEJ4LIdOVsAc4

this line says nothing
erin:
ada: another
frank: $2y$04$broken
grace@ships.example: cobol
";

/// Made by `htpasswd -B -C 4`, `-m`, `-s`, `-d` and `-p`.
const HTPASSWD: &str = "\
bcrypt:$2y$04$Z.slscIeqamKUSmN7odJ4O9Y0ZTiPHr5QFj0OYL8BlRg3DHgYo9li
apr1:$apr1$YoeeCpDs$1qXbYmOG/.JVwxV1M1ZLL/
sha1:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=:Somebody's whole name
crypt:ufMYAPdBaUDnk
plain:secret
";

const ONE_USERS: &str = "  - {name: staff, groups: [employees], users: {key: users}}\n";

#[tokio::test]
async fn a_list_of_users_holds_passwords_and_hashes() {
    let secrets = Secrets::of(&[("users", USERS)]);
    let staff = secrets.authenticators(ONE_USERS);
    assert!(!staff.is_empty());
    for (user, password) in [
        ("ada", "correct horse"),
        ("bob", "pa:ss # word"),
        ("carol", "secret"),
        ("dave", "secret"),
        ("grace@ships.example", "cobol"),
    ] {
        assert_eq!(check(&staff, user, password).await, right("staff", &["employees"]), "{user}");
        for wrong in ["", " ", &password[1..], &format!("{password} "), &password.to_uppercase()] {
            assert_eq!(check(&staff, user, wrong).await, Verdict::Wrong, "{user} {wrong:?}");
        }
    }
    // The first line counts; an empty password and a hash that is none fit nothing, but the names are known.
    for (user, password) in
        [("ada", "another"), ("erin", ""), ("erin", "x"), ("frank", "$2y$04$broken"), ("frank", "secret")]
    {
        assert_eq!(check(&staff, user, password).await, Verdict::Wrong, "{user}");
    }
    for unknown in ["Ada", "nobody", "this"] {
        assert_eq!(check(&staff, unknown, "correct horse").await, Verdict::Unknown, "{unknown}");
    }
}

#[tokio::test]
async fn an_htpasswd_file_holds_three_kinds_of_hashes() {
    let secrets = Secrets::of(&[("htpasswd", HTPASSWD)]);
    let web = secrets.authenticators("  - {name: web, cacheFor: 5m, htpasswd: {key: htpasswd}}\n");
    for user in ["bcrypt", "apr1", "sha1"] {
        let Verdict::Right(known) = check(&web, user, "secret").await else { panic!("{user}") };
        assert_eq!((known.source, known.groups), (name("web"), vec![]));
        assert_eq!(known.cache_for, Duration::from_mins(5));
        assert_eq!(check(&web, user, "Secret").await, Verdict::Wrong, "{user}");
    }
    // crypt(3) and plain passwords are not supported.
    for user in ["crypt", "plain"] {
        assert_eq!(check(&web, user, "secret").await, Verdict::Wrong, "{user}");
    }
    assert_eq!(check(&web, "nobody", "secret").await, Verdict::Unknown);
}

#[tokio::test]
async fn a_file_is_read_again_when_it_has_changed_at_most_once_a_second() {
    let secrets = Secrets::of(&[("users", "ada: one")]);
    let clock = manual_clock();
    let staff = secrets.with(ONE_USERS, None, Arc::new(clock.clone()));
    let is_right = async |password| matches!(check(&staff, "ada", password).await, Verdict::Right(_));
    let later = |milliseconds| clock.set(clock.now() + Duration::from_millis(milliseconds));
    assert!(is_right("one").await);
    secrets.write("users", "ada: three");
    later(999);
    assert!(is_right("one").await);
    later(1);
    assert!(is_right("three").await && !is_right("one").await);

    // Another file of the same length and the same time of change.
    let modified = std::fs::metadata(secrets.path("users")).unwrap().modified().unwrap();
    secrets.write("new", "ada: seven");
    std::fs::File::options().append(true).open(secrets.path("new")).unwrap().set_modified(modified).unwrap();
    std::fs::rename(secrets.path("new"), secrets.path("users")).unwrap();
    later(1000);
    assert!(is_right("seven").await && !is_right("three").await);

    // A clock that is put back keeps nothing alive.
    secrets.write("users", "ada: eleven");
    clock.set(clock.now() - Duration::from_hours(1));
    assert!(is_right("eleven").await);
}

#[tokio::test]
async fn a_mounted_secret_changes_by_its_links() {
    let secrets = Secrets::new();
    // As the kubelet does it: KEY → ..data/KEY, and ..data → a folder with a name of its own.
    let mount = |version: &str, text: &str| {
        std::fs::create_dir(secrets.path(version)).unwrap();
        secrets.write(&format!("{version}/users"), text);
        symlink(version, secrets.path("..data_tmp")).unwrap();
        std::fs::rename(secrets.path("..data_tmp"), secrets.path("..data")).unwrap();
    };
    mount("..1", "ada: one\n");
    symlink("..data/users", secrets.path("users")).unwrap();
    let clock = manual_clock();
    let staff = secrets.with(ONE_USERS, None, Arc::new(clock.clone()));
    assert_eq!(check(&staff, "ada", "one").await, right("staff", &["employees"]));
    mount("..2", "bob: two\n");
    std::fs::remove_dir_all(secrets.path("..1")).unwrap();
    clock.set(clock.now() + Duration::from_secs(1));
    assert_eq!(check(&staff, "ada", "one").await, Verdict::Unknown);
    assert_eq!(check(&staff, "bob", "two").await, right("staff", &["employees"]));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_decides_nothing() {
    let secrets = Secrets::new();
    let clock = manual_clock();
    let staff = secrets.with(ONE_USERS, None, Arc::new(clock.clone()));
    let error = failure(&staff, "ada", "one").await;
    assert!(matches!(&error, AuthenticatorError::Misconfigured { name, .. } if name.as_str() == "staff"));
    secrets.write("users", "ada: one");
    assert_eq!(check(&staff, "ada", "one").await, right("staff", &["employees"]));
    std::fs::write(secrets.path("users"), b"ada: on\xff").unwrap();
    clock.set(clock.now() + Duration::from_secs(1));
    let error = failure(&staff, "ada", "one").await;
    assert!(matches!(error, AuthenticatorError::Misconfigured { .. }), "{error:?}");
    std::fs::remove_file(secrets.path("users")).unwrap();
    assert!(matches!(failure(&staff, "ada", "one").await, AuthenticatorError::Misconfigured { .. }));
}

#[tokio::test]
async fn the_first_source_that_knows_a_name_decides() {
    let secrets =
        Secrets::of(&[("first", "ada: one\nbob: $1$only a hash\n"), ("second", "ada: two\ncarol: three")]);
    let both = secrets.authenticators(
        "  - {name: first, users: {key: first}}\n  - {name: second, cacheFor: 2m, groups: [more], users: {key: second}}\n",
    );
    assert_eq!(check(&both, "ada", "one").await, right("first", &[]));
    assert_eq!(check(&both, "ada", "two").await, Verdict::Wrong);
    assert_eq!(check(&both, "bob", "x").await, Verdict::Wrong);
    let Verdict::Right(carol) = check(&both, "carol", "three").await else { panic!("carol") };
    assert_eq!((carol.source, carol.groups), (name("second"), names(&["more"])));
    assert_eq!(carol.cache_for, Duration::from_mins(2));
    assert_eq!(check(&both, "dave", "x").await, Verdict::Unknown);
    // Who cannot tell might have known the name.
    std::fs::remove_file(secrets.path("first")).unwrap();
    let gone = secrets
        .authenticators("  - {name: first, users: {key: first}}\n  - {name: second, users: {key: second}}\n");
    assert_eq!(failure(&gone, "carol", "three").await.name(), &name("first"));
}

#[tokio::test]
async fn without_a_source_nobody_is_known() {
    let none = Authenticators::new(Vec::new(), client(), None, Arc::new(SystemClock), &Passwords::default())
        .unwrap();
    assert!(none.is_empty());
    assert_eq!(check(&none, "ada", "x").await, Verdict::Unknown);
    assert_eq!(check(&none, "ada", "").await, Verdict::Unknown);
}

#[tokio::test]
async fn debug_output_holds_no_secret() {
    let secrets = Secrets::of(&[("users", "ada: hunter2")]);
    let staff = secrets.authenticators(ONE_USERS);
    check(&staff, "ada", "hunter2").await;
    assert_eq!(format!("{staff:?}"), r#"["staff"]"#);
    assert!(!format!("{:?}", users::read("ada: hunter2\nhunter2")).contains("hunter2"));
}

/// The least of some tries, which is what the work itself takes.
async fn time(authenticators: &Authenticators, user: &str) -> Duration {
    let mut least = Duration::MAX;
    for _ in 0..4 {
        let began = Instant::now();
        assert!(!matches!(check(authenticators, user, "wrong").await, Verdict::Right(_)));
        least = least.min(began.elapsed());
    }
    least
}

#[tokio::test]
async fn an_unknown_name_takes_as_long_as_a_wrong_password() {
    // Cost 11 takes some 100 ms, and the hash of nobody in the registry's own accounts about a fifth of that.
    let hash = bcrypt::hash("secret", 11).unwrap();
    let secrets = Secrets::of(&[("users", &format!("ada: {hash}\nbob: {hash}\n")), ("plain", "carol: x")]);
    let one = secrets.authenticators(ONE_USERS);
    let (wrong, unknown) = (time(&one, "ada").await, time(&one, "nobody").await);
    assert!(unknown > wrong / 2 && unknown < wrong * 2, "{unknown:?} {wrong:?}");
    // Only the last one does the work.
    let two = secrets
        .authenticators("  - {name: first, users: {key: users}}\n  - {name: second, users: {key: plain}}\n");
    assert!(time(&two, "nobody").await < wrong / 3);
}
