//! `Channel`: rows and grants in the database of its registry, a bucket in its object store, and in the status what is in
//! both. One module a step, as for `PackageRegistry`; what is built here are rows, not objects.

mod apply;
mod dereference;
mod status;

use std::sync::Arc;
use std::time::Duration;

use granary_core::{ChannelName, Format};
use granary_crds::{ChannelObject, ValidChannel, validate_channel_spec};
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};

use self::status::Found;
use crate::conditions::{self, Reason, Standing};
use crate::connection::{BUCKET_BELIEVED, Key};
use crate::operator::{Operator, jittered, key_of};

/// The kind, for metrics.
pub const KIND: &str = "Channel";
/// Keeps a deleted object until its channel is not served any more and, if it was to go, is gone.
pub const FINALIZER: &str = "granary.dev/channel";

/// How soon a channel is looked at again that waits for its registry to be named or to admit it: that is not told.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// A step's result: go on, or stand here.
type Step<T> = Result<T, Standing>;

/// The registry that a channel names.
pub fn registry_of(channel: &ChannelObject) -> Option<Key> {
    let named = channel.spec.registry_ref.as_ref()?;
    let namespace = named.namespace.clone().or_else(|| channel.namespace())?;
    Some(Key { namespace, name: named.name.clone() })
}

/// Whether a channel was found or made as its present spec says.
pub fn is_ready(channel: &ChannelObject) -> bool {
    channel.status.as_ref().is_some_and(|status| {
        status.observed_generation == channel.metadata.generation
            && conditions::ready(&status.conditions).is_some_and(|ready| ready.status == "True")
    })
}

/// Makes a channel what its object says, and writes down what was found.
pub async fn reconcile(operator: &Arc<Operator>, object: &ChannelObject) -> Result<Action, kube::Error> {
    let key = key_of(object);
    if waits_for_first_look(operator, object) {
        return Ok(Action::requeue(jittered(LOOK_AGAIN)));
    }
    let measured = operator.metrics.measure(KIND);
    if object.meta().deletion_timestamp.is_some() {
        return end(operator, &key, object, &measured).await;
    }
    let mut found = Found::new(object, operator.clock.now());
    let standing = match steps(operator, &key, object, &mut found).await {
        Ok(()) => Standing::Ready,
        Err(standing) => standing,
    };
    let changed = found.write(&operator.client, object, &standing).await?;
    let (action, reason) = match &standing {
        Standing::Ready => {
            operator.recovered(KIND, &key);
            measured.succeeded(operator.clock.now());
            (
                Action::requeue(jittered(BUCKET_BELIEVED)),
                Reason::new("Ready", "the channel is as its spec says"),
            )
        }
        Standing::Progressing(reason) => (Action::requeue(jittered(LOOK_AGAIN)), reason.clone()),
        Standing::Waiting(reason) => {
            measured.failed(reason.code);
            (Action::requeue(operator.back_off(KIND, &key)), reason.clone())
        }
        Standing::Stalled(reason) => {
            measured.failed(reason.code);
            // Another object may give free what this one waits for.
            (Action::requeue(jittered(LOOK_AGAIN)), reason.clone())
        }
    };
    if changed {
        let warning = matches!(standing, Standing::Waiting(_) | Standing::Stalled(_));
        tracing::info!(channel = %key, reason = reason.code, message = reason.message, "channel");
        operator.tell(object, warning, &reason).await;
    }
    Ok(action)
}

/// Whether the channel's registry has not been looked at since the operator began, and nothing is new about the channel.
/// The first look at the registry asks for one at its channels; to write before would only tell of the operator itself.
fn waits_for_first_look(operator: &Operator, object: &ChannelObject) -> bool {
    let Some(registry) = registry_of(object) else { return false };
    let observed = object.status.as_ref().and_then(|status| status.observed_generation);
    let nothing_new = observed == object.metadata.generation || object.metadata.deletion_timestamp.is_some();
    nothing_new && operator.links.get(&registry).is_none() && operator.knows_registry(&registry)
}

/// Whether the object is this channel.
pub fn is(object: &ChannelObject, (format, name): &(Format, ChannelName)) -> bool {
    let written = object.spec.name.as_deref().or(object.metadata.name.as_deref());
    object.spec.format == *format && written == Some(name.as_str())
}

async fn steps(operator: &Arc<Operator>, key: &Key, object: &ChannelObject, found: &mut Found) -> Step<()> {
    let named = dereference::dereference(operator, object).await?;
    let valid = validate(key, object)?;
    if named.paused {
        let reason = Reason::new("Paused", "the registry is paused: nothing is written");
        found.conditions.set("Paused", true, reason.code, reason.message.clone());
        return Err(found.stands_as_before(reason));
    }
    let connection = named.connection?;
    found.describe(&connection, &valid);
    apply::ensure_finalizer(operator, object)
        .await
        .map_err(|error| Standing::Waiting(Reason::new("ApiUnavailable", granary_core::report(&error))))?;
    apply::apply(operator, &connection, key, object, &valid, found).await
}

/// All that is wrong with a spec, at once.
fn validate(key: &Key, object: &ChannelObject) -> Step<ValidChannel> {
    validate_channel_spec(&key.name, Some(&key.namespace), &object.spec).map_err(|problems| {
        let listed: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Standing::Stalled(Reason::new("InvalidSpec", listed.join("; ")))
    })
}

/// The object is being deleted: the channel is not served any more, and goes if that was asked for.
async fn end(
    operator: &Arc<Operator>,
    key: &Key,
    object: &ChannelObject,
    measured: &crate::metrics::Measured,
) -> Result<Action, kube::Error> {
    if !object.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(Action::await_change());
    }
    match apply::retire(operator, key, object).await {
        Ok(()) => {
            apply::remove_finalizer(operator, object).await?;
            // Whoever claimed the same channel may have it now.
            if let (Some(registry), Ok(valid)) = (registry_of(object), validate(key, object)) {
                let channel = (valid.format, valid.name);
                operator.look_at_channels(&registry, |other| is(other, &channel) && key_of(other) != *key);
            }
            operator.recovered(KIND, key);
            measured.succeeded(operator.clock.now());
            Ok(Action::await_change())
        }
        Err(standing) => {
            let (Standing::Progressing(reason) | Standing::Waiting(reason) | Standing::Stalled(reason)) =
                &standing
            else {
                return Ok(Action::await_change());
            };
            measured.failed(reason.code);
            let found = Found::new(object, operator.clock.now());
            if found.write(&operator.client, object, &standing).await? {
                operator.tell(object, true, reason).await;
            }
            Ok(Action::requeue(operator.back_off(KIND, key)))
        }
    }
}
