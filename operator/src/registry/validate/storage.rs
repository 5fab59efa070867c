//! Where a registry keeps what it holds: a Postgres and an S3 store that are there, or a store of the
//! operator's own.

use granary_crds::{
    ByteSize, CertificateRef, DatabaseSecretRef, DatabaseSpec, InitialAdminSpec, ObjectStoreSecretRef,
    ObjectStoreSpec, PackageRegistrySpec, SealingSpec, SecretKeyRef,
};

use super::{Facts, Problems};

/// Where a registry keeps what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorePlan {
    /// In a Postgres and an S3 store that are there.
    External {
        /// Postgres.
        database: DatabasePlan,
        /// The S3 store.
        object_store: ObjectStorePlan,
    },
    /// In a store that the operator runs.
    Own(OwnStore),
}

/// A Postgres that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabasePlan {
    /// Where the connection strings are.
    pub secret: DatabaseSecretRef,
    /// Whether the Secret has one past any pooler.
    pub has_direct_url: bool,
    /// Whether the operator makes roles and schema; the pods use the Secret as it is when it does not.
    pub provision: bool,
    /// Certificate authorities beside the system's.
    pub ca: Option<CertificateRef>,
}

/// An S3 store that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectStorePlan {
    /// The access key of the pods; their own identity when absent.
    pub secret: Option<ObjectStoreSecretRef>,
}

/// A store that the operator runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnStore {
    /// The size of the volume.
    pub size: ByteSize,
    /// Its storage class; the cluster's default when absent.
    pub storage_class_name: Option<String>,
    /// Whether the volume goes with the pod.
    pub ephemeral: bool,
    /// The image.
    pub image: String,
}

/// Reads where the registry keeps what it holds.
pub fn storage(problems: &mut Problems, spec: &PackageRegistrySpec, facts: &Facts) -> Option<StorePlan> {
    let database = spec.database.as_ref().and_then(|spec| database(problems, spec, facts));
    let object_store = spec.object_store.as_ref().map(|spec| object_store(problems, spec));
    let missing = match (&spec.database, &spec.object_store) {
        (Some(_), Some(_)) => {
            return Some(StorePlan::External { database: database?, object_store: object_store? });
        }
        (None, None) => return own_store(problems, spec, facts).map(StorePlan::Own),
        (None, Some(_)) => "spec.database",
        (Some(_), None) => "spec.objectStore",
    };
    problems.add(
        missing,
        "give both database and objectStore, or neither: the operator then runs a store of its own",
    );
    None
}

fn database(problems: &mut Problems, spec: &DatabaseSpec, facts: &Facts) -> Option<DatabasePlan> {
    for (field, given) in [("url", &spec.url), ("directUrl", &spec.direct_url)] {
        if given.is_some() {
            problems.add(
                format!("spec.database.{field}"),
                "a connection string does not belong in an object: put it into a Secret, and name that: \
                 secretRef: {name: NAME}",
            );
        }
    }
    if let Some(reference) = &spec.ca_ref {
        certificates(problems, "spec.database.caRef", reference);
    }
    let is_inline = spec.url.is_some() || spec.direct_url.is_some();
    let Some(secret) = &spec.secret_ref else {
        if is_inline {
            return None;
        }
        problems.add(
            "spec.database.secretRef",
            "name the Secret that holds the connection string: secretRef: {name: NAME}",
        );
        return None;
    };
    problems.object_name("spec.database.secretRef.name", &secret.name, "Secret");
    problems.data_key("spec.database.secretRef.urlKey", &secret.url_key);
    problems.data_key("spec.database.secretRef.directUrlKey", &secret.direct_url_key);
    Some(DatabasePlan {
        secret: secret.clone(),
        has_direct_url: facts.has_direct_url,
        provision: spec.provision,
        ca: spec.ca_ref.clone(),
    })
}

