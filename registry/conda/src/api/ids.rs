//! The ids that clients of Quetz expect: made of names, so that they are the same on every pod and for ever.

use sha1::{Digest as _, Sha1};
use uuid::{Builder, Uuid};

/// Drawn once: what a name is hashed behind (RFC 9562, version 5).
const NAMESPACE: Uuid = Uuid::from_u128(0x7d1c_94b0_51f6_4c1e_9f0a_3d62_e8b7_45a1);

/// The id of what has this name among things of a kind.
pub(crate) fn id(kind: &str, name: &str) -> Uuid {
    let mut hash = Sha1::new();
    hash.update(NAMESPACE.as_bytes());
    hash.update(kind.as_bytes());
    hash.update([0]);
    hash.update(name.as_bytes());
    let digest: [u8; 20] = hash.finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    Builder::from_sha1_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn an_id_is_that_of_its_kind_and_name() {
        let ada = id("user", "ada");
        assert_eq!((ada, ada.get_version_num()), (id("user", "ada"), 5));
        assert!(ada != id("user", "bob") && ada != id("file", "ada"));
    }
}
