//! The keys of one issuer, kept while they are fresh, and longer while the issuer cannot be asked.
//!
//! Every fetch is a task of its own that all who wait for it share: who hangs up ends it for nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use granary_core::{Clock, Sha256, report};
use granary_crds::{Issuer, KeySource};
use jiff::{SignedDuration, Timestamp};
use reqwest::Client;
use tokio::sync::watch;

use super::fetch::{Fetched, FileVersion, KeysError, fetch};
use super::key_set::{KeyError, KeySet};
use super::token::Unverified;

/// How long keys are used after the last fetch that succeeded, if later ones fail.
const STALE: SignedDuration = SignedDuration::from_hours(24);
/// How often at most a key that is not among those known is looked for, and how often an issuer that fails is asked.
const PAUSE: SignedDuration = SignedDuration::from_secs(10);
/// How often an issuer that fails is asked while nothing of it is known; and a file.
const SHORT_PAUSE: SignedDuration = SignedDuration::from_secs(1);
/// How often at most a failure is logged.
const WARN_EVERY: SignedDuration = SignedDuration::from_secs(60);

/// An issuer with its keys.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) issuer: Issuer,
    http: Client,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    kept: Option<Kept>,
    /// Closed when the fetch is over. The sender is the task's, so that it closes however the task ends.
    fetching: Option<watch::Receiver<()>>,
    /// The last fetch failed, and when.
    failure: Option<(Timestamp, Arc<KeysError>)>,
    /// When a key was last looked for that was not among those known.
    sought_at: Option<Timestamp>,
    warned_at: Option<Timestamp>,
}

#[derive(Debug)]
struct Kept {
    set: Arc<KeySet>,
    version: Option<FileVersion>,
    fetched_at: Timestamp,
    fresh_for: SignedDuration,
}

/// Keys to check a token with.
#[derive(Debug)]
struct Held {
    set: Arc<KeySet>,
    /// They were fetched for this very call: there are no newer ones.
    is_new: bool,
}

/// Why a token is not known to be signed by its issuer.
#[derive(Debug)]
pub(crate) enum Untrue {
    /// The keys cannot be had.
    Keys(Arc<KeysError>),
    /// No key makes the signature true.
    Key(KeyError),
}

impl Kept {
    /// A clock that was set back makes nothing fresh.
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.fetched_at);
        !age.is_negative() && age < self.fresh_for
    }

    fn is_usable(&self, now: Timestamp) -> bool {
        now.duration_since(self.fetched_at) <= STALE
    }
}

impl State {
    fn usable(&self, now: Timestamp) -> Option<&Kept> {
        self.kept.as_ref().filter(|kept| kept.is_usable(now))
    }

    /// What there is without asking.
    fn held(&self, now: Timestamp) -> Result<Arc<KeySet>, Arc<KeysError>> {
        match (self.usable(now), &self.failure) {
            (Some(kept), _) => Ok(Arc::clone(&kept.set)),
            (None, Some((_, failure))) => Err(Arc::clone(failure)),
            (None, None) => Err(Arc::new(KeysError::Interrupted)),
        }
    }

    /// Whether the issuer failed so lately that it is not asked again yet.
    fn is_resting(&self, now: Timestamp, source: &KeySource) -> bool {
        let is_long = self.usable(now).is_some() && !matches!(source, KeySource::File(_));
        let pause = if is_long { PAUSE } else { SHORT_PAUSE };
        self.failure.as_ref().is_some_and(|(at, _)| is_within(*at, now, pause))
    }
}

/// Whether `at` is less than `span` ago. What lies ahead, by a clock that was set back, is not.
fn is_within(at: Timestamp, now: Timestamp, span: SignedDuration) -> bool {
    let age = now.duration_since(at);
    !age.is_negative() && age < span
}

