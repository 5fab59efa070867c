//! What the schemas of the resources say beyond their types: rules in CEL, each with a message that says what to write
//! instead. The API server asks them before an object is stored; [`crate::validate_channel`] and
//! [`crate::validate_registry`] ask the same again, and the rest.

use std::borrow::Cow;
use std::time::Duration;

use granary_core::{PackagePattern, Subject, SubjectName};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value as Json, json};

use crate::secret::Secret;
use crate::value::{ByteSize, Cidr, HostName, HttpUrl, ListenAddress, Raw, SchemaName, Value, ValueError};

/// A rule and what to say to whom breaks it.
type Rule<'a> = (&'a str, &'a str);

const FORMATS: [&str; 4] = ["conan", "pypi", "conda", "quilt"];

/// The key of rules in a schema.
const RULES: &str = "x-kubernetes-validations";

/// How the API server can tell a text that will not be read.
pub(crate) trait CheckedValue: Value {
    /// The longest text. The cost of a rule is reckoned by it.
    const MAX_LENGTH: usize;
    /// What holds for every text that is read, and the error of those for which it does not.
    fn rule() -> Option<(&'static str, ValueError)> {
        None
    }
}

impl CheckedValue for ByteSize {
    const MAX_LENGTH: usize = 32;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some((r"type(self) == int ? self >= 0 : self.matches('^[0-9]+([KMGT]i|[kMGT])?$')", ValueError::Size))
    }
}

impl CheckedValue for Duration {
    const MAX_LENGTH: usize = 32;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some((
            "self.matches('^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$') && self != ''",
            ValueError::Duration,
        ))
    }
}

impl CheckedValue for HttpUrl {
    const MAX_LENGTH: usize = 2048;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some((r"self.matches('^https?://[^/?#@]+(/[^?#]*)?$')", ValueError::Url))
    }
}

impl CheckedValue for HostName {
    const MAX_LENGTH: usize = 253;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some((
            r"self.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$') && !self.matches('^[0-9.]+$')",
            ValueError::Host,
        ))
    }
}

impl CheckedValue for SchemaName {
    const MAX_LENGTH: usize = 63;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some(("self.matches('^[a-z_][a-z0-9_]*$')", ValueError::Schema))
    }
}

impl CheckedValue for Cidr {
    const MAX_LENGTH: usize = 64;

    fn rule() -> Option<(&'static str, ValueError)> {
        Some((r"isCIDR(self) || isIP(self)", ValueError::Cidr))
    }
}

impl CheckedValue for SubjectName {
    const MAX_LENGTH: usize = SubjectName::MAX_LENGTH;
}

// The texts of permissions have no rule of their own: a channel may have so many that asking one for each would cost
// the API server more than it allows. `permission_rules` asks what it can afford, and the operator the rest.
impl CheckedValue for Subject {
    const MAX_LENGTH: usize = 512;
}

impl CheckedValue for PackagePattern {
    const MAX_LENGTH: usize = PackagePattern::MAX_LENGTH;
}

impl CheckedValue for ListenAddress {
    const MAX_LENGTH: usize = 128;
}

impl<T: CheckedValue> JsonSchema for Raw<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Raw_{}", std::any::type_name::<T>().replace(|c: char| !c.is_ascii_alphanumeric(), "_"))
            .into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = if T::MAY_BE_NUMBER {
            json_schema!({"x-kubernetes-int-or-string": true, "maxLength": T::MAX_LENGTH})
        } else {
            json_schema!({"type": "string", "minLength": 1, "maxLength": T::MAX_LENGTH})
        };
        if let Some((rule, error)) = T::rule() {
            add(&mut schema, &[(rule, &error.to_string())]);
        }
        schema
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 2048})
    }
}

/// An object whose fields are somebody else's.
pub(crate) fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true})
}

/// `granary_core::Format`.
pub(crate) fn format(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": FORMATS})
}

/// `granary_core::Role`.
pub(crate) fn role(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["Reader", "Publisher", "Maintainer", "Owner"]})
}

