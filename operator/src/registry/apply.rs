//! The fourth step: makes the objects that were built, by server-side apply. What somebody else changed in our fields is
//! set back; what the spec no longer asks for is removed, if it is ours.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind, NamespaceResourceScope};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::build::{Objects, Prepared, StoreObjects};
use super::validate::ValidatedRegistry;
use crate::conditions::Reason;
use crate::operator::FIELD_MANAGER;

/// Group, version and kind of objects that a cluster may not know.
type ForeignKind = (&'static str, &'static str, &'static str);
const HTTP_ROUTE: ForeignKind = ("gateway.networking.k8s.io", "v1", "HTTPRoute");
const SERVICE_MONITOR: ForeignKind = ("monitoring.coreos.com", "v1", "ServiceMonitor");

/// Why an object could not be applied.
#[derive(Debug, thiserror::Error)]
#[error("the {kind} {name} cannot be applied")]
pub(super) struct ApplyError {
    kind: String,
    name: String,
    source: Box<kube::Error>,
}

impl ApplyError {
    fn new(kind: &str, name: &str, source: kube::Error) -> Self {
        Self { kind: kind.to_owned(), name: name.to_owned(), source: Box::new(source) }
    }

    /// The reason of conditions, events and metrics.
    pub(super) fn code(&self) -> &'static str {
        match &*self.source {
            kube::Error::Api(status) if status.is_forbidden() => "ApplyForbidden",
            kube::Error::Api(status) if status.code == 422 => "ApplyInvalid",
            kube::Error::Api(_) => "ApplyRefused",
            _ => "ApiUnavailable",
        }
    }
}

/// What has to stand before the database can be prepared.
#[derive(Debug)]
pub(super) struct Base {
    store_waits: Option<Reason>,
}

impl Base {
    /// Why the operator's own store cannot be used yet.
    pub(super) fn store_is_not_ready(&self) -> Option<Reason> {
        self.store_waits.clone()
    }
}

/// Applies what pods and jobs need before they can start, and the store where the operator runs it.
pub(super) async fn apply_base(
    client: &Client,
    valid: &ValidatedRegistry,
    objects: &Objects<Prepared>,
) -> Result<Base, ApplyError> {
    let target = Target { client, namespace: &valid.namespace };
    target.apply(&objects.service_account).await?;
    target.apply(&objects.config).await?;
    let Some(StoreObjects { service, stateful_set }) = &objects.store else {
        return Ok(Base { store_waits: None });
    };
    target.apply(service).await?;
    let applied = target.apply(stateful_set).await?;
    let status = applied.status.unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or_default() > 0;
    let store_waits = (!ready).then(|| {
        Reason::new("StoreStarting", format!("the pod {}-0 is not ready yet", stateful_set.name_any()))
    });
    Ok(Base { store_waits })
}

/// Applies what serves, the Deployment last: whatever it refers to is there by then.
pub(super) async fn apply_serving(
    client: &Client,
    valid: &ValidatedRegistry,
    objects: Objects<Prepared>,
    is_new: bool,
) -> Result<Deployment, ApplyError> {
    let target = Target { client, namespace: &valid.namespace };
    // No `..`: a kind that nobody applies does not compile.
    let Objects {
        service_account: _,
        config: _,
        store: _,
        migrate_job: _,
        service,
        ingress,
        http_route,
        autoscaler,
        disruption_budget,
        network_policy,
        service_monitor,
        deployment,
        marker: _,
    } = objects;
    let name = valid.name.as_str();
    target.apply(&service).await?;
    target.apply_or_remove(ingress.as_ref(), name).await?;
    target.apply_or_remove(autoscaler.as_ref(), name).await?;
    target.apply_or_remove(disruption_budget.as_ref(), name).await?;
    target.apply_or_remove(network_policy.as_ref(), name).await?;
    for (object, kind) in [(&http_route, HTTP_ROUTE), (&service_monitor, SERVICE_MONITOR)] {
        match object {
            Some(object) => target.apply_foreign(object).await?,
            // One of an earlier spec. The cluster may not even know the kind, so that this is asked once a spec.
            None if is_new => target.remove_foreign(kind, name).await?,
            None => {}
        }
    }
    target.apply(&deployment).await
}

