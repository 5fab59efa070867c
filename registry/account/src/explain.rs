//! Who may do what, and by which grant: the question behind every "why can I not upload?".

use std::sync::Arc;

use granary_core::{
    Action, ChannelName, Explanation, Format, Grant, GrantSource, Principal, Subject, SubjectError,
    SubjectName, Workload, explain,
};
use granary_http::{Body, Call, Refusal, respond};
use granary_identity::{AccountError, Accounts};
use granary_store::Channel;
use http::{Response, StatusCode};
use maud::{DOCTYPE, Markup, html};
use serde::Serialize;

use crate::State;

/// A question that cannot be put.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// The subject is none.
    #[error(transparent)]
    Subject(#[from] SubjectError),
    /// A group is in no group, and what its members may depends on their other ones.
    #[error("ask for user:NAME, serviceaccount:NAMESPACE/NAME, workload:ISSUER?CLAIM=VALUE or anonymous")]
    NotOne,
    /// The action is none.
    #[error("an action is read, publish, remove or administer")]
    Action,
    /// The channel's name is none.
    #[error("a channel is FORMAT/NAME, such as pypi/tools")]
    Channel,
    /// The account cannot be read.
    #[error("the account")]
    Account(#[from] AccountError),
}

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Who.
    pub subject: Subject,
    /// Does what.
    pub action: Action,
    /// The channel's format.
    pub format: Format,
    /// The channel's name.
    pub channel: ChannelName,
    /// To which package; with none, to some package of the channel.
    pub package: Option<String>,
    /// Groups beside those that the account has: for people of another source who have not been here yet.
    pub groups: Vec<SubjectName>,
}

impl Question {
    /// Reads a question from its texts.
    pub fn read(
        subject: &str,
        action: &str,
        channel: &str,
        package: Option<&str>,
    ) -> Result<Self, QuestionError> {
        let subject = subject.parse()?;
        if matches!(subject, Subject::Group(_) | Subject::Authenticated) {
            return Err(QuestionError::NotOne);
        }
        let action = Action::ALL.into_iter().find(|known| known.as_str() == action);
        let action = action.ok_or(QuestionError::Action)?;
        let (format, name) = channel.split_once('/').ok_or(QuestionError::Channel)?;
        let format: Format = format.parse().map_err(|_| QuestionError::Channel)?;
        let channel = ChannelName::parse(format, name).map_err(|_| QuestionError::Channel)?;
        let package = package.filter(|package| !package.is_empty()).map(str::to_owned);
        Ok(Self { subject, action, format, channel, package, groups: Vec::new() })
    }

    /// Who asks, as far as the registry knows them.
    async fn principal(&self, accounts: &Accounts) -> Result<Principal, QuestionError> {
        match &self.subject {
            Subject::User(name) => {
                let (admin, mut groups) = accounts.standing(name).await?.unwrap_or_default();
                groups.extend(self.groups.iter().cloned());
                Ok(Principal::User { name: name.clone(), groups, admin, scope: None })
            }
            Subject::Workload(subject) => {
                let claims = subject.claims.iter();
                let claims =
                    claims.map(|(claim, value)| (claim.clone(), value.as_str().to_owned())).collect();
                let workload =
                    Workload { issuer: subject.issuer.clone(), subject: self.subject.to_string(), claims };
                Ok(Principal::Workload { workload, scope: None })
            }
            Subject::Anonymous => Ok(Principal::Anonymous),
            Subject::Group(_) | Subject::Authenticated => Err(QuestionError::NotOne),
        }
    }
}

/// The answer to a question.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Yes or no.
    pub allowed: bool,
    /// Why, in a sentence.
    pub because: String,
    /// The grant that gives it, as a permission of a channel is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<ToldGrant>,
    /// Grants that cover who asks, but give them less.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lesser: Vec<ToldGrant>,
}

/// A grant as a permission of a channel is written.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldGrant {
    /// Its place among the channel's grants, from 0: those of the resource come first.
    pub position: usize,
    /// `resource` or `api`.
    pub source: GrantSource,
    /// To whom.
    pub subjects: Vec<String>,
    /// What they may.
    pub role: &'static str,
    /// Over which packages; all when empty.
    pub packages: Vec<String>,
    /// Over which not after all.
    pub except: Vec<String>,
}

impl ToldGrant {
    fn of((position, grant): (usize, &Grant)) -> Self {
        let texts = |patterns: &[granary_core::PackagePattern]| {
            patterns.iter().map(|pattern| pattern.as_str().to_owned()).collect()
        };
        Self {
            position,
            source: grant.source,
            subjects: grant.subjects.iter().map(ToString::to_string).collect(),
            role: grant.role.as_str(),
            packages: texts(&grant.packages),
            except: texts(&grant.except),
        }
    }
}

