#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use granary_core::{ChannelName, Format, GrantSource, Role, Subject};
use serde_json::json;

use super::*;
use crate::{ChannelSpec, PackageRegistrySpec, Problem, PyPiSettings, SecretSource};

fn channel(spec: serde_json::Value) -> Result<ValidChannel, Vec<Problem>> {
    let spec: ChannelSpec = serde_json::from_value(spec).expect("the spec has the right shape");
    validate_channel_spec("main", Some("team"), &spec)
}

fn registry(spec: serde_json::Value) -> Result<ValidRegistry, Vec<Problem>> {
    let spec: PackageRegistrySpec = serde_json::from_value(spec).expect("the spec has the right shape");
    validate_registry(&spec)
}

fn paths(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.path.as_str()).collect()
}

#[test]
fn the_least_channel_is_private_hosted_and_named_after_its_object() {
    let valid = channel(json!({"format": "pypi"})).unwrap();
    assert_eq!(valid.name, ChannelName::parse(Format::PyPi, "main").unwrap());
    assert_eq!(valid.grants, []);
    assert_eq!(valid.settings, ChannelSettings::default());
    assert_eq!(valid.bucket.abort_incomplete_uploads_after_days, 2);
    assert_eq!(validate_channel_spec("main", Some("team"), &ChannelSpec::new(Format::PyPi)).unwrap(), valid);
}

#[test]
fn visibility_and_permissions_become_grants_of_the_resource() {
    let valid = channel(json!({
        "format": "pypi",
        "visibility": "public",
        "permissions": [
            {"subjects": ["user:ada", "group:team"], "role": "Publisher", "packages": ["acme-*"], "except": ["acme-core"]},
        ],
    }))
    .unwrap();
    assert_eq!(valid.grants.len(), 2);
    assert_eq!(
        (&valid.grants[0].subjects[..], valid.grants[0].role),
        (&[Subject::Anonymous][..], Role::Reader)
    );
    assert_eq!(valid.grants[1].subjects.len(), 2);
    assert_eq!(valid.grants[1].except[0].as_str(), "acme-core");
    assert!(valid.grants.iter().all(|grant| grant.source == GrantSource::Resource));
    let internal = channel(json!({"format": "pypi", "visibility": "internal"})).unwrap();
    assert_eq!(internal.grants[0].subjects, [Subject::Authenticated]);
}

#[test]
fn settings_go_to_the_store_and_come_back() {
    let valid = channel(json!({
        "format": "pypi",
        "title": "Main",
        "description": "Line\nLine",
        "pypi": {"allowOverwrite": true},
        "downloads": {"redirect": true},
        "limits": {"maxUploadSize": "2Gi"},
    }))
    .unwrap();
    assert_eq!(valid.settings.max_upload_size, Some(2 << 30));
    assert_eq!(valid.settings.pypi, PyPiSettings { allow_overwrite: true });
    let stored = serde_json::to_value(&valid.settings).unwrap();
    assert_eq!(serde_json::from_value::<ChannelSettings>(stored).unwrap(), valid.settings);
    let newer = json!({"title": "Main", "unheardOf": 1});
    assert_eq!(serde_json::from_value::<ChannelSettings>(newer).unwrap().title.as_deref(), Some("Main"));
}

#[test]
fn the_bucket_is_the_named_one_or_made_from_the_channel() {
    let naming = crate::BucketNaming::new("granary-", "").unwrap();
    let named = channel(json!({"format": "pypi", "bucket": {"name": "old-wheels", "adopt": true}})).unwrap();
    assert_eq!(named.bucket_name(&naming).as_str(), "old-wheels");
    let made = channel(json!({"format": "pypi"})).unwrap();
    assert_eq!(made.bucket_name(&naming).as_str(), "granary-pypi-main");
    let kms =
        channel(json!({"format": "pypi", "bucket": {"encryption": {"type": "aws:kms", "kmsKeyId": "k"}}}))
            .unwrap();
    assert_eq!(kms.bucket.encryption, Encryption::Kms { key_id: Some("k".to_owned()) });
}

