//! The first step: reads what a `PackageRegistry` names. Secrets are read by name, and only from its own namespace.

use std::collections::{BTreeMap, BTreeSet};

use granary_crds::{CertificateRef, IdentitySpec, ObjectStoreSecretRef, RegistryObject};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::operator::key_of;

/// Why something that the spec names could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The API server did not answer, or refused.
    #[error("the {kind} {name} cannot be read")]
    Api {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server could not be asked what it knows.
    #[error("the API groups of the cluster cannot be read")]
    Groups(#[source] Box<kube::Error>),
    /// The object is not there.
    #[error("there is no {kind} {name} in the namespace; {field} names it")]
    NoObject {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The field of the spec.
        field: &'static str,
    },
    /// The object lacks a key.
    #[error("the {kind} {name} has no key {key}, or nothing in it; {field} names it")]
    NoKey {
        /// `Secret` or `ConfigMap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
        /// The field of the spec.
        field: &'static str,
    },
}

impl DereferenceError {
    /// The reason of conditions, events and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Api { .. } | Self::Groups(_) => "ApiUnavailable",
            Self::NoObject { .. } => "ReferenceNotFound",
            Self::NoKey { .. } => "ReferenceIncomplete",
        }
    }
}

/// What a `PackageRegistry` names.
#[derive(Debug, Clone, Default)]
pub struct Dereferenced {
    /// The admin's connection string.
    pub database_url: Option<SecretString>,
    /// The admin's connection string past any pooler.
    pub direct_url: Option<SecretString>,
    /// The certificate authorities of the database, as PEM.
    pub database_ca: Option<String>,
    /// The operator's access key for the object store.
    pub store_key: Option<(String, SecretString)>,
    /// The certificate authorities of what is called, as PEM.
    pub outbound_ca: Option<String>,
    /// A digest of all that was read and that pods read too.
    pub checksum: String,
    /// Who signs for the cluster's service accounts, if their tokens are taken and the cluster tells.
    pub cluster_issuer: Option<ClusterIssuer>,
    /// Whether the cluster knows `HTTPRoute`; only asked when the spec wants one.
    pub gateway_api: bool,
    /// Whether the cluster knows `ServiceMonitor`; only asked when the spec wants one.
    pub service_monitor: bool,
}

/// Reads what the spec names.
pub async fn dereference(client: &Client, object: &RegistryObject) -> Result<Dereferenced, DereferenceError> {
    let spec = &object.spec;
    let mut reader = Reader::new(client, &key_of(object).namespace);
    let mut found = Dereferenced::default();
    if let Some(database) = &spec.database {
        if let Some(named) = &database.secret_ref {
            let field = "spec.database.secretRef";
            found.database_url = Some(reader.secret(&named.name, &named.url_key, field).await?);
            found.direct_url = reader.optional_secret(&named.name, &named.direct_url_key).await?;
        }
        found.database_ca = reader.certificates(database.ca_ref.as_ref(), "spec.database.caRef").await?;
    }
    if let Some(store) = &spec.object_store {
        let pods = reader.access_key(store.secret_ref.as_ref(), "spec.objectStore.secretRef").await?;
        found.store_key = match &store.provisioner_secret_ref {
            None => pods,
            // Pods do not see it, so that a change of it is none of theirs.
            Some(named) => {
                let mut own = Reader::new(client, &key_of(object).namespace);
                own.access_key(Some(named), "spec.objectStore.provisionerSecretRef").await?
            }
        };
    }
    found.outbound_ca = reader.certificates(spec.outbound.ca_ref.as_ref(), "spec.outbound.caRef").await?;
    if let Some(named) = spec.admins.initial.as_ref().and_then(|initial| initial.password_secret_ref.as_ref())
    {
        reader.secret(&named.name, &named.key, "spec.admins.initial.passwordSecretRef").await?;
    }
    if let Some(named) = &spec.sealing.secret_ref {
        reader.secret(&named.name, &named.key, "spec.sealing.secretRef").await?;
    }
    if let Some(secret) = &spec.identity.secret_ref {
        for key in identity_keys(&spec.identity) {
            reader.secret(&secret.name, &key, "spec.identity.secretRef").await?;
        }
    }
    if spec.identity.service_accounts.enabled {
        found.cluster_issuer = cluster_issuer(client).await;
    }
    if spec.gateway.is_some() || spec.monitoring.service_monitor {
        let groups =
            client.list_api_groups().await.map_err(|error| DereferenceError::Groups(Box::new(error)))?;
        let knows = |name: &str| groups.groups.iter().any(|group| group.name == name);
        found.gateway_api = knows("gateway.networking.k8s.io");
        found.service_monitor = knows("monitoring.coreos.com");
    }
    found.checksum = reader.checksum();
    Ok(found)
}

/// Who signs for the service accounts of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterIssuer {
    /// What their tokens name as their issuer.
    pub url: String,
    /// The keys, as a JSON Web Key Set (RFC 7517).
    pub keys: String,
}