/// Adds rules to those that a schema has.
pub(crate) fn add(schema: &mut Schema, rules: &[Rule<'_>]) {
    let entry = schema.ensure_object().entry(RULES).or_insert_with(|| json!([]));
    if let Json::Array(list) = entry {
        list.extend(rules.iter().map(|(rule, message)| json!({"rule": rule, "message": message})));
    }
}

/// A field that keeps the value it was created with.
fn immutable(field: &str) -> String {
    format!(
        "has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    )
}

pub(crate) fn channel_rules(schema: &mut Schema) {
    let name = immutable("name");
    let registry = immutable("registryRef");
    add(
        schema,
        &[
            ("self.format == oldSelf.format", "format never changes: delete the object and make another"),
            (&name, "name never changes: delete the object and make another"),
            (&registry, "registryRef never changes: delete the object and make another"),
            (
                "has(self.registryRef)",
                "name the PackageRegistry that serves the channel: registryRef: {name: NAME}",
            ),
            (
                "!has(self.name) || self.name.matches('^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$')",
                "a channel's name is letters, digits, '.', '_' and '-', and begins with a letter or a digit; a pypi channel may have two such parts: user/index",
            ),
            (
                "self.format == 'pypi' || !has(self.name) || !self.name.contains('/')",
                "only a pypi channel has a name of two parts (user/index); write one without a slash",
            ),
            (
                "!has(self.title) || !self.title.matches('[[:cntrl:]]')",
                "title is one line, with no control characters; put the rest into description",
            ),
            (
                "self.format == 'conda' || (!has(self.source.proxy) && !has(self.source.mirror) && !has(self.source.virtual))",
                "proxy, mirror and virtual channels of this format are not served yet; write hosted: {} or leave source out",
            ),
        ],
    );
    for format in FORMATS {
        let rule = format!("!has(self.{format}) || self.format == '{format}'");
        let message =
            format!("these are settings of a {format} channel; remove them or write format: {format}");
        add(schema, &[(&rule, &message)]);
    }
}

pub(crate) fn permission_rules(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "self.subjects.all(s, s == 'anonymous' || s == 'authenticated' || (s.startsWith('user:') && size(s) > 5) || (s.startsWith('group:') && size(s) > 6) || s.startsWith('serviceaccount:') || s.startsWith('workload:'))",
                "a subject is user:NAME, group:NAME, serviceaccount:NAMESPACE/NAME, workload:ISSUER?CLAIM=PATTERN, authenticated or anonymous",
            ),
            (
                "self.role != 'Owner' || ((!has(self.packages) || size(self.packages) == 0) && (!has(self.except) || size(self.except) == 0))",
                "an Owner has all packages: remove packages and except, or write role: Maintainer",
            ),
        ],
    );
}

pub(crate) fn source_rules(schema: &mut Schema) {
    add(
        schema,
        &[(
            "[has(self.hosted), has(self.proxy), has(self.mirror), has(self.virtual)].filter(is, is).size() <= 1",
            "a channel has one source: keep one of hosted, proxy, mirror and virtual",
        )],
    );
}

pub(crate) fn bucket_rules(schema: &mut Schema) {
    let name = immutable("name");
    add(
        schema,
        &[
            (
                "!has(self.name) || self.name.matches('^[a-z0-9][a-z0-9-]*[a-z0-9]$')",
                "a bucket's name is 3 to 63 lower-case letters, digits and '-', with a letter or a digit at both ends",
            ),
            (&name, "a channel keeps its bucket: bucket.name never changes"),
        ],
    );
}

pub(crate) fn encryption_rules(schema: &mut Schema) {
    add(
        schema,
        &[(
            "!has(self.kmsKeyId) || self.type == 'aws:kms'",
            "a key goes with type: aws:kms; write that or remove kmsKeyId",
        )],
    );
}

pub(crate) fn registry_rules(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "has(self.database) == has(self.objectStore)",
                "give both database and objectStore, or neither: the operator then runs a store of its own",
            ),
            (
                "!has(self.gateway) || has(self.host) || has(self.hosts.pypi.host) || has(self.hosts.conda.host)",
                "a gateway needs a host to route: write host: packages.example.com",
            ),
            (
                "!has(self.gateway) || !has(self.tls)",
                "a Gateway's listener has the certificate: remove tls, and write publicUrl: https://HOST",
            ),
            (
                "!has(self.host) || !has(self.hosts.pypi.host) || self.host != self.hosts.pypi.host",
                "hosts.pypi.host is the host of all protocols: name another, or leave it out",
            ),
            (
                "!has(self.host) || !has(self.hosts.conda.host) || self.host != self.hosts.conda.host",
                "hosts.conda.host is the host of all protocols: name another, or leave it out",
            ),
            (
                "!has(self.hosts.pypi.host) || !has(self.hosts.conda.host) || self.hosts.pypi.host != self.hosts.conda.host",
                "hosts.conda.host is hosts.pypi.host too: name another, or leave one out",
            ),
            (
                "!self.backupRetention.matches('^(0+(d|h|m|s|ms))+$')",
                "backupRetention: write a span of time that is longer than nothing",
            ),
            (
                "!has(self.tls) || has(self.host) || has(self.hosts.pypi.host) || has(self.hosts.conda.host)",
                "a certificate needs a host: write host: packages.example.com",
            ),
        ],
    );
}

