//! Read your writes, on any pod: what a scope's revision is, and which documents changed since.
//!
//! A scope is a channel, or the registry itself (accounts, tokens, channels). Its revision is the vector of its
//! 16 slot rows; each committed write raises one slot, marks it at random and names the documents that it touched. Asking is one
//! cheap query, shared by all requests that wait at that moment: a question asked while a query is under way
//! waits for the next one, whose snapshot is no older than the question.
//!
//! What a cache built from a document's rows remembers is the [`Stamp`] that the document had before the rows
//! were read; it is good for as long as the document still has that stamp.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::DbError;
use crate::database::Database;
use crate::sql::Statements;

/// How many slots a scope has.
pub(crate) const SLOT_COUNT: u16 = 16;
const SLOTS: usize = SLOT_COUNT as usize;
/// More changes than this are not asked for one by one: everything of the scope is dropped.
const MOST_CHANGES: i64 = 20_000;
/// How many documents of a scope are told apart before they are all dropped together.
const MOST_STAMPS: usize = 100_000;

/// What a revision belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope(pub(crate) i64);

impl Scope {
    /// The registry itself: accounts, tokens, the list of channels and their settings.
    pub const REGISTRY: Self = Self(0);
}

/// When a document last changed, as this process counts. Only good for comparing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(u64);

/// What changed in a scope after a stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// These documents.
    Documents(Vec<Arc<str>>),
    /// Too much to tell: anything may have changed.
    Everything,
}

/// How far a slot has come, and the mark that its last step drew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    n: i64,
    mark: i64,
}

type Slots = [Slot; SLOTS];

/// How far a scope has come: to be kept beside what was read then, and compared by another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position(Slots);

impl Position {
    pub(crate) fn steps_and_marks(&self) -> (Vec<i64>, Vec<i64>) {
        self.0.iter().map(|slot| (slot.n, slot.mark)).unzip()
    }

    pub(crate) fn of(steps: &[i64], marks: &[i64]) -> Result<Self, DbError> {
        let slots: Vec<Slot> = steps.iter().zip(marks).map(|(n, mark)| Slot { n: *n, mark: *mark }).collect();
        let wrong = |slots: Vec<Slot>| DbError::decode("revision", format!("{} slots", slots.len()));
        Ok(Self(slots.try_into().map_err(wrong)?))
    }
}

#[derive(Debug)]
struct ScopeState {
    slots: Slots,
    checked: Instant,
    stamp: Stamp,
    /// Documents that are not in `stamps` have not changed since.
    floor: Stamp,
    stamps: HashMap<Arc<str>, Stamp>,
    log: VecDeque<(Stamp, Arc<str>)>,
}

impl ScopeState {
    fn new(slots: Slots, checked: Instant) -> Self {
        let stamp = Stamp(1);
        Self { slots, checked, stamp, floor: stamp, stamps: HashMap::new(), log: VecDeque::new() }
    }

    fn note(&mut self, changes: Changes) {
        self.stamp.0 += 1;
        match changes {
            Changes::Documents(documents) if self.stamps.len() + documents.len() <= MOST_STAMPS => {
                for document in documents {
                    self.stamps.insert(Arc::clone(&document), self.stamp);
                    self.log.push_back((self.stamp, document));
                }
                // The log may be shorter than the map: a document that changes often stands in it often.
                while self.log.len() > MOST_STAMPS {
                    self.forget();
                }
            }
            Changes::Documents(_) | Changes::Everything => self.forget(),
        }
    }

    fn forget(&mut self) {
        self.floor = self.stamp;
        self.stamps.clear();
        self.log.clear();
    }
}

type Answer = Result<(), Arc<DbError>>;
type Waiter = (Vec<Scope>, oneshot::Sender<Answer>);

#[derive(Debug)]
struct Shared {
    database: Database,
    sql: Arc<Statements>,
    scopes: RwLock<HashMap<Scope, ScopeState>>,
    waiting: Mutex<Vec<Waiter>>,
    wake: Notify,
}

