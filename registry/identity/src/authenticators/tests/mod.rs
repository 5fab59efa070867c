//! Each source as the configuration makes it, asked through [`Authenticators::check`].

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod directory;
mod files;
mod service;
mod slapd;
mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use granary_core::{ManualClock, SystemClock};
use granary_crds::{read_registry, validate_registry};
use jiff::Timestamp;
use tempfile::TempDir;

use super::*;

/// A folder of secrets.
struct Secrets(TempDir);

impl Secrets {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn of(files: &[(&str, &str)]) -> Self {
        let secrets = Self::new();
        for (key, text) in files {
            secrets.write(key, text);
        }
        secrets
    }

    fn path(&self, key: &str) -> PathBuf {
        self.0.path().join(key)
    }

    fn write(&self, key: &str, text: &str) {
        std::fs::write(self.path(key), text).unwrap();
    }

    /// What a config file with this list of authenticators says.
    fn configured(&self, authenticators: &str) -> Vec<Authenticator> {
        let dir = self.0.path().display();
        let text = format!("identity:\n  secretsDir: {dir}\n  authenticators:\n{authenticators}");
        let spec = read_registry(&text).unwrap().spec;
        validate_registry(&spec).unwrap().identity.authenticators
    }

    fn authenticators(&self, authenticators: &str) -> Authenticators {
        self.with(authenticators, None, Arc::new(SystemClock))
    }

    fn with(
        &self,
        authenticators: &str,
        outbound_ca: Option<&Path>,
        clock: Arc<dyn Clock>,
    ) -> Authenticators {
        let configured = self.configured(authenticators);
        Authenticators::new(
            configured,
            client(),
            outbound_ca.map(Path::to_owned),
            clock,
            &Passwords::default(),
        )
        .unwrap()
    }
}

fn client() -> reqwest::Client {
    // Another test may have been first.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap()
}

fn manual_clock() -> ManualClock {
    ManualClock::new(Timestamp::UNIX_EPOCH)
}

fn name(text: &str) -> SubjectName {
    text.parse().unwrap()
}

fn names(texts: &[&str]) -> Vec<SubjectName> {
    texts.iter().copied().map(name).collect()
}

async fn check(authenticators: &Authenticators, user: &str, password: &str) -> Verdict {
    authenticators.check(&name(user), password.into()).await.unwrap()
}

async fn failure(authenticators: &Authenticators, user: &str, password: &str) -> AuthenticatorError {
    authenticators.check(&name(user), password.into()).await.unwrap_err()
}

fn right(source: &str, groups: &[&str]) -> Verdict {
    Verdict::Right(Known { source: name(source), groups: names(groups), cache_for: Duration::from_mins(1) })
}
