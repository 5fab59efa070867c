//! The one validation: a spec as written becomes its typed form, or every problem at once.

mod channel;
mod identity;
mod provider;
mod registry;
mod source;

pub(crate) use channel::is_object_name;
pub use channel::{
    BucketPlan, ChannelSettings, Encryption, ValidChannel, validate_channel, validate_channel_spec,
};
pub use identity::{
    Authenticator, AuthenticatorSource, Identity, Issuer, KeySource, Ldap, Logins, PasswordCost,
};
pub(crate) use provider::GITHUB;
pub use provider::{GitHub, Oidc, Provider, ProviderKind, Sessions};
pub use registry::{
    Admins, Cache, Database, InitialAdmin, Jobs, Limits, ObjectStore, Outbound, PasswordSource, Telemetry,
    ValidRegistry, validate_registry,
};
pub use source::{Mirror, Proxy, Source, Virtual};

#[cfg(test)]
mod tests;