/// How far a job is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JobState {
    /// It runs, or will.
    Running,
    /// It is done.
    Succeeded,
    /// It has failed for good, for this reason.
    Failed(String),
}

/// Creates the job, unless one of its name is there, and says how far it is. A job's template never changes, so that the
/// name stands for everything in it.
pub(super) async fn run_job(client: &Client, job: &Job) -> Result<JobState, ApplyError> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let failed = |error| ApplyError::new("Job", &name, error);
    let standing = match api.get_opt(&name).await.map_err(failed)? {
        Some(standing) => standing,
        None => match api.create(&PostParams::default(), job).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(JobState::Running),
            Err(error) => return Err(failed(error)),
        },
    };
    let status = standing.status.unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let holds = |type_: &str| conditions.iter().find(|c| c.type_ == type_ && c.status == "True");
    if holds("Complete").is_some() {
        return Ok(JobState::Succeeded);
    }
    Ok(match holds("Failed") {
        Some(condition) => JobState::Failed(condition.reason.clone().unwrap_or_default()),
        None => JobState::Running,
    })
}

/// Removes the job with its pods, so that one of its name can be made anew.
pub(super) async fn remove_job(client: &Client, job: &Job) -> Result<(), ApplyError> {
    let (name, namespace) = (job.name_any(), job.namespace().unwrap_or_default());
    let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
    match api.delete(&name, &DeleteParams::background()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(ApplyError::new("Job", &name, error)),
    }
}

/// Removes the registry's other migration jobs that have not done their work.
pub(super) async fn remove_other_jobs(client: &Client, wanted: &Job) -> Result<(), ApplyError> {
    let (name, namespace) = (wanted.name_any(), wanted.namespace().unwrap_or_default());
    let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let selector = crate::labels::selecting(wanted.labels());
    let jobs = api.list(&ListParams::default().labels(&selector)).await;
    for job in jobs.map_err(|error| ApplyError::new("Job", &name, error))? {
        let done = job.status.as_ref().is_some_and(|status| status.succeeded.unwrap_or_default() > 0);
        if job.name_any() != name && !done {
            remove_job(client, &job).await?;
        }
    }
    Ok(())
}

/// Where objects are applied.
struct Target<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Target<'_> {
    fn params() -> PatchParams {
        PatchParams::apply(FIELD_MANAGER).force()
    }

    async fn apply<K>(&self, object: &K) -> Result<K, ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let name = object.name_any();
        api.patch(&name, &Self::params(), &Patch::Apply(object))
            .await
            .map_err(|error| ApplyError::new(&K::kind(&()), &name, error))
    }

    /// An object of a kind that the cluster may not know.
    async fn apply_foreign(&self, object: &DynamicObject) -> Result<(), ApplyError> {
        let (name, types) = (object.name_any(), object.types.clone().unwrap_or_default());
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.namespace, &resource);
        api.patch(&name, &Self::params(), &Patch::Apply(object))
            .await
            .map(drop)
            .map_err(|error| ApplyError::new(&types.kind, &name, error))
    }

    async fn remove_foreign(
        &self,
        (group, version, kind): ForeignKind,
        name: &str,
    ) -> Result<(), ApplyError> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), self.namespace, &resource);
        match api.get_opt(name).await {
            Ok(Some(found)) if crate::labels::is_managed(&found.metadata) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(ApplyError::new(kind, name, error)),
        }
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(ApplyError::new(kind, name, error)),
        }
    }

    /// Applies the object, or removes one of that name which the operator made when it was still wanted.
    async fn apply_or_remove<K>(&self, object: Option<&K>, name: &str) -> Result<(), ApplyError>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        if let Some(object) = object {
            return self.apply(object).await.map(drop);
        }
        let failed = |error| ApplyError::new(&K::kind(&()), name, error);
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let Some(found) = api.get_metadata_opt(name).await.map_err(failed)? else { return Ok(()) };
        if !crate::labels::is_managed(&found.metadata) {
            return Ok(());
        }
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests;
