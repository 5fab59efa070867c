//! The way of a request: who is this, which channel, may they, and only then the handler.
//!
//! A protocol declares its routes through [`Protocol`], which puts this way in front of every handler: none can
//! be reached past it. Errors come back as [`Refusal`]s and are given the protocol's own shape in one place.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use granary_core::{Action, ChannelName, Format, Readable, readable};
use granary_identity::{Caller, Credential, Identity, Recognition};
use granary_store::{AuditEntry, Channel, Scope, Store};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::path::Query;
use crate::proxy::Origin;
use crate::rates::RateLimits;
use crate::refusal::Refusal;
use crate::routes::{Access, Params, Routes};
use crate::{Body, RequestBody, RequestPath, csrf};

/// How old the knowledge may be that a route relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// Everything committed before the request counts: for indexes and for all writes.
    Now,
    /// Up to a second old: for the bytes of files, which never change.
    WithinASecond,
}

/// What the handlers of every protocol stand on.
#[derive(Debug, Clone)]
pub struct Services {
    /// Postgres and S3.
    pub store: Store,
    /// Who is who.
    pub identity: Identity,
    /// What an upload may be where its channel says nothing, in bytes.
    pub max_upload_size: u64,
    /// How URLs begin, where that does not depend on the request.
    pub public_urls: Arc<PublicUrls>,
    /// How many requests somebody may send.
    pub rates: RateLimits,
}

/// How long a refusal that tells nothing new waits for its row of the audit.
const AUDIT_PATIENCE: Duration = Duration::from_millis(250);

/// How clients know the registry by configuration.
#[derive(Debug, Clone, Default)]
pub struct PublicUrls {
    /// The URL that every protocol is below, at a path of its own.
    pub common: Option<String>,
    /// The URLs of protocols that have a host of their own.
    pub own: HashMap<Format, String>,
}

impl PublicUrls {
    /// The URL that the channels of a format are below, without a slash at the end; none where each request's own
    /// host is used.
    fn of(&self, format: Format) -> Option<String> {
        let common = || self.common.as_ref().map(|url| format!("{}/{format}", url.trim_end_matches('/')));
        self.own.get(&format).cloned().or_else(common)
    }
}

/// A request that has found its route, and nothing more.
#[derive(Debug)]
pub struct Arrival {
    /// What all requests share.
    pub services: Services,
    /// The method.
    pub method: Method,
    /// The path, decoded.
    pub path: Arc<RequestPath>,
    /// What stood behind the question mark.
    pub query: Arc<Query>,
    /// The headers.
    pub headers: Arc<HeaderMap>,
    /// What the route's variables matched.
    pub params: Arc<Params>,
    /// The body, not yet read. In a mutex only so that a call can be shared while it is awaited.
    pub body: Mutex<RequestBody>,
    /// The credentials that were carried.
    pub credentials: Vec<Credential>,
    /// Where the request came from.
    pub origin: Origin,
    /// Names the request in logs and in the audit.
    pub request_id: Arc<str>,
}

/// A request whose caller may go where they want to.
#[derive(Debug)]
pub struct Call {
    /// The request.
    pub arrival: Arrival,
    /// Who sent it.
    pub caller: Arc<Caller>,
    /// The channel that the path names, if it names one.
    channel: Option<Arc<Channel>>,
}

/// Gives a refusal the shape that the protocol's clients understand.
pub type Shape = fn(&Refusal) -> Response<Body>;

/// The routes of one protocol, each behind the common way.
pub struct Protocol {
    /// What a `{channel}` in a path is; none where paths name no channels.
    format: Option<Format>,
    shape: Shape,
    routes: Routes<Arrival>,
}

impl Protocol {
    /// A protocol without routes.
    pub const fn new(format: Format, shape: Shape) -> Self {
        Self { format: Some(format), shape, routes: Routes::new() }
    }

    /// What belongs to no protocol, and whose paths name no channels.
    pub const fn common(shape: Shape) -> Self {
        Self { format: None, shape, routes: Routes::new() }
    }