impl Source {
    pub(crate) fn new(issuer: Issuer, http: Client, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { issuer, http, clock, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a key is among those that are fresh.
    pub(crate) fn trusts(&self, key: &Sha256) -> bool {
        let now = self.clock.now();
        self.state().kept.as_ref().is_some_and(|kept| kept.is_fresh(now) && kept.set.holds(key))
    }

    /// The fingerprint of the key that signed the token. Asks for keys where those at hand are not fresh, or lack the one
    /// that the token names.
    pub(crate) async fn verify(self: &Arc<Self>, token: &Unverified<'_>) -> Result<Sha256, Untrue> {
        let held = self.keys().await.map_err(Untrue::Keys)?;
        match held.set.verify(token) {
            Err(error) if may_be_of_a_new_key(error, token) && !held.is_new => {
                let newer = self.newer(&held.set).await.ok_or(Untrue::Key(error))?;
                newer.verify(token).map_err(Untrue::Key)
            }
            known => known.map_err(Untrue::Key),
        }
    }

    /// The keys, fetched where those at hand are not fresh.
    async fn keys(self: &Arc<Self>) -> Result<Held, Arc<KeysError>> {
        let fetching = {
            let now = self.clock.now();
            let mut state = self.state();
            let is_fresh = state.kept.as_ref().is_some_and(|kept| kept.is_fresh(now));
            if is_fresh || state.is_resting(now, &self.issuer.keys) {
                return state.held(now).map(|set| Held { set, is_new: false });
            }
            self.fetching(&mut state)
        };
        over(fetching).await;
        let set = self.state().held(self.clock.now())?;
        Ok(Held { set, is_new: true })
    }

    /// Newer keys than `old`, which lack one that a token names: those at hand by now, or those of another fetch, unless
    /// one was made for the same reason within 10 s. Whoever invents keys makes no flood of requests.
    async fn newer(self: &Arc<Self>, old: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let is_newer = |set: &Arc<KeySet>| !Arc::ptr_eq(set, old);
        let fetching = {
            let now = self.clock.now();
            let mut state = self.state();
            if let Some(set) = state.held(now).ok().filter(is_newer) {
                return Some(set);
            }
            let is_sought = state.sought_at.is_some_and(|at| is_within(at, now, PAUSE));
            let is_fetching = state.fetching.as_ref().is_some_and(is_running);
            if !is_fetching {
                if is_sought || state.is_resting(now, &self.issuer.keys) {
                    return None;
                }
                state.sought_at = Some(now);
            }
            self.fetching(&mut state)
        };
        over(fetching).await;
        self.state().held(self.clock.now()).ok().filter(is_newer)
    }

    /// The fetch that is under way, or a new one.
    fn fetching(self: &Arc<Self>, state: &mut State) -> watch::Receiver<()> {
        if let Some(fetching) = state.fetching.as_ref().filter(|fetching| is_running(fetching)) {
            return fetching.clone();
        }
        let (done, fetching) = watch::channel(());
        let version = state.kept.as_ref().and_then(|kept| kept.version.clone());
        state.fetching = Some(fetching.clone());
        let source = Arc::clone(self);
        tokio::spawn(async move {
            source.fetch(version).await;
            drop(done);
        });
        fetching
    }

    async fn fetch(&self, version: Option<FileVersion>) {
        // The answer is at least as old as the question.
        let fetched_at = self.clock.now();
        let fetched = fetch(&self.http, &self.issuer, version.as_ref()).await;
        let mut state = self.state();
        let span = |fresh_for| SignedDuration::try_from(fresh_for).unwrap_or(SignedDuration::ZERO);
        match fetched {
            Ok(Fetched::Keys { set, fresh_for, version }) => {
                if set.is_empty() {
                    tracing::warn!(issuer = %self.issuer.name, "the issuer has no key that could sign a token");
                }
                let (set, fresh_for) = (Arc::new(set), span(fresh_for));
                state.kept = Some(Kept { set, version, fetched_at, fresh_for });
                state.failure = None;
            }
            Ok(Fetched::Unchanged { fresh_for }) => {
                if let Some(kept) = &mut state.kept {
                    kept.fetched_at = fetched_at;
                    kept.fresh_for = span(fresh_for);
                }
                state.failure = None;
            }
            Err(error) => self.failed(&mut state, error),
        }
    }

    fn failed(&self, state: &mut State, error: KeysError) {
        let now = self.clock.now();
        if !state.warned_at.is_some_and(|at| is_within(at, now, WARN_EVERY)) {
            state.warned_at = Some(now);
            let (issuer, error) = (&self.issuer.name, report(&error));
            match state.usable(now) {
                Some(kept) => {
                    tracing::warn!(%issuer, error, since = %kept.fetched_at, "the keys of an issuer cannot be had; those of before are used");
                }
                None => {
                    tracing::warn!(%issuer, error, "the keys of an issuer cannot be had; its tokens are refused");
                }
            }
        }
        state.failure = Some((now, Arc::new(error)));
    }
}

fn is_running(fetching: &watch::Receiver<()>) -> bool {
    fetching.has_changed().is_ok()
}

/// Waits for the end of a fetch.
async fn over(mut fetching: watch::Receiver<()>) {
    // Nothing is ever sent: an error says that it is over.
    while fetching.changed().await.is_ok() {}
}

/// A token that names no key does not tell when its issuer has another one by now.
fn may_be_of_a_new_key(error: KeyError, token: &Unverified<'_>) -> bool {
    match error {
        KeyError::Unknown => true,
        KeyError::Signature => token.key_id.is_none(),
        KeyError::Algorithm => false,
    }
}