pub(crate) fn database_rules(schema: &mut Schema) {
    let message = "a connection string does not belong in an object: put it into a Secret, and name that: secretRef: {name: NAME}";
    add(
        schema,
        &[
            ("!has(self.url) && !has(self.directUrl)", message),
            (
                "has(self.secretRef)",
                "name the Secret that holds the connection string: secretRef: {name: NAME}",
            ),
            (
                "self.schema == oldSelf.schema",
                "schema never changes: the tables stay where they are; make another PackageRegistry",
            ),
            (
                "self.schema != 'public' && self.schema != 'information_schema' && !self.schema.startsWith('pg_')",
                "write a schema of its own: public, information_schema and pg_* belong to Postgres",
            ),
        ],
    );
}

pub(crate) fn object_store_rules(schema: &mut Schema) {
    add(
        schema,
        &[
            (
                "!has(self.accessKeyId) && !has(self.secretAccessKey)",
                "an access key does not belong in an object: put it into a Secret, and name that: secretRef: {name: NAME}",
            ),
            (
                "self.bucketPrefix == oldSelf.bucketPrefix && self.bucketSuffix == oldSelf.bucketSuffix",
                "bucketPrefix and bucketSuffix never change: the channels' buckets are named by them",
            ),
            (
                "self.bucketPrefix.matches('^([a-z0-9][a-z0-9-]*)?$')",
                "the bucket prefix is lower-case letters, digits and '-', beginning with a letter or a digit",
            ),
            (
                "self.bucketSuffix.matches('^([a-z0-9-]*[a-z0-9])?$')",
                "the bucket suffix is lower-case letters, digits and '-', ending with a letter or a digit",
            ),
            (
                "size(self.bucketPrefix) + size(self.bucketSuffix) <= 32",
                "bucketPrefix and bucketSuffix have at most 32 characters together",
            ),
            ("self.region != ''", "name a region; stores that know none take us-east-1"),
        ],
    );
}

pub(crate) fn initial_admin_rules(schema: &mut Schema) {
    let message =
        "name the Secret that holds the admin's password: passwordSecretRef: {name: NAME, key: password}";
    add(schema, &[("has(self.passwordSecretRef)", message)]);
}

pub(crate) fn certificate_ref_rules(schema: &mut Schema) {
    let message = "name either a configMap or a secret";
    add(schema, &[("has(self.configMap) != has(self.secret)", message)]);
}

pub(crate) fn autoscaling_rules(schema: &mut Schema) {
    let message = "minReplicas is at most maxReplicas";
    add(schema, &[("self.minReplicas <= self.maxReplicas", message)]);
}

pub(crate) fn allowed_namespaces_rules(schema: &mut Schema) {
    add(
        schema,
        &[("self.names.all(n, n != '*')", "names are no patterns: to admit by labels, write a selector")],
    );
}

pub(crate) fn upload_limit_rules(schema: &mut Schema) {
    let rule = "!has(self.maxUploadSize) || (type(self.maxUploadSize) == int ? self.maxUploadSize > 0 : !self.maxUploadSize.matches('^0+([KMGT]i|[kMGT])?$'))";
    add(schema, &[(rule, "maxUploadSize: a limit of 0 lets nothing in; write a size such as 1Gi")]);
}

pub(crate) fn storage_rules(schema: &mut Schema) {
    let class = immutable("storageClassName");
    let message = "the volume of a store never changes here: enlarge its PersistentVolumeClaim";
    let rules = ["self.size == oldSelf.size", "self.ephemeral == oldSelf.ephemeral", class.as_str()];
    for rule in rules {
        add(schema, &[(rule, message)]);
    }
}

pub(crate) fn registry_ref_rules(schema: &mut Schema) {
    // `namespace` is a word of CEL, and written so.
    let message = "write names that Kubernetes takes: lower-case letters, digits, '-' and '.'";
    add(
        schema,
        &[
            ("self.name.matches('^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$')", message),
            (
                "!has(self.__namespace__) || self.__namespace__.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$')",
                message,
            ),
        ],
    );
}

pub(crate) fn tls_rules(schema: &mut Schema) {
    let message =
        "name the Secret of the certificate (secretName), or the cert-manager issuer that makes it (issuer)";
    add(schema, &[("has(self.secretName) || has(self.issuer)", message)]);
}