    /// Adds a route. `state` is what the protocol's handlers share.
    #[must_use]
    pub fn route<S, H, R>(
        self,
        method: Method,
        pattern: &'static str,
        access: Access,
        freshness: Freshness,
        state: &Arc<S>,
        handler: H,
    ) -> Self
    where
        S: Send + Sync + 'static,
        H: Fn(Arc<S>, Call) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Response<Body>, Refusal>> + Send + 'static,
    {
        self.route_by_freshness(method, pattern, access, move |_| freshness, state, handler)
    }

    /// Adds a route below which stand things that have to be known more and less freshly: `freshness` tells it by what the
    /// route's variables matched.
    #[must_use]
    pub fn route_by_freshness<S, F, H, R>(
        mut self,
        method: Method,
        pattern: &'static str,
        access: Access,
        freshness: F,
        state: &Arc<S>,
        handler: H,
    ) -> Self
    where
        S: Send + Sync + 'static,
        F: Fn(&Params) -> Freshness + Copy + Send + Sync + 'static,
        H: Fn(Arc<S>, Call) -> R + Copy + Send + Sync + 'static,
        R: Future<Output = Result<Response<Body>, Refusal>> + Send + 'static,
    {
        let (format, shape, state) = (self.format, self.shape, Arc::clone(state));
        self.routes = self.routes.route(method, pattern, access, move |arrival: Arrival| {
            let state = Arc::clone(&state);
            let freshness = freshness(&arrival.params);
            async move {
                let store = arrival.services.store.clone();
                let again = (freshness == Freshness::WithinASecond).then(|| arrival.without_body());
                let carries_credentials = !arrival.credentials.is_empty();
                let mut answer =
                    respond(arrival, format, access, freshness, Arc::clone(&state), handler).await;
                // What is a second old may refuse what an index shows by now: a refusal is looked at again.
                // But not a wrong password: that was looked up just now.
                let refused = answer.as_ref().is_err_and(|refusal| match refusal.status {
                    StatusCode::UNAUTHORIZED => !carries_credentials,
                    StatusCode::TOO_MANY_REQUESTS => false,
                    status => status.is_client_error(),
                });
                if let Some(again) = again.filter(|_| refused) {
                    answer = respond(again, format, access, Freshness::Now, state, handler).await;
                }
                match answer {
                    Ok(response) => response,
                    Err(refusal) => {
                        audit(&store, &refusal).await;
                        refusal.finish(shape(&refusal))
                    }
                }
            }
        });
        self
    }

    /// The routes, to be mounted.
    pub fn into_routes(self) -> Routes<Arrival> {
        self.routes
    }
}

/// Has the refusal of somebody whom we know written down, by a task of its own: it is written although the client goes
/// away, and a database that is slow or away changes nothing for the client.
async fn audit(store: &Store, refusal: &Refusal) {
    let Some(entry) = &refusal.denied else { return };
    let (store, entry) = (store.clone(), entry.clone());
    let written = tokio::spawn(async move {
        if let Err(error) = store.refused(&entry).await {
            let error = granary_core::report(&error);
            tracing::warn!(error, "the audit lacks a refusal for now: it will be written later");
        }
    });
    // What is hidden must not be told from what is absent by how long its answer takes: only a 403 may wait.
    if refusal.status == StatusCode::FORBIDDEN {
        let _ = tokio::time::timeout(AUDIT_PATIENCE, written).await;
    }
}

async fn respond<S, H, R>(
    arrival: Arrival,
    format: Option<Format>,
    access: Access,
    freshness: Freshness,
    state: Arc<S>,
    handler: H,
) -> Result<Response<Body>, Refusal>
where
    H: Fn(Arc<S>, Call) -> R,
    R: Future<Output = Result<Response<Body>, Refusal>>,
{
    handler(state, Call::admit(arrival, format, access, freshness).await?).await
}