/// Tells whether what a pod holds in memory is still true.
#[derive(Debug, Clone)]
pub struct Revisions {
    shared: Arc<Shared>,
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Revisions {
    pub(crate) fn new(database: Database, sql: Arc<Statements>) -> Self {
        let shared = Arc::new(Shared {
            database,
            sql,
            scopes: RwLock::default(),
            waiting: Mutex::default(),
            wake: Notify::new(),
        });
        let task = tokio::spawn(answer_all(Arc::clone(&shared)));
        Self { shared, _task: Arc::new(AbortOnDrop(task)) }
    }

    /// Returns when this process knows every change of these scopes that was committed before the call.
    pub async fn refresh(&self, scopes: &[Scope]) -> Result<(), DbError> {
        let (answer, answered) = oneshot::channel();
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((scopes.to_vec(), answer));
        self.shared.wake.notify_one();
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(DbError::Shared(error)),
            Err(_) => Err(DbError::Stopping),
        }
    }

    /// Like [`Revisions::refresh`], but content with knowledge that is at most `age` old.
    pub async fn refresh_if_older(&self, scopes: &[Scope], age: Duration) -> Result<(), DbError> {
        let fresh_enough = {
            let known = self.shared.scopes.read().unwrap_or_else(PoisonError::into_inner);
            scopes.iter().all(|scope| known.get(scope).is_some_and(|state| state.checked.elapsed() <= age))
        };
        if fresh_enough { Ok(()) } else { self.refresh(scopes).await }
    }

    /// The stamp of a document. `None` when the scope has never been asked for.
    pub fn stamp(&self, scope: Scope, document: &str) -> Option<Stamp> {
        let known = self.shared.scopes.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&scope).map(|state| state.stamps.get(document).copied().unwrap_or(state.floor))
    }

    /// The stamp of the scope as a whole.
    pub fn scope_stamp(&self, scope: Scope) -> Option<Stamp> {
        let known = self.shared.scopes.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&scope).map(|state| state.stamp)
    }

    /// How far the scope has come, and the stamp that it has there.
    pub fn position(&self, scope: Scope) -> Option<(Stamp, Position)> {
        let known = self.shared.scopes.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&scope).map(|state| (state.stamp, Position(state.slots)))
    }

    /// What changed in the scope after a position that perhaps another process was at, with the stamp that the answer is good
    /// for. `None` when the scope has never been asked for.
    pub async fn changes_after(
        &self,
        scope: Scope,
        position: &Position,
    ) -> Result<Option<(Stamp, Changes)>, DbError> {
        let Some((stamp, Position(now))) = self.position(scope) else { return Ok(None) };
        Ok(Some((stamp, self.shared.changes_between(scope, &position.0, &now).await?)))
    }

    /// What changed in the scope after `stamp`, with the stamp that the answer is good for.
    pub fn changes_since(&self, scope: Scope, stamp: Stamp) -> Option<(Stamp, Changes)> {
        let known = self.shared.scopes.read().unwrap_or_else(PoisonError::into_inner);
        let state = known.get(&scope)?;
        if stamp < state.floor {
            return Some((state.stamp, Changes::Everything));
        }
        let first = state.log.partition_point(|(changed, _)| *changed <= stamp);
        let documents = state.log.range(first..).map(|(_, document)| Arc::clone(document)).collect();
        Some((state.stamp, Changes::Documents(documents)))
    }
}

