//! Old rules and new grants, asked the same questions.

use granary_core::{Action, Grants, Principal, SubjectName, decide};
use granary_crds::ValidChannel;
use serde::Serialize;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Asker {
    /// The name; none for who is not logged in.
    pub user: Option<SubjectName>,
    /// The groups, which only the new side knows by this name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<SubjectName>,
    /// Whether the old server let them do everything, so that they are an admin here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

impl Asker {
    /// Nobody in particular.
    pub const ANONYMOUS: Self = Self { user: None, groups: Vec::new(), admin: false };

    /// Somebody without groups.
    pub const fn named(user: SubjectName) -> Self {
        Self { user: Some(user), groups: Vec::new(), admin: false }
    }

    fn principal(&self) -> Principal {
        match &self.user {
            None => Principal::Anonymous,
            Some(name) => Principal::User {
                name: name.clone(),
                groups: self.groups.clone(),
                admin: self.admin,
                scope: None,
            },
        }
    }
}

/// A question with the old server's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Which channel, by its name in URLs.
    pub channel: String,
    /// Who asks.
    #[serde(flatten)]
    pub asker: Asker,
    /// What for, as [`Action::as_str`] names it.
    #[serde(serialize_with = "action_name")]
    pub action: Action,
    /// Of which package; none asks about the channel as a whole.
    pub package: Option<String>,
    /// Whether the old rules allow it.
    pub allowed: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn action_name<S: serde::Serializer>(action: &Action, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(action.as_str())
}

/// What came of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// How many questions were asked.
    pub asked: usize,
    /// How many of them the old rules say yes to.
    pub allowed: usize,
    /// Those that the grants answer otherwise: none, if all is well.
    pub differing: Vec<Question>,
}

/// Asks the grants of the channels what the old rules have answered. A channel that is not among them allows nothing.
pub fn prove(channels: &[ValidChannel], questions: impl IntoIterator<Item = Question>) -> Proof {
    let mut proof = Proof::default();
    let grants: Vec<Grants> = channels.iter().map(|channel| channel.grants.clone().into()).collect();
    for question in questions {
        proof.asked += 1;
        proof.allowed += usize::from(question.allowed);
        let channel =
            channels.iter().zip(&grants).find(|(channel, _)| channel.name.as_str() == question.channel);
        let granted = channel.is_some_and(|(channel, grants)| {
            let package = question.package.as_deref();
            let principal = question.asker.principal();
            decide(grants, &principal, channel.format, &channel.name, question.action, package).is_allowed()
        });
        if granted != question.allowed {
            proof.differing.push(question);
        }
    }
    proof
}
