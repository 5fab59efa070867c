//! A directory: `OpenLDAP`'s server.

use std::time::Instant;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::super::ldap::DirectoryError;
use super::slapd::Slapd;
use super::*;

fn spec(url: &str, more: &str) -> String {
    format!(
        "  - name: corp
    groups: [staff]
    ldap:
      url: {url}
      bindDn: cn=searcher,dc=example
      bindPasswordKey: searcher
      userBase: ou=people,dc=example
      groupBase: ou=groups,dc=example
{more}"
    )
}

fn secrets() -> Secrets {
    Secrets::of(&[("searcher", "finder\n"), ("wrong", "loser")])
}

/// A server, and the secrets for it.
struct Corp {
    server: Slapd,
    secrets: Secrets,
}

impl Corp {
    fn start(security: &str) -> Self {
        Self { server: Slapd::start(security), secrets: secrets() }
    }

    /// Who trusts its certificate.
    fn trusting(&self, spec: &str) -> Authenticators {
        self.secrets.with(spec, Some(&self.server.ca()), Arc::new(SystemClock))
    }

    fn tls(&self) -> String {
        self.server.tls()
    }

    fn plain(&self) -> String {
        self.server.plain()
    }
}

fn kind(error: AuthenticatorError) -> (bool, DirectoryError) {
    match error {
        AuthenticatorError::Unavailable { source: SourceError::Directory(error), .. } => (true, error),
        AuthenticatorError::Misconfigured { source: SourceError::Directory(error), .. } => (false, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_entry_is_found_and_its_password_tried() {
    let server = Corp::start("");
    let corp = server.trusting(&spec(&server.tls(), ""));
    let ada = right("corp", &["staff", "team", "crew"]);
    assert_eq!(sorted(check(&corp, "ada", "correct horse").await), sorted(ada));
    let grace = right("corp", &["staff", "team", "crew", "navy"]);
    assert_eq!(sorted(check(&corp, "grace", "cobol").await), sorted(grace));
    // Without a password a bind would succeed for everybody.
    for wrong in ["", "*", "correct hors", "correct horse ", "cobol", "finder", "\0"] {
        assert_eq!(check(&corp, "ada", wrong).await, Verdict::Wrong, "{wrong:?}");
    }
    for (user, password) in [("locked", "x"), ("locked", ""), ("twin", "same")] {
        assert_eq!(check(&corp, user, password).await, Verdict::Wrong, "{user}");
    }
    assert_eq!(check(&corp, "nobody", "correct horse").await, Verdict::Unknown);
    // Not below `userBase`.
    assert_eq!(check(&corp, "searcher", "finder").await, Verdict::Unknown);

    let by_user = server.trusting(&spec(&server.tls(), "      groupFilter: (&(uid={user})(member={dn}))\n"));
    assert_eq!(check(&by_user, "grace", "cobol").await, right("corp", &["staff", "navy"]));
    let without = spec(&server.tls(), "").replace("      groupBase: ou=groups,dc=example\n", "");
    assert_eq!(check(&server.trusting(&without), "ada", "correct horse").await, right("corp", &["staff"]));
    let narrow = server.trusting(&spec(&server.tls(), "      userFilter: (&(uid={user})(!(sn=Hopper)))\n"));
    assert_eq!(check(&narrow, "grace", "cobol").await, Verdict::Unknown);
}

/// A directory tells groups in an order of its own.
fn sorted(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Right(mut known) => {
            known.groups.sort();
            Verdict::Right(known)
        }
        other => other,
    }
}

#[tokio::test]
async fn a_name_is_never_part_of_the_filter() {
    let server = Corp::start("");
    let [Authenticator { source: AuthenticatorSource::Ldap(ldap), .. }] =
        &server.secrets.configured(&spec(&server.tls(), ""))[..]
    else {
        panic!("no directory")
    };
    client();
    let directory = Directory::new(name("corp"), (**ldap).clone(), Some(&server.server.ca())).unwrap();
    let ask = async |user: &str, password: &str| directory.check(user, &password.into()).await.unwrap();
    assert!(matches!(ask("ada", "correct horse").await, Answer::Right(_)));
    for user in [
        "*",
        "a*",
        "*a",
        "ad\\61",
        "ada)(uid=*",
        "*)(uid=*",
        "ada)(objectClass=*)",
        "*))(|(uid=ada",
        "ada\0",
        "(ada)",
        "",
        "{dn}",
        "{user}",
        "ada,ou=people,dc=example",
        "ädä",
    ] {
        assert_eq!(ask(user, "correct horse").await, Answer::Unknown, "{user:?}");
    }
    // The public way takes no such name in the first place.
    assert!("*)(uid=*".parse::<SubjectName>().is_err());
    assert_eq!(ask("ada", "").await, Answer::Wrong);
}

#[tokio::test]
async fn tls_is_begun_where_it_is_asked_for_and_always_checked() {
    // This server takes passwords over TLS only.
    let server = Corp::start("security simple_bind=128");
    let start_tls = "      startTls: true\n";
    let corp = server.trusting(&spec(&server.plain(), start_tls));
    assert!(matches!(check(&corp, "ada", "correct horse").await, Verdict::Right(_)));
    assert_eq!(check(&corp, "ada", "wrong").await, Verdict::Wrong);

    let (is_unavailable, error) =
        kind(failure(&server.trusting(&spec(&server.plain(), "")), "ada", "x").await);
    assert!(!is_unavailable && matches!(error, DirectoryError::Refused { .. }), "{error:?}");
    for (url, more) in [(server.plain(), start_tls), (server.tls(), "")] {
        // Signed by somebody whom nobody knows, and for another host.
        let stranger = server.secrets.authenticators(&spec(&url, more));
        let elsewhere = server.trusting(&spec(&url.replace("localhost", "127.0.0.1"), more));
        for corp in [stranger, elsewhere] {
            let (is_unavailable, error) = kind(failure(&corp, "ada", "correct horse").await);
            assert!(!is_unavailable && matches!(error, DirectoryError::Protocol(_)), "{error:?}");
        }
    }
}

#[tokio::test]
async fn whoever_may_read_needs_nobody_to_search() {
    let server = Corp::start("");
    let anonymous = |base: &str| {
        server
            .trusting(&format!("  - {{name: corp, ldap: {{url: '{}', userBase: '{base}'}}}}\n", server.tls()))
    };
    assert_eq!(check(&anonymous("ou=public,dc=example"), "open", "sesame").await, right("corp", &[]));
    assert_eq!(check(&anonymous("ou=public,dc=example"), "open", "wrong").await, Verdict::Wrong);
    let (is_unavailable, error) =
        kind(failure(&anonymous("ou=people,dc=example"), "ada", "correct horse").await);
    assert!(!is_unavailable && matches!(error, DirectoryError::Refused { .. }), "{error:?}");
}

#[tokio::test]
async fn mistakes_and_outages_are_told_apart() {
    let mut server = Corp::start("");
    let good = spec(&server.tls(), "");
    let mistakes = [
        good.replace("bindPasswordKey: searcher", "bindPasswordKey: wrong"),
        good.replace("bindPasswordKey: searcher", "bindPasswordKey: missing"),
        good.replace("cn=searcher", "cn=nobody"),
        good.replace("ou=people", "ou=nowhere"),
        good.replace("ou=groups", "ou=nowhere"),
        good.replace("ou=people,dc=example", "people"),
        spec(&server.tls(), "      userFilter: (uid={user}\n"),
    ];
    for mistake in mistakes {
        let (is_unavailable, error) = kind(failure(&server.trusting(&mistake), "ada", "correct horse").await);
        assert!(!is_unavailable, "{mistake} {error:?}");
        assert!(!format!("{error:?}").contains("horse"));
    }
    let corp = server.trusting(&good);
    assert!(matches!(check(&corp, "ada", "correct horse").await, Verdict::Right(_)));
    server.server.stop();
    for spec in [good, spec(&server.plain(), "      startTls: true\n"), spec(&server.plain(), "")] {
        let (is_unavailable, error) = kind(failure(&server.trusting(&spec), "ada", "correct horse").await);
        assert!(is_unavailable && matches!(error, DirectoryError::Protocol(_)), "{error:?}");
    }
    // A file of certificates that is none is noticed at once.
    let configured = server.secrets.configured(&spec(&server.tls(), ""));
    let nowhere = Some(PathBuf::from("/nowhere/ca.pem"));
    let error =
        Authenticators::new(configured, client(), nowhere, Arc::new(SystemClock), &Passwords::default())
            .unwrap_err();
    assert!(matches!(error, AuthenticatorError::Misconfigured { .. }), "{error:?}");
}

#[tokio::test]
async fn what_does_not_speak_ldap_is_unavailable() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("ldap://{}", listener.local_addr().unwrap());
    let secrets = secrets();
    let corp = secrets.authenticators(&spec(&url, ""));
    // Nobody takes the connection up.
    let began = Instant::now();
    let (is_unavailable, error) = kind(failure(&corp, "ada", "x").await);
    assert!(is_unavailable && matches!(error, DirectoryError::NoAnswer(_)), "{error:?}");
    assert!((ANSWER_LIMIT..ANSWER_LIMIT * 3).contains(&began.elapsed()));
    // Nothing, noise, a message that is no sequence, and the answer to a bind in which something is missing.
    let answers: [&'static [u8]; 5] = [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x04\x03abc",
        b"\x30\x05\x02\x01\x01\x61\x00",
        b"\x30\x03\x02\x01\x01",
    ];
    tokio::spawn(async move {
        drop(listener.accept().await);
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(answer).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    for answer in answers {
        let (is_unavailable, error) = kind(failure(&corp, "ada", "x").await);
        assert!(is_unavailable, "{answer:?} {error:?}");
        eprintln!("DEBUG {answer:?} {error:?}");
    }
}