/// Answers a question about a channel; with none, there is no such channel.
pub async fn answer(
    accounts: &Accounts,
    question: &Question,
    channel: Option<&Channel>,
) -> Result<Answer, QuestionError> {
    let principal = question.principal(accounts).await?;
    let nothing = |because: String| Answer { allowed: false, because, grant: None, lesser: Vec::new() };
    let name = format!("{}/{}", question.format, question.channel);
    let Some(channel) = channel else { return Ok(nothing(format!("there is no channel {name}"))) };
    let package = question.package.as_deref();
    let what =
        package.map_or_else(|| format!("some package of {name}"), |package| format!("{package} in {name}"));
    let (subject, action) = (&question.subject, question.action.as_str());
    let explained =
        explain(&channel.grants, &principal, channel.format, &channel.name, question.action, package);
    Ok(match explained {
        Explanation::Admin => Answer {
            allowed: true,
            because: format!("{subject} is an admin of the registry, who may do everything"),
            grant: None,
            lesser: Vec::new(),
        },
        Explanation::Granted(position, grant) => Answer {
            allowed: true,
            because: format!("grant {position} makes {subject} {} of {what}", grant.role.as_str()),
            grant: Some(ToldGrant::of((position, grant))),
            lesser: Vec::new(),
        },
        Explanation::TokenTooNarrow => nothing("the token does not reach so far".to_owned()),
        Explanation::NoGrant(lesser) => Answer {
            lesser: lesser.into_iter().map(ToldGrant::of).collect(),
            ..nothing(format!("no grant lets {subject} {action} {what}"))
        },
    })
}

/// `GET /-/can?subject=…&action=…&channel=FORMAT/NAME&package=…`: for oneself, for admins, and for owners of the channel.
/// Browsers get a page with a form.
pub(crate) async fn can(_: Arc<State>, call: Call) -> Result<Response<Body>, Refusal> {
    let query = &call.arrival.query;
    let text = |name: &str| query.first(name).unwrap_or_default();
    let is_browser = call.arrival.headers.get(http::header::ACCEPT).is_some_and(|accept| {
        accept.to_str().is_ok_and(|accept| accept.split(',').any(|one| one.trim().starts_with("text/html")))
    });
    let own = call.caller.account().map(|name| format!("user:{name}"));
    let subject = match text("subject") {
        "" => own.clone().unwrap_or_else(|| "anonymous".to_owned()),
        subject => subject.to_owned(),
    };
    let is_asked = !text("channel").is_empty();
    if is_browser && !is_asked {
        return Ok(page(&subject, text("action"), "", "", None));
    }
    let question = Question::read(&subject, text("action"), text("channel"), query.first("package"))
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let store = &call.arrival.services.store;
    let channel = store.directory().find(question.format, &question.channel).await?;
    let is_owner = channel
        .as_ref()
        .is_some_and(|channel| channel.allows(&call.caller.principal, Action::Administer, None));
    if own.as_deref() != Some(&*subject) && !is_owner && !call.caller.is_admin() {
        return Err(Refusal::forbidden("only admins and the channel's owners may ask about others"));
    }
    // What oneself may not see is as good as absent.
    let visible = channel.filter(|channel| {
        is_owner || call.caller.is_admin() || channel.allows(&call.caller.principal, Action::Read, None)
    });
    let accounts = call.arrival.services.identity.accounts();
    let answer = match answer(accounts, &question, visible.as_deref()).await {
        Ok(answer) => answer,
        Err(QuestionError::Account(AccountError::Database(error))) => return Err(error.into()),
        Err(QuestionError::Account(error)) => return Err(Refusal::internal(error)),
        Err(error) => return Err(Refusal::bad_request(error.to_string())),
    };
    if is_browser {
        let asked = (text("action"), text("channel"), query.first("package").unwrap_or_default());
        return Ok(page(&subject, asked.0, asked.1, asked.2, Some(&answer)));
    }
    crate::ok(&answer)
}

fn page(
    subject: &str,
    action: &str,
    channel: &str,
    package: &str,
    answer: Option<&Answer>,
) -> Response<Body> {
    let field = |name: &str, value: &str, hint: &str| {
        html! { p { label { (name) " " input name=(name) value=(value) placeholder=(hint); } } }
    };
    let page: Markup = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "Who may what" } }
            body {
                h1 { "Who may what" }
                form {
                    (field("subject", subject, "user:ada"))
                    p {
                        label {
                            "action "
                            select name="action" {
                                @for known in Action::ALL {
                                    option selected[known.as_str() == action] { (known.as_str()) }
                                }
                            }
                        }
                    }
                    (field("channel", channel, "pypi/tools"))
                    (field("package", package, "any"))
                    p { button { "Ask" } }
                }
                @if let Some(answer) = answer {
                    h2 { @if answer.allowed { "Yes" } @else { "No" } }
                    p { (answer.because) "." }
                    @if let Some(grant) = &answer.grant { (shown(grant)) }
                    @if !answer.lesser.is_empty() {
                        p { "Grants that cover them, and give less:" }
                        @for grant in &answer.lesser { (shown(grant)) }
                    }
                }
            }
        }
    };
    let mut response = respond::content(StatusCode::OK, respond::HTML, page.into_string());
    response.headers_mut().insert(
        http::header::CONTENT_SECURITY_POLICY,
        http::HeaderValue::from_static("default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
    );
    crate::not_stored(response)
}

fn shown(grant: &ToldGrant) -> Markup {
    html! {
        dl {
            dt { "grant " (grant.position) }
            dd { (grant.role) " for " (grant.subjects.join(", ")) }
            @if !grant.packages.is_empty() { dd { "packages " (grant.packages.join(", ")) } }
            @if !grant.except.is_empty() { dd { "except " (grant.except.join(", ")) } }
        }
    }
}
