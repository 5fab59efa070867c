//! The first step: the registry that the channel names, if it admits channels of this namespace.

use std::sync::Arc;

use granary_crds::ChannelObject;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};

use super::{Standing, Step, registry_of};
use crate::conditions::Reason;
use crate::connection::Connection;
use crate::operator::Operator;
use crate::registry::AdmittedNamespaces;

/// What a channel names.
#[derive(Debug)]
pub(super) struct Dereferenced {
    /// Whether nothing may be written.
    pub(super) paused: bool,
    /// The way to the registry, or why there is none yet.
    pub(super) connection: Step<Arc<Connection>>,
}

/// Finds the channel's registry.
pub(super) async fn dereference(operator: &Operator, channel: &ChannelObject) -> Step<Dereferenced> {
    let Some(registry) = registry_of(channel) else {
        return Err(Standing::Stalled(Reason::new(
            "InvalidSpec",
            "spec.registryRef: name the PackageRegistry that serves the channel",
        )));
    };
    let namespace = channel.namespace().unwrap_or_default();
    let Some(link) = operator.link(&registry) else {
        // A namespace tells nothing of its registries to those whom they do not admit.
        return Err(if operator.knows_registry(&registry) && registry.namespace == namespace {
            Standing::Progressing(Reason::new(
                "RegistryNotReady",
                format!("the PackageRegistry {} is not ready yet", registry.name),
            ))
        } else {
            not_found(&registry)
        });
    };
    // Who may name a registry that was paused before the operator began is not known; nothing is written for them.
    let unknown = link.paused && link.admission.is_none();
    if registry.namespace != namespace
        && !unknown
        && !admits(operator, link.admission.as_ref(), &namespace).await?
    {
        return Err(not_found(&registry));
    }
    let connection = link.connection.map_err(|reason| {
        let message = format!("the PackageRegistry {} is not ready: {}", registry.name, reason.message);
        Standing::Progressing(Reason::new("RegistryNotReady", message))
    });
    Ok(Dereferenced { paused: link.paused, connection })
}

fn not_found(registry: &crate::connection::Key) -> Standing {
    let message = format!(
        "there is no PackageRegistry {} in the namespace {}, or its allowedNamespaces does not admit this one",
        registry.name, registry.namespace
    );
    Standing::Progressing(Reason::new("RegistryNotFound", message))
}

async fn admits(operator: &Operator, admission: Option<&AdmittedNamespaces>, namespace: &str) -> Step<bool> {
    let Some(admission) = admission else { return Ok(false) };
    if admission.admits_name(namespace) || !admission.selects() {
        return Ok(admission.admits_name(namespace));
    }
    let api: Api<Namespace> = Api::all(operator.client.clone());
    match api.get_metadata(namespace).await {
        Ok(found) => Ok(admission.admits(namespace, &found.metadata.labels.unwrap_or_default())),
        Err(error) => {
            let message =
                format!("the labels of the namespace cannot be read: {}", granary_core::report(&error));
            Err(Standing::Waiting(Reason::new("ApiUnavailable", message)))
        }
    }
}
