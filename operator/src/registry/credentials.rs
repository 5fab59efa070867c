//! The Secrets that the operator makes: passwords of its own, drawn once and kept until somebody asks for others.

use std::collections::BTreeMap;

use granary_crds::RegistryObject;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PostParams};
use kube::{Api, Client, Resource};
use rand::RngExt;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::labels::Component;
use crate::operator::{key_of, merging};

/// The keys of the Secret `NAME-store`.
pub const STORE_KEYS: [&str; 3] = ["postgres-password", "access-key-id", "secret-access-key"];
/// The keys of the Secret `NAME-database` that hold passwords.
pub const DATABASE_PASSWORDS: [&str; 2] = ["owner-password", "app-password"];
/// The keys of the Secret `NAME-database` that hold connection strings.
pub const DATABASE_URLS: [&str; 2] = ["owner-url", "url"];

/// The key of the Secret `NAME-database` that says which of the two roles for pods is in use.
pub const APP_ROLE: &str = "app-role";

/// A Secret of ours.
#[derive(Debug, Clone)]
pub struct Generated {
    /// What it holds, by key.
    pub data: BTreeMap<String, SecretString>,
    /// Whether it was drawn just now.
    pub is_new: bool,
}

impl Generated {
    /// The value of a key; empty when there is none.
    pub fn get(&self, key: &str) -> SecretString {
        self.data.get(key).cloned().unwrap_or_default()
    }
}

/// The Secret of this name with a random value under each of these keys. Made when it is not there; what is there
/// already is kept, so that two operators who meet agree.
pub async fn ensure_random(
    client: &Client,
    object: &RegistryObject,
    name: &str,
    component: Component,
    keys: &[&str],
) -> Result<Generated, kube::Error> {
    let api = secrets(client, object);
    if let Some(found) = api.get_opt(name).await? {
        return complete(&api, found, name, keys).await;
    }
    let data = keys.iter().map(|key| ((*key).to_owned(), ByteString(random().into_bytes()))).collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(crate::labels::labels(&key_of(object).name, component)),
            owner_references: object.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(made) => Ok(Generated { data: texts(made), is_new: true }),
        // Somebody was quicker; theirs is the one that counts.
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let found = api.get(name).await?;
            complete(&api, found, name, keys).await
        }
        Err(error) => Err(error),
    }
}

/// Sets keys of a Secret that exists.
pub async fn set(
    client: &Client,
    object: &RegistryObject,
    name: &str,
    values: &[(&str, &SecretString)],
) -> Result<(), kube::Error> {
    let data: BTreeMap<&str, &str> =
        values.iter().map(|(key, value)| (*key, value.expose_secret())).collect();
    merge(&secrets(client, object), name, &data).await
}

fn secrets(client: &Client, object: &RegistryObject) -> Api<Secret> {
    Api::namespaced(client.clone(), &key_of(object).namespace)
}

/// Draws what a Secret lacks: one that an older version made, or that somebody emptied.
async fn complete(
    api: &Api<Secret>,
    found: Secret,
    name: &str,
    keys: &[&str],
) -> Result<Generated, kube::Error> {
    let data = texts(found);
    let missing: Vec<(&str, String)> =
        keys.iter().filter(|key| !data.contains_key(**key)).map(|key| (*key, random())).collect();
    if missing.is_empty() {
        return Ok(Generated { data, is_new: false });
    }
    merge(api, name, &missing.iter().map(|(key, value)| (*key, value.as_str())).collect()).await?;
    Ok(Generated { data: texts(api.get(name).await?), is_new: true })
}

async fn merge(api: &Api<Secret>, name: &str, data: &BTreeMap<&str, &str>) -> Result<(), kube::Error> {
    api.patch(name, &merging(), &Patch::Merge(json!({"stringData": data}))).await.map(drop)
}

fn texts(secret: Secret) -> BTreeMap<String, SecretString> {
    let data = secret.data.unwrap_or_default();
    let text = |bytes: ByteString| String::from_utf8(bytes.0).ok().filter(|text| !text.is_empty());
    data.into_iter().filter_map(|(key, bytes)| Some((key, SecretString::from(text(bytes)?)))).collect()
}

/// 160 bits in characters that need no escape in a URL.
pub fn random() -> String {
    let bytes: [u8; 20] = rand::rng().random();
    hex::encode(bytes)
}

#[cfg(test)]
mod tests;
