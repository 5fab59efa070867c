//! Tokens that others sign (JSON Web Tokens): read strictly, and checked with the keys of who says to have signed them. What
//! their claims have to say is for [`crate::workloads`] and [`crate::providers`].
//!
//! Formats: RFC 7519 (the token), RFC 7515 (its signature), RFC 7517 and 7518 (keys), `OpenID` Connect Discovery 1.0.
//! RFC 8725 tells what goes wrong.

pub(crate) mod claim;
pub(crate) mod fetch;
pub(crate) mod json;
pub(crate) mod key_set;
pub(crate) mod keys;
pub(crate) mod token;

use jiff::SignedDuration;

/// How far an issuer's clock and ours may differ.
pub(crate) const LEEWAY: SignedDuration = SignedDuration::from_secs(60);