#[test]
fn all_problems_of_a_channel_are_told_at_once() {
    let problems = channel(json!({
        "registryRef": {"name": "Packages"},
        "name": "a/b/c",
        "format": "pypi",
        "title": "two\nlines",
        "conda": {},
        "source": {"hosted": {}, "proxy": {"url": "https://upstream.example"}},
        "limits": {"maxUploadSize": "much"},
        "permissions": [
            {"subjects": [], "role": "Reader"},
            {"subjects": ["ada", "user:ada"], "role": "Reader", "packages": ["Acme_Tools", "*********"], "except": ["a.b"]},
        ],
        "bucket": {
            "name": "Wheels",
            "encryption": {"kmsKeyId": "k"},
            "lifecycle": {"abortIncompleteUploadsAfterDays": 0},
        },
    }))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.registryRef.name",
            "spec.name",
            "spec.conda",
            "spec.title",
            "spec.limits.maxUploadSize",
            "spec.source",
            "spec.source.proxy",
            "spec.permissions[0].subjects",
            "spec.permissions[1].subjects[0]",
            "spec.permissions[1].packages[0]",
            "spec.permissions[1].packages[1]",
            "spec.permissions[1].except[0]",
            "spec.bucket.name",
            "spec.bucket.encryption.kmsKeyId",
            "spec.bucket.lifecycle.abortIncompleteUploadsAfterDays",
        ]
    );
    let message = |path: &str| problems.iter().find(|problem| problem.path == path).unwrap().message.as_str();
    assert!(message("spec.source.proxy").contains("of the format pypi are not served yet"));
    assert!(message("spec.permissions[1].packages[0]").contains("`acme-tools`"));
    assert!(message("spec.permissions[1].subjects[0]").contains("user:NAME"));
}

#[test]
fn a_channel_named_after_an_object_with_a_bad_name_says_so_there() {
    let spec = ChannelSpec::new(Format::Conda);
    let problems = validate_channel_spec("Main", None, &spec).unwrap_err();
    assert_eq!(paths(&problems), ["metadata.name"]);
}

#[test]
fn five_hundred_permissions_are_enough() {
    let permission = json!({"subjects": ["anonymous"], "role": "Reader"});
    assert!(channel(json!({"format": "pypi", "permissions": vec![permission.clone(); 500]})).is_ok());
    let problems = channel(json!({"format": "pypi", "permissions": vec![permission; 501]})).unwrap_err();
    assert_eq!(paths(&problems), ["spec.permissions"]);
}

#[test]
fn an_empty_registry_has_its_documented_defaults() {
    let valid = registry(json!({})).unwrap();
    assert_eq!(valid.database, None);
    assert_eq!(valid.limits.max_upload_size, 1 << 30);
    assert_eq!(valid.backup_retention, Duration::from_hours(168));
    assert_eq!(valid.listen.len(), 1);
    assert_eq!(valid.trusted_proxies, []);
}

#[test]
fn a_registry_of_every_part() {
    let valid = registry(json!({
        "database": {"urlFile": "/run/url", "directUrl": "postgresql://direct/db", "schema": "packages",
                     "clientCertFile": "/c", "clientKeyFile": "/k"},
        "objectStore": {"endpoint": "http://store:9000/", "accessKeyId": "id", "secretAccessKeyFile": "/run/key"},
        "listen": ["[::]:8080", "unix:/run/g.sock?mode=660"],
        "publicUrl": "https://packages.example",
        "proxy": {"trusted": ["10.0.0.0/8"]},
        "cache": {"maxSize": 0},
        "admins": {"initial": {"name": "root", "passwordFile": "/run/password"}, "users": ["ada@example.org"]},
    }))
    .unwrap();
    let database = valid.database.unwrap();
    assert_eq!(database.url, SecretSource::File(PathBuf::from("/run/url")));
    assert_eq!(database.migration_url().load().unwrap().expose(), "postgresql://direct/db");
    assert_eq!(database.client_certificate, Some((PathBuf::from("/c"), PathBuf::from("/k"))));
    let store = valid.object_store.unwrap();
    assert_eq!(store.endpoint.unwrap().as_str(), "http://store:9000");
    assert!(store.access_key.is_some());
    assert_eq!(valid.cache.max_size, 0);
    assert_eq!(valid.admins.initial.unwrap().password, PasswordSource::File(PathBuf::from("/run/password")));
}

