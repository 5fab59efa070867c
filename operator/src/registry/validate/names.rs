//! The grammars of names in Kubernetes.

/// The longest name of a `PackageRegistry`: the pods of its migration jobs are called
/// `NAME-migrate-12345678-abcde` and labelled with the job's name, and the revisions of its store
/// `NAME-store-1234567890`; a label holds 63 characters.
pub const LONGEST_REGISTRY_NAME: usize = 46;

fn is_alphanumeric_at_both_ends(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    edge(text.as_bytes().first()) && edge(text.as_bytes().last())
}

/// A label of a host name (RFC 1123), in lower case: what namespaces are called.
pub fn is_dns_label(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.len() <= 63 && is_alphanumeric_at_both_ends(text) && text.bytes().all(legal)
}

/// Labels with dots between them: what most objects are called.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

/// The name of a registry, which is that of its Service as well (RFC 1035: it begins with a letter).
pub fn is_registry_name(text: &str) -> bool {
    text.len() <= LONGEST_REGISTRY_NAME
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && is_dns_label(text)
}

/// What stands behind the slash of a label's key.
fn is_label_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= 63 && is_alphanumeric_at_both_ends(text) && text.bytes().all(legal)
}

/// The value of a label.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_label_name(text)
}

/// The key of a label or an annotation: `NAME` or `PREFIX/NAME`.
pub fn is_label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

/// A key in a Secret or a `ConfigMap`.
pub fn is_data_key(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=253).contains(&text.len()) && text.bytes().all(legal) && !text.starts_with("..") && text != "."
}
