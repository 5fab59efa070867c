//! Conditions as `kubectl wait`, Argo CD and Flux read them (kstatus): `Ready` says whether the object is what its spec
//! says; `Reconciling` stands while the operator is on its way there, and `Stalled` when it needs a change by
//! somebody first. The other types say what exactly holds.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde::Serialize;
use serde_json::Value;

/// The most characters of a message.
const MAX_MESSAGE: usize = 1024;

/// Where an object stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is what its spec says.
    Ready,
    /// The operator is on its way there; nothing is wrong.
    Progressing(Reason),
    /// Something that the object needs is not there just now; the operator tries again by itself.
    Waiting(Reason),
    /// It cannot become what its spec says before somebody changes something.
    Stalled(Reason),
}

/// Why, for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// One word in `CamelCase`, of a fixed set: also the reason of events and the label of metrics.
    pub code: &'static str,
    /// What to know, and where it helps, what to do. Never a secret.
    pub message: String,
}

impl Reason {
    /// Puts the two together.
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// The conditions of an object that is being looked at.
#[derive(Debug)]
pub struct Conditions {
    previous: Vec<Condition>,
    next: Vec<Condition>,
    generation: i64,
    now: Timestamp,
}

impl Conditions {
    /// Begins anew; the previous ones are known by so that the time of a transition is kept.
    pub fn new(previous: &[Condition], generation: Option<i64>, now: Timestamp) -> Self {
        Self {
            previous: previous.to_vec(),
            next: Vec::new(),
            generation: generation.unwrap_or_default(),
            now,
        }
    }

    /// Says that something holds or does not.
    pub fn set(&mut self, type_: &str, holds: bool, reason: &str, message: impl Into<String>) {
        self.add(type_, if holds { "True" } else { "False" }, reason, message.into());
    }

    /// Keeps what was known of this type before, where nothing is said of it now.
    pub fn keep_unless_set(&mut self, type_: &str) {
        if self.next.iter().any(|condition| condition.type_ == type_) {
            return;
        }
        self.next.extend(self.previous.iter().find(|condition| condition.type_ == type_).cloned());
    }

    /// Says nothing of this type.
    pub fn drop_type(&mut self, type_: &str) {
        self.next.retain(|condition| condition.type_ != type_);
    }

    /// Says where the object stands.
    pub fn set_standing(&mut self, standing: &Standing) {
        match standing {
            Standing::Ready => self.set("Ready", true, "Ready", "everything is as the spec says"),
            Standing::Progressing(reason) | Standing::Waiting(reason) => {
                self.set("Ready", false, reason.code, reason.message.clone());
                self.set("Reconciling", true, reason.code, reason.message.clone());
            }
            Standing::Stalled(reason) => {
                self.set("Ready", false, reason.code, reason.message.clone());
                self.set("Stalled", true, reason.code, reason.message.clone());
            }
        }
    }

    /// All of them, in the order of their types.
    pub fn finish(mut self) -> Vec<Condition> {
        self.next.sort_by(|a, b| a.type_.cmp(&b.type_));
        self.next
    }

    fn add(&mut self, type_: &str, status: &str, reason: &str, message: String) {
        let before =
            self.previous.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        let since = before.map_or(Time(self.now), |condition| condition.last_transition_time.clone());
        self.next.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: shortened(message),
            last_transition_time: since,
            observed_generation: Some(self.generation),
        });
    }
}

/// What was said last of whether an object is what its spec says.
pub fn ready(conditions: &[Condition]) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == "Ready")
}

/// Whether an object stands elsewhere than before: ready or not, or for another reason.
pub fn stands_elsewhere(before: &[Condition], now: &[Condition]) -> bool {
    let of = |conditions| ready(conditions).map(|ready| (&ready.status, &ready.reason));
    of(before) != of(now)
}

/// A merge patch that makes one status of another: what the new one lacks is taken away.
pub fn replacing<S: Serialize>(before: &S, after: &S) -> Value {
    let json = |status: &S| serde_json::to_value(status).unwrap_or_default();
    let mut patch = json(after);
    remove_missing(&json(before), &mut patch);
    patch
}

fn remove_missing(before: &Value, patch: &mut Value) {
    let (Some(before), Some(patch)) = (before.as_object(), patch.as_object_mut()) else { return };
    for (key, value) in before {
        match patch.get_mut(key) {
            Some(kept) => remove_missing(value, kept),
            None => {
                patch.insert(key.clone(), Value::Null);
            }
        }
    }
}

/// Cuts a text between two characters, so that the API takes it.
pub fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        let end = text.floor_char_boundary(MAX_MESSAGE - '…'.len_utf8());
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_condition_keeps_the_time_of_its_last_change() {
        let (first, later) = (Timestamp::from_second(1).unwrap(), Timestamp::from_second(2).unwrap());
        let mut conditions = Conditions::new(&[], Some(1), first);
        conditions.set_standing(&Standing::Ready);
        let known = conditions.finish();
        let mut same = Conditions::new(&known, Some(1), later);
        same.set_standing(&Standing::Ready);
        assert_eq!(same.finish(), known);
        let mut other = Conditions::new(&known, Some(2), later);
        other.set_standing(&Standing::Stalled(Reason::new("InvalidSpec", "no")));
        let changed = other.finish();
        assert_eq!(changed[0].type_, "Ready");
        assert_eq!(changed[0].last_transition_time.0, later);
        assert_eq!(changed[1].type_, "Stalled");
    }

    #[test]
    fn a_patch_takes_away_what_the_new_status_lacks() {
        let (before, after) = (
            serde_json::json!({"a": 1, "b": {"x": 1, "y": 2}, "c": [1, 2]}),
            serde_json::json!({"b": {"x": 3}, "c": [2]}),
        );
        let patch = serde_json::json!({"a": null, "b": {"x": 3, "y": null}, "c": [2]});
        assert_eq!(replacing(&before, &after), patch);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let text = shortened("é".repeat(2000));
        assert!(text.len() <= MAX_MESSAGE && text.ends_with('…'));
    }
}