#[test]
fn all_problems_of_a_registry_are_told_at_once_and_without_secrets() {
    let problems = registry(json!({
        "database": {"url": "mysql://hunter2", "urlFile": "/x", "schema": "public", "maxConnections": 0, "clientCertFile": "/c"},
        "objectStore": {"endpoint": "store:9000", "bucketPrefix": "Granary-", "accessKeyId": "hunter2"},
        "listen": ["8080"],
        "publicUrl": "packages.example",
        "proxy": {"trusted": ["10.1.2.3/8"]},
        "outbound": {"httpsProxy": "hunter2"},
        "limits": {"requestTimeout": "30", "uploadBuffers": 0},
        "backupRetention": "a week",
        "admins": {"initial": {"passwordHash": "hunter2"}, "users": ["a b"]},
        "jobs": {"collectEvery": "0s"},
    }))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.database.url",
            "spec.database.url",
            "spec.database.schema",
            "spec.database.maxConnections",
            "spec.database.clientKeyFile",
            "spec.objectStore.endpoint",
            "spec.objectStore.bucketPrefix",
            "spec.objectStore.secretAccessKey",
            "spec.listen[0]",
            "spec.publicUrl",
            "spec.proxy.trusted[0]",
            "spec.outbound.httpsProxy",
            "spec.limits.requestTimeout",
            "spec.limits.uploadBuffers",
            "spec.backupRetention",
            "spec.admins.initial.passwordHash",
            "spec.admins.users[0]",
            "spec.jobs.collectEvery",
        ]
    );
    assert!(!format!("{problems:?}").contains("hunter2"));
}

#[test]
fn a_spec_that_is_printed_shows_no_secret() {
    let spec: PackageRegistrySpec = serde_json::from_value(json!({
        "database": {"url": "postgresql://u:hunter2@h/d"},
        "objectStore": {"accessKeyId": "hunter2", "secretAccessKey": "hunter2"},
        "outbound": {"httpsProxy": "http://u:hunter2@proxy:1"},
        "admins": {"initial": {"passwordHash": "$argon2id$hunter2"}},
    }))
    .unwrap();
    let printed =
        format!("{spec:?} {} {:?}", serde_json::to_string(&spec).unwrap(), validate_registry(&spec).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn all_problems_of_the_sources_of_identity_are_told_at_once() {
    let issuer = |name: &str, url: &str| json!({"name": name, "url": url, "audiences": ["granary"]});
    let problems = registry(json!({"identity": {
        "issuers": [
            issuer("ci", "https://issuer.example"),
            issuer("ci", "https://other.example"),
            issuer("twin", "https://issuer.example"),
            {"name": "none", "url": "https://third.example", "audiences": []},
            {"name": "both", "url": "https://fourth.example", "audiences": ["granary"],
                "jwksUrl": "https://fourth.example/keys", "jwksFile": "/keys"},
        ],
        "authenticators": [
            {"name": "local", "users": {"key": "users"}},
            {"name": "two", "users": {"key": "users"}, "htpasswd": {"key": "../htpasswd"}},
            {"name": "table", "sql": {"urlKey": "url", "query": "select hash from people"}},
            {"name": "directory", "ldap": {"url": "https://ldap.example", "userBase": "dc=example",
                "userFilter": "(uid=ada)", "bindDn": "cn=granary"}},
        ],
        "secretsDir": "/secrets",
        "passwords": {"memory": "1Mi"},
        "logins": {"failuresPerUser": 0, "within": "0s"},
    }}))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.identity.passwords.memory",
            "spec.identity.logins.failuresPerUser",
            "spec.identity.logins.within",
            "spec.identity.issuers[1].name",
            "spec.identity.issuers[2].url",
            "spec.identity.issuers[3].audiences",
            "spec.identity.issuers[4].jwksUrl",
            "spec.identity.authenticators[0].name",
            "spec.identity.authenticators[1].htpasswd.key",
            "spec.identity.authenticators[1]",
            "spec.identity.authenticators[2].sql.query",
            "spec.identity.authenticators[3].ldap.url",
            "spec.identity.authenticators[3].ldap.userFilter",
            "spec.identity.authenticators[3].ldap.bindDn",
        ]
    );
}