impl Arrival {
    /// The same request with nothing in its body: for reads, which have none.
    fn without_body(&self) -> Self {
        Self {
            services: self.services.clone(),
            method: self.method.clone(),
            path: Arc::clone(&self.path),
            query: Arc::clone(&self.query),
            headers: Arc::clone(&self.headers),
            params: Arc::clone(&self.params),
            body: Mutex::default(),
            credentials: self.credentials.clone(),
            origin: self.origin.clone(),
            request_id: Arc::clone(&self.request_id),
        }
    }

    /// The body, to be read once; afterwards it is empty.
    pub fn take_body(&mut self) -> RequestBody {
        std::mem::take(self.body.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a body in the place of the one that was taken.
    pub(crate) fn replace_body(&mut self, body: RequestBody) {
        *self.body.get_mut().unwrap_or_else(PoisonError::into_inner) = body;
    }
}

impl Call {
    /// Recognises the caller, finds the channel and checks what the route needs.
    async fn admit(
        mut arrival: Arrival,
        format: Option<Format>,
        access: Access,
        freshness: Freshness,
    ) -> Result<Self, Refusal> {
        let services = arrival.services.clone();
        if arrival.credentials.is_empty() {
            services.rates.count_address(arrival.origin.client)?;
        }
        // A name that cannot be a channel's is treated as one that is absent.
        let named = format.zip(arrival.params.get("channel"));
        let name =
            named.map(|(format, name)| ChannelName::parse(format, name).ok().map(|name| (format, name)));
        let directory = services.store.directory();
        // One question to the database for both scopes, as long as the channel is the one we remember.
        let mut scopes = vec![Scope::REGISTRY];
        scopes.extend(
            name.iter().flatten().filter_map(|(format, name)| directory.remembered_scope(*format, name)),
        );
        refresh(&services.store, &scopes, freshness).await?;
        let caller = services.identity.authenticate(&arrival.credentials, arrival.origin.client).await?;
        if caller.is_anonymous() && !arrival.credentials.is_empty() {
            // A session that has ended.
            services.rates.count_address(arrival.origin.client)?;
        }
        services.rates.count_caller(&caller)?;
        if matches!(caller.recognition, Recognition::Session(_)) {
            csrf::check(&mut arrival).await?;
        }
        let channel = match &name {
            Some(Some((format, name))) => directory.find(*format, name).await?,
            _ => None,
        };
        if let Some(channel) = &channel
            && !scopes.contains(&channel.scope)
        {
            refresh(&services.store, &[channel.scope], freshness).await?;
        }
        let call = Self { arrival, caller, channel };
        match access {
            Access::Channel(action) => call.check(action, None)?,
            Access::Authenticated | Access::Admin if call.caller.is_anonymous() => return Err(log_in()),
            Access::Admin if !call.caller.is_admin() => {
                let refusal = Refusal::forbidden("only an admin of the registry may do this");
                return Err(call.denied(refusal, Action::Administer, None));
            }
            Access::Open(_) | Access::Authenticated | Access::Admin => {}
        }
        Ok(call)
    }

    /// Asks again who this is and what they may, after a body that took its time: a token that was revoked or a
    /// channel that was retired meanwhile counts.
    pub async fn check_again(&mut self, action: Action, package: Option<&str>) -> Result<(), Refusal> {
        let before = Arc::clone(self.channel()?);
        let services = &self.arrival.services;
        refresh(&services.store, &[Scope::REGISTRY], Freshness::Now).await?;
        self.caller =
            services.identity.authenticate(&self.arrival.credentials, self.arrival.origin.client).await?;
        let now = services.store.directory().find(before.format, &before.name).await?;
        self.channel = now.filter(|now| now.scope == before.scope);
        self.check(action, package)
    }

    /// The channel that the path names. Routes with [`Access::Channel`] always have one.
    pub fn channel(&self) -> Result<&Arc<Channel>, Refusal> {
        self.channel.as_ref().ok_or_else(|| hidden(&self.caller))
    }

    /// Refuses unless the caller may do this to the package, or with `None` to some package of the channel.
    ///
    /// What the caller may not even read is as good as absent: a challenge for the anonymous, 404 for others.
    pub fn check(&self, action: Action, package: Option<&str>) -> Result<(), Refusal> {
        let channel = self.channel()?;
        if channel.allows(&self.caller.principal, action, package) {
            return Ok(());
        }
        if self.caller.is_anonymous() {
            return Err(log_in());
        }
        if action == Action::Read || !channel.allows(&self.caller.principal, Action::Read, package) {
            return Err(self.denied(hidden(&self.caller), action, package));
        }
        let what =
            package.map_or_else(|| "this channel".to_owned(), |package| format!("{package} in this channel"));
        let refusal = Refusal::forbidden(format!(
            "{} may not {} {what}: ask an owner of {} for a grant",
            self.caller.actor(),
            action.as_str(),
            channel.full_name()
        ));
        Err(self.denied(refusal, action, package))
    }

    /// The refusal, to stand in the audit.
    fn denied(&self, refusal: Refusal, action: Action, package: Option<&str>) -> Refusal {
        refusal.denying(self.audit_entry(action.as_str(), package, json!({})))
    }

    /// For a file or the like whose package nobody knows: where the caller may read every package it is plainly
    /// absent, and else the answer is the one for what is hidden.
    pub fn unknown(&self, message: &'static str) -> Refusal {
        match self.channel.as_ref().map(|channel| self.readable(channel)) {
            Some(Readable::All) => Refusal::not_found(message),
            _ => hidden(&self.caller),
        }
    }

    fn readable(&self, channel: &Channel) -> Readable {
        readable(&channel.grants, &self.caller.principal, channel.format, &channel.name)
    }

    /// The largest upload to the channel, in bytes.
    pub fn max_upload_size(&self) -> u64 {
        let of_channel = self.channel.as_ref().and_then(|channel| channel.settings.max_upload_size);
        of_channel.unwrap_or(self.arrival.services.max_upload_size)
    }

    /// The URL of the channel where it is the same for every request, without a slash at the end.
    pub fn fixed_channel_url(&self, channel: &Channel) -> Option<String> {
        let below = self.arrival.services.public_urls.of(channel.format)?;
        Some(format!("{below}/{}", channel.name.place(channel.format)))
    }

    /// The URL of the channel as the client of this request sees it, without a slash at the end.
    pub fn channel_url(&self, channel: &Channel) -> String {
        self.fixed_channel_url(channel).unwrap_or_else(|| {
            let place = channel.name.place(channel.format);
            format!("{}/{}/{place}", self.arrival.origin.base_url(), channel.format)
        })
    }

    /// What the audit remembers of this call.
    pub fn audit_entry(&self, action: &'static str, package: Option<&str>, detail: Value) -> AuditEntry {
        AuditEntry {
            actor: self.caller.actor().into_owned(),
            credential: self.caller.credential(),
            address: self.arrival.origin.client.map(|address| address.to_string()),
            action,
            channel: self.channel.as_ref().map(|channel| channel.full_name()),
            package: package.map(str::to_owned),
            detail,
            outcome: "done",
            request_id: Some(self.arrival.request_id.to_string()),
        }
    }
}

async fn refresh(store: &Store, scopes: &[Scope], freshness: Freshness) -> Result<(), Refusal> {
    match freshness {
        Freshness::Now => store.revisions().refresh(scopes).await?,
        Freshness::WithinASecond => {
            store.revisions().refresh_if_older(scopes, Duration::from_secs(1)).await?;
        }
    }
    Ok(())
}

fn log_in() -> Refusal {
    Refusal::unauthorized("log in with a user name and a password or token")
}

/// The same answer for what is hidden and for what is absent.
fn hidden(caller: &Caller) -> Refusal {
    if caller.is_anonymous() { log_in() } else { Refusal::not_found("there is no such thing here for you") }
}
