//! A token that counts once does so on all pods together.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use granary_core::SubjectName;
use granary_crds::Logins;
use granary_identity::{Authenticators, Identity, MIGRATIONS, Passwords, Providers, Sources, Workloads};
use granary_store::{Migrations, migrate};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::error::SqlState;

use crate::support::Tables;

/// What one pod has; its buckets are never asked.
async fn pod(tables: &Tables) -> Identity {
    let clock = Arc::new(tables.clock.clone());
    // Another test may have been first.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let client = reqwest::Client::new();
    let sources = Sources {
        admins: HashSet::new(),
        passwords: Passwords::default(),
        authenticators: Authenticators::new(
            Vec::new(),
            client.clone(),
            None,
            clock.clone(),
            &Passwords::default(),
        )
        .unwrap(),
        workloads: Workloads::new(Vec::new(), client.clone(), clock.clone()),
        providers: Providers::new(Vec::new(), client, clock.clone()),
        logins: Logins { failures_per_user: 10, failures_per_address: 100, within: Duration::from_mins(5) },
        max_token_lifetime: None,
        session_lifetime: SignedDuration::from_hours(12),
    };
    Identity::new(&tables.store().await, sources)
}

fn issuer(name: &str) -> SubjectName {
    name.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_once_until_it_counts_no_more() {
    let tables = Tables::start().await;
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    tables.clock.set(now);
    let pods = [pod(&tables).await, pod(&tables).await, pod(&tables).await];
    let end = now + SignedDuration::from_mins(5);

    for round in 0..5 {
        let tries: Vec<_> = (0..50)
            .map(|attempt| {
                let pod = pods[attempt % pods.len()].clone();
                tokio::spawn(async move { pod.use_once(&issuer("ci"), &format!("token-{round}"), end).await })
            })
            .collect();
        let mut won = 0;
        for attempt in tries {
            won += usize::from(attempt.await.unwrap().unwrap());
        }
        assert_eq!(won, 1);
    }

    // Issuers do not know of each other's names, and case matters.
    assert!(pods[0].use_once(&issuer("other"), "token-0", end).await.unwrap());
    assert!(pods[0].use_once(&issuer("ci"), "Token-0", end).await.unwrap());
    // The longest there is, of bytes that do not compress.
    let longest: String = (0..512_u32).map(|i| char::from(b'!' + (i * i * 31 % 93) as u8)).collect();
    assert!(pods[0].use_once(&issuer(&"a".repeat(SubjectName::MAX_LENGTH)), &longest, end).await.unwrap());

    // It is remembered for longer than the minute for which it counts beyond its end.
    tables.clock.set(end + SignedDuration::from_secs(120));
    assert_eq!(pods[1].prune_used().await.unwrap(), 0);
    assert!(!pods[2].use_once(&issuer("ci"), "token-0", end).await.unwrap());
    tables.clock.set(end + SignedDuration::from_secs(121));
    assert_eq!(pods[1].prune_used().await.unwrap(), 8);
    assert!(pods[2].use_once(&issuer("ci"), "token-0", end).await.unwrap());
    drop(pods);
    tables.stop().await;
}

#[tokio::test]
async fn a_token_belongs_to_an_account_or_to_a_workload() {
    let first = Migrations { owner: MIGRATIONS.owner, files: &MIGRATIONS.files[..1] };
    let tables = Tables::start_with(&[granary_store::MIGRATIONS, first]).await;
    let client = &tables.client;
    let token = "insert into token (kind, sha256, id, account";
    let hash = "'api', decode(repeat('00', 32), 'hex')";
    let run = |statement: String| async move { client.batch_execute(&statement).await };
    run("insert into account (name) values ('ada')".to_owned()).await.unwrap();
    run(format!("{token}) values ({hash}, 'before', 'ada')")).await.unwrap();

    // What there was stays as it is, and the version before goes on working.
    assert!(!migrate(&tables.options(), &[granary_store::MIGRATIONS, MIGRATIONS]).await.unwrap().is_empty());
    let source: String = client.query_one("select source from account", &[]).await.unwrap().get(0);
    assert_eq!(source, "local");
    run(format!("{token}) values ({hash}, 'after', 'ada')")).await.unwrap();

    run(format!("{token}, workload) values ({hash}, 'ci', null, '{{}}')")).await.unwrap();
    for neither_or_both in [
        format!("{token}, workload) values ({hash}, 'x', 'ada', '{{}}')"),
        format!("{token}, workload) values ({hash}, 'x', null, null)"),
        "update token set account = null where id = 'after'".to_owned(),
    ] {
        let error = run(neither_or_both).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::CHECK_VIOLATION));
        assert_eq!(error.as_db_error().unwrap().constraint(), Some("token_owner"));
    }
    run("delete from account".to_owned()).await.unwrap();
    let left: String = client.query_one("select string_agg(id, ' ') from token", &[]).await.unwrap().get(0);
    assert_eq!(left, "ci");
    tables.stop().await;
}