#[test]
fn identity_providers_have_their_defaults() {
    let valid = registry(json!({"identity": {
        "secretsDir": "/run/secrets",
        "providers": [
            {"name": "company", "title": "Company", "groups": ["people"],
             "oidc": {"issuer": "https://issuer.example/", "clientId": "granary", "clientSecretKey": "company"}},
            {"name": "public", "oidc": {"issuer": "https://other.example", "clientId": "granary"}},
            {"name": "github", "github": {"clientId": "id", "clientSecretKey": "github", "organizations": ["acme"]}},
            {"name": "server", "github": {"url": "https://git.example", "clientId": "id", "clientSecretKey": "github",
             "organizations": ["acme", "Other-Org"]}},
            {"name": "apart", "github": {"url": "https://git.example", "apiUrl": "https://api.git.example",
             "clientId": "id", "clientSecretKey": "github", "organizations": ["acme"]}},
        ],
        "sessions": {"lifetime": "30m"},
    }}))
    .unwrap()
    .identity;
    assert_eq!(valid.sessions.lifetime, Duration::from_mins(30));
    let titles: Vec<&str> = valid.providers.iter().map(|provider| provider.title.as_str()).collect();
    assert_eq!(titles, ["Company", "public", "github", "server", "apart"]);
    let ProviderKind::Oidc(oidc) = &valid.providers[0].kind else { panic!() };
    // Exactly as it is written: tokens name it so.
    assert_eq!(oidc.issuer, "https://issuer.example/");
    assert_eq!(oidc.client_secret, Some(SecretSource::File(PathBuf::from("/run/secrets/company"))));
    assert_eq!(oidc.scopes, ["openid", "profile", "email"]);
    assert_eq!((&*oidc.username_claim, &*oidc.groups_claim), ("preferred_username", "groups"));
    let ProviderKind::Oidc(public) = &valid.providers[1].kind else { panic!() };
    assert_eq!(public.client_secret, None);
    let apis: Vec<&str> = valid.providers[2..]
        .iter()
        .map(|provider| match &provider.kind {
            ProviderKind::GitHub(github) => github.api_url.as_str(),
            ProviderKind::Oidc(_) => panic!(),
        })
        .collect();
    assert_eq!(apis, ["https://api.github.com", "https://git.example/api/v3", "https://api.git.example"]);
    let absent = registry(json!({})).unwrap().identity;
    assert_eq!((absent.providers.len(), absent.sessions.lifetime), (0, Duration::from_hours(12)));
}

#[test]
fn what_is_wrong_with_an_identity_provider_is_told_by_its_path() {
    let oidc = json!({"issuer": "https://issuer.example", "clientId": "granary"});
    let github = json!({"clientId": "id", "clientSecretKey": "github", "organizations": ["acme"]});
    let problems = registry(json!({"identity": {
        "secretsDir": "/run/secrets",
        "authenticators": [{"name": "list", "users": {"key": "users"}}],
        "providers": [
            {"name": "a/b", "oidc": oidc},
            {"name": "none"},
            {"name": "both", "oidc": oidc, "github": github},
            {"name": "list", "oidc": oidc},
            {"name": "local", "oidc": oidc},
            {"name": "urls", "title": " ", "oidc": {"issuer": "issuer.example", "clientId": "", "scopes": ["profile"],
             "usernameClaim": ""}},
            {"name": "scopes", "oidc": {"issuer": "https://issuer.example", "clientId": "x", "scopes": ["openid profile"],
             "clientSecretKey": "../x"}},
            {"name": "anybody", "github": {"clientId": "id", "clientSecretKey": "github", "organizations": []}},
        ],
        "sessions": {"lifetime": "0s"},
    }}))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.identity.providers[0].name",
            "spec.identity.providers[1]",
            "spec.identity.providers[2]",
            "spec.identity.providers[3].name",
            "spec.identity.providers[4].name",
            "spec.identity.providers[5].title",
            "spec.identity.providers[5].oidc.issuer",
            "spec.identity.providers[5].oidc.clientId",
            "spec.identity.providers[5].oidc.usernameClaim",
            "spec.identity.providers[5].oidc.scopes",
            "spec.identity.providers[6].oidc.scopes",
            "spec.identity.providers[6].oidc.clientSecretKey",
            "spec.identity.providers[7].github.organizations",
            "spec.identity.sessions.lifetime",
        ]
    );
    let without_folder = registry(json!({"identity": {"providers": [{"name": "github", "github": github}]}}));
    assert_eq!(paths(&without_folder.unwrap_err()), ["spec.identity.providers[0].github.clientSecretKey"]);
}