/// Asks the API server who signs for its service accounts. Every service account may ask, unless somebody took that away
/// (`system:service-account-issuer-discovery`); registries then do without.
async fn cluster_issuer(client: &Client) -> Option<ClusterIssuer> {
    let ask = async |path: &str| -> Result<serde_json::Value, kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request(request).await
    };
    let asked = async {
        let discovery = ask("/.well-known/openid-configuration").await?;
        Ok::<_, kube::Error>((discovery, ask("/openid/v1/jwks").await?))
    };
    match asked.await {
        Ok((discovery, keys)) => {
            Some(ClusterIssuer { url: discovery.get("issuer")?.as_str()?.to_owned(), keys: keys.to_string() })
        }
        Err(error) => {
            let error = granary_core::report(&error);
            tracing::warn!(error, "who signs for service accounts is not told: their tokens are not taken");
            None
        }
    }
}

/// The keys of the identity Secret that its sources name, each once.
pub fn identity_keys(spec: &IdentitySpec) -> BTreeSet<String> {
    let sources = spec.authenticators.iter().flat_map(|source| {
        let files = [&source.users, &source.htpasswd].into_iter().flatten().map(|file| Some(&file.key));
        let sql = source.sql.iter().map(|sql| Some(&sql.url_key));
        let http = source.http.iter().map(|http| http.token_key.as_ref());
        let ldap = source.ldap.iter().map(|ldap| ldap.bind_password_key.as_ref());
        files.chain(sql).chain(http).chain(ldap).flatten()
    });
    let providers = spec.providers.iter().flat_map(|provider| {
        let oidc = provider.oidc.as_ref().and_then(|oidc| oidc.client_secret_key.as_ref());
        let github = provider.github.as_ref().map(|github| &github.client_secret_key);
        oidc.into_iter().chain(github)
    });
    sources.chain(providers).cloned().collect()
}

/// Reads Secrets and ConfigMaps of one namespace, each once, and keeps a digest of what was read.
struct Reader {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    known: BTreeMap<String, BTreeMap<String, ByteString>>,
    digest: Sha256,
}

impl Reader {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), namespace),
            config_maps: Api::namespaced(client.clone(), namespace),
            known: BTreeMap::new(),
            digest: Sha256::new(),
        }
    }

    async fn secret(
        &mut self,
        name: &str,
        key: &str,
        field: &'static str,
    ) -> Result<SecretString, DereferenceError> {
        let kind = "Secret";
        let data = self.secret_data(name).await?;
        let data = data.ok_or_else(|| DereferenceError::NoObject { kind, name: name.to_owned(), field })?;
        let text = self.text(&data, name, key);
        text.ok_or_else(|| DereferenceError::NoKey {
            kind,
            name: name.to_owned(),
            key: key.to_owned(),
            field,
        })
    }

    async fn optional_secret(
        &mut self,
        name: &str,
        key: &str,
    ) -> Result<Option<SecretString>, DereferenceError> {
        let data = self.secret_data(name).await?.unwrap_or_default();
        Ok(self.text(&data, name, key))
    }

    async fn access_key(
        &mut self,
        named: Option<&ObjectStoreSecretRef>,
        field: &'static str,
    ) -> Result<Option<(String, SecretString)>, DereferenceError> {
        let Some(named) = named else { return Ok(None) };
        let id = self.secret(&named.name, &named.access_key_id_key, field).await?;
        let key = self.secret(&named.name, &named.secret_access_key_key, field).await?;
        Ok(Some((id.expose_secret().to_owned(), key)))
    }

    async fn certificates(
        &mut self,
        named: Option<&CertificateRef>,
        field: &'static str,
    ) -> Result<Option<String>, DereferenceError> {
        let Some(named) = named else { return Ok(None) };
        if let Some(secret) = &named.secret {
            let pem = self.secret(secret, &named.key, field).await?;
            return Ok(Some(pem.expose_secret().to_owned()));
        }
        let name = named.config_map.clone().unwrap_or_default();
        let kind = "ConfigMap";
        let object = self
            .config_maps
            .get_opt(&name)
            .await
            .map_err(|error| DereferenceError::Api { kind, name: name.clone(), source: Box::new(error) })?
            .ok_or_else(|| DereferenceError::NoObject { kind, name: name.clone(), field })?;
        let pem = object.data.unwrap_or_default().remove(&named.key).filter(|pem| !pem.is_empty());
        let pem = pem.ok_or_else(|| DereferenceError::NoKey { kind, name, key: named.key.clone(), field })?;
        self.digest.update(pem.as_bytes());
        Ok(Some(pem))
    }

    async fn secret_data(
        &mut self,
        name: &str,
    ) -> Result<Option<BTreeMap<String, ByteString>>, DereferenceError> {
        if let Some(data) = self.known.get(name) {
            return Ok(Some(data.clone()));
        }
        let secret = self.secrets.get_opt(name).await.map_err(|error| DereferenceError::Api {
            kind: "Secret",
            name: name.to_owned(),
            source: Box::new(error),
        })?;
        let Some(secret) = secret else { return Ok(None) };
        let data = secret.data.unwrap_or_default();
        self.known.insert(name.to_owned(), data.clone());
        Ok(Some(data))
    }

    /// The text under a key, without the line end that an editor left; nothing when it is empty or no text.
    fn text(&mut self, data: &BTreeMap<String, ByteString>, name: &str, key: &str) -> Option<SecretString> {
        let text = std::str::from_utf8(&data.get(key)?.0).ok()?.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return None;
        }
        for part in [name, key, text] {
            self.digest.update(part.len().to_be_bytes());
            self.digest.update(part.as_bytes());
        }
        Some(SecretString::from(text))
    }

    fn checksum(self) -> String {
        hex::encode(&self.digest.finalize()[..16])
    }
}