/// Answers the waiting requests, all of them with one query, for as long as the process lives.
async fn answer_all(shared: Arc<Shared>) {
    loop {
        shared.wake.notified().await;
        shared.gather().await;
        let waiting = std::mem::take(&mut *shared.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if waiting.is_empty() {
            continue;
        }
        let mut scopes: Vec<Scope> = waiting.iter().flat_map(|(scopes, _)| scopes.iter().copied()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let answer = shared.ask(&scopes).await.map_err(Arc::new);
        for (_, waiter) in waiting {
            // A request that has gone away needs no answer.
            let _ = waiter.send(answer.clone());
        }
    }
}

impl Shared {
    /// Lets the requests that are about to ask join: as long as every look finds more of them, one more look. It
    /// costs microseconds, and under load it halves the number of queries.
    async fn gather(&self) {
        const MOST_LOOKS: usize = 32;
        let mut found = 0;
        for _ in 0..MOST_LOOKS {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
            if waiting <= found {
                return;
            }
            found = waiting;
            tokio::task::yield_now().await;
        }
    }

    async fn ask(&self, scopes: &[Scope]) -> Result<(), DbError> {
        let asked = Instant::now();
        let ids: Vec<i64> = scopes.iter().map(|scope| scope.0).collect();
        let rows = self.database.query(&self.sql.revision_slots, &[&ids]).await?;
        for row in &rows {
            let scope = Scope(row.try_get(0)?);
            let Position(slots) =
                Position::of(&row.try_get::<_, Vec<i64>>(1)?, &row.try_get::<_, Vec<i64>>(2)?)?;
            self.learn(scope, slots, asked).await?;
        }
        Ok(())
    }

    async fn learn(&self, scope: Scope, slots: Slots, asked: Instant) -> Result<(), DbError> {
        let known = {
            let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
            match scopes.get_mut(&scope) {
                Some(state) if state.slots == slots => {
                    state.checked = asked;
                    return Ok(());
                }
                Some(state) => state.slots,
                None => {
                    scopes.insert(scope, ScopeState::new(slots, asked));
                    return Ok(());
                }
            }
        };
        let changes = self.changes_between(scope, &known, &slots).await?;
        let mut scopes = self.scopes.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = scopes.get_mut(&scope) {
            state.slots = slots;
            state.checked = asked;
            state.note(changes);
        }
        Ok(())
    }

    async fn changes_between(&self, scope: Scope, known: &Slots, now: &Slots) -> Result<Changes, DbError> {
        let mut spans = Vec::new();
        for (slot, (known, now)) in
            (0i16..).zip(known.iter().zip(now)).filter(|(_, (known, now))| known != now)
        {
            // Back, or at the same step by another way: a restored database. Nothing that we hold can be trusted.
            if now.n <= known.n {
                return Ok(Changes::Everything);
            }
            spans.push((slot, *known, *now));
        }
        let steps: i64 = spans.iter().map(|(_, known, now)| now.n - known.n).sum();
        if steps > MOST_CHANGES {
            return Ok(Changes::Everything);
        }
        let slots: Vec<i16> = spans.iter().map(|(slot, ..)| *slot).collect();
        let after: Vec<i64> = spans.iter().map(|(_, known, _)| known.n).collect();
        let upto: Vec<i64> = spans.iter().map(|(.., now)| now.n).collect();
        let rows = self.database.query(&self.sql.changes, &[&scope.0, &slots, &after, &upto]).await?;
        let mut documents: Vec<Arc<str>> = Vec::new();
        // The step that we know has to be there still, with the mark that we know: else others came in its place.
        let mut unconfirmed = spans.iter().filter(|(_, known, _)| known.n > 0).count();
        for row in &rows {
            let (slot, n, mark): (i16, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            match spans.iter().find(|(spanned, known, _)| *spanned == slot && known.n == n) {
                Some((_, known, _)) if known.mark == mark => unconfirmed -= 1,
                Some(_) => return Ok(Changes::Everything),
                None => documents.push(row.try_get::<_, &str>(0)?.into()),
            }
        }
        // Rows may also have been pruned.
        let complete = unconfirmed == 0 && i64::try_from(documents.len()).is_ok_and(|count| count == steps);
        Ok(if complete { Changes::Documents(documents) } else { Changes::Everything })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn documents(names: &[&str]) -> Changes {
        Changes::Documents(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn only_what_changed_gets_a_new_stamp() {
        let mut state = ScopeState::new([Slot::default(); SLOTS], Instant::now());
        state.note(documents(&["project:a"]));
        state.note(documents(&["project:b", "list:b"]));
        assert_eq!(state.stamps.get("project:a"), Some(&Stamp(2)));
        assert_eq!(state.stamps.get("list:b"), Some(&Stamp(3)));
        assert_eq!(state.floor, Stamp(1));
        state.note(Changes::Everything);
        assert!(state.stamps.is_empty());
        assert_eq!(state.floor, Stamp(4));
    }

    #[test]
    fn too_many_documents_are_dropped_together() {
        let mut state = ScopeState::new([Slot::default(); SLOTS], Instant::now());
        for step in 0..3 {
            let names: Vec<Arc<str>> =
                (0..MOST_STAMPS / 2).map(|n| Arc::from(format!("{step}-{n}"))).collect();
            state.note(Changes::Documents(names));
        }
        assert!(state.stamps.len() <= MOST_STAMPS);
        assert_eq!(state.floor, Stamp(4));
    }
}