#[test]
fn packages_may_come_from_elsewhere() {
    let source = |source: serde_json::Value| channel(json!({"format": "conda", "source": source}));
    let proxied = source(
        json!({"proxy": {"url": "https://upstream.example/main/", "include": ["acme-*"], "revalidateAfter": "90s"}}),
    );
    let Source::Proxy(proxy) = proxied.unwrap().settings.source else { panic!() };
    assert_eq!((proxy.url.as_str(), proxy.revalidate_after_ms), ("https://upstream.example/main", 90_000));
    assert!(!proxy.allow_private_addresses);
    let copied = source(
        json!({"mirror": {"url": "https://upstream.example/main", "include": ["python 3.13.*"], "removal": "follow"}}),
    );
    let Source::Mirror(mirror) = copied.unwrap().settings.source else { panic!() };
    assert!(mirror.follow_removal && mirror.schedule_ms == 3_600_000);
    let seen = source(json!({"virtual": {"channels": ["first", "second"]}})).unwrap();
    let Source::Virtual(union) = &seen.settings.source else { panic!() };
    assert!(!union.is_flexible);
    // As the store keeps it.
    let kept = serde_json::to_value(&seen.settings).unwrap();
    assert_eq!(serde_json::from_value::<ChannelSettings>(kept).unwrap(), seen.settings);
    assert_eq!(serde_json::from_value::<ChannelSettings>(json!({})).unwrap().source, Source::Hosted);
}

#[test]
fn all_problems_of_a_source_are_told_at_once() {
    let problems = channel(json!({"name": "own", "format": "conda", "source": {
        "proxy": {"url": "ftp://upstream.example", "include": ["a b"], "revalidateAfter": "soon"},
        "mirror": {"url": "upstream", "subdirs": ["Linux"], "exclude": ["a 1 0 x"], "schedule": "5s"},
        "virtual": {"channels": ["own", "a/b", "c", "c"]},
    }}))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.source",
            "spec.source.proxy.url",
            "spec.source.proxy.include[0]",
            "spec.source.proxy.revalidateAfter",
            "spec.source.mirror.url",
            "spec.source.mirror.subdirs[0]",
            "spec.source.mirror.exclude[0]",
            "spec.source.mirror.schedule",
            "spec.source.virtual.channels[0]",
            "spec.source.virtual.channels[1]",
            "spec.source.virtual.channels[3]",
        ]
    );
}

#[test]
fn the_settings_of_a_conda_channel_hold_together() {
    let notice = json!({"id": "n", "message": "m", "createdAt": "2026-03-01T12:00:00Z", "expiresAt": "2026-04-01T00:00:00+02:00"});
    let valid = channel(json!({"format": "conda", "conda": {"notices": [notice]}})).unwrap();
    assert!(valid.settings.conda.current_repodata);
    assert_eq!(valid.settings.conda.notices[0].id, "n");
    let timeless = json!({"id": "n", "message": "m", "createdAt": "yesterday", "expiresAt": "2026-04-01"});
    let problems = channel(json!({
        "format": "conda",
        "conda": {"notices": [notice, timeless], "repodataPatches": {"package": "No Name"}},
    }))
    .unwrap_err();
    assert_eq!(
        paths(&problems),
        [
            "spec.conda.notices",
            "spec.conda.notices[1].createdAt",
            "spec.conda.notices[1].expiresAt",
            "spec.conda.repodataPatches.package",
        ]
    );
}