fn object_store(problems: &mut Problems, spec: &ObjectStoreSpec) -> ObjectStorePlan {
    for (field, given) in [("accessKeyId", &spec.access_key_id), ("secretAccessKey", &spec.secret_access_key)]
    {
        if given.is_some() {
            problems.add(
                format!("spec.objectStore.{field}"),
                "an access key does not belong in an object: put it into a Secret, and name that: \
                 secretRef: {name: NAME}",
            );
        }
    }
    let references =
        [("secretRef", &spec.secret_ref), ("provisionerSecretRef", &spec.provisioner_secret_ref)];
    for (field, secret) in references {
        let Some(secret) = secret else { continue };
        let path = format!("spec.objectStore.{field}");
        problems.object_name(&format!("{path}.name"), &secret.name, "Secret");
        problems.data_key(&format!("{path}.accessKeyIdKey"), &secret.access_key_id_key);
        problems.data_key(&format!("{path}.secretAccessKeyKey"), &secret.secret_access_key_key);
    }
    ObjectStorePlan { secret: spec.secret_ref.clone() }
}

fn own_store(problems: &mut Problems, spec: &PackageRegistrySpec, facts: &Facts) -> Option<OwnStore> {
    let storage = &spec.storage;
    let size = problems.read("spec.storage.size", &storage.size)?;
    if size == ByteSize::new(0) {
        problems.add("spec.storage.size", "a volume of 0 holds nothing; write a size such as 20Gi");
    }
    if let Some(class) = &storage.storage_class_name {
        problems.object_name("spec.storage.storageClassName", class, "storage class");
    }
    let image = storage.image.as_ref().unwrap_or(&facts.defaults.store_image);
    problems.image("spec.storage.image", image);
    Some(OwnStore {
        size,
        storage_class_name: storage.storage_class_name.clone(),
        ephemeral: storage.ephemeral,
        image: image.clone(),
    })
}

/// Checks a reference to certificate authorities.
pub(super) fn certificates(problems: &mut Problems, path: &str, reference: &CertificateRef) {
    match (&reference.config_map, &reference.secret) {
        (Some(name), None) => problems.object_name(&format!("{path}.configMap"), name, "ConfigMap"),
        (None, Some(name)) => problems.object_name(&format!("{path}.secret"), name, "Secret"),
        _ => problems.add(path, "name either a configMap or a secret"),
    }
    problems.data_key(&format!("{path}.key"), &reference.key);
}

/// The Secret that holds the keys that secrets are encrypted with.
pub(super) fn sealing_keys(problems: &mut Problems, spec: &SealingSpec) -> Option<SecretKeyRef> {
    const PATH: &str = "spec.sealing.secretRef";
    if spec.keys.is_some() {
        problems.add(
            "spec.sealing.keys",
            "keys do not belong in an object: put them into a Secret, and name that: \
             secretRef: {name: NAME, key: keys}",
        );
    }
    let secret = spec.secret_ref.as_ref()?;
    problems.object_name(&format!("{PATH}.name"), &secret.name, "Secret");
    problems.data_key(&format!("{PATH}.key"), &secret.key);
    Some(secret.clone())
}

/// The Secret that holds the first admin's password.
pub(super) fn initial_admin(problems: &mut Problems, spec: &InitialAdminSpec) -> Option<SecretKeyRef> {
    const PATH: &str = "spec.admins.initial.passwordSecretRef";
    if spec.password_hash.is_some() {
        problems.add(
            "spec.admins.initial.passwordHash",
            "a password's hash does not belong in an object: put the password into a Secret, and name that: \
             passwordSecretRef: {name: NAME, key: password}",
        );
        return None;
    }
    let Some(secret) = &spec.password_secret_ref else {
        problems.add(
            PATH,
            "name the Secret that holds the admin's password: passwordSecretRef: {name: NAME, key: password}",
        );
        return None;
    };
    problems.object_name(&format!("{PATH}.name"), &secret.name, "Secret");
    problems.data_key(&format!("{PATH}.key"), &secret.key);
    Some(secret.clone())
}
