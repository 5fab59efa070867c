//! Who is this: every kind of credential, accounts, tokens, logins, sessions.

mod accounts;
mod attempts;
mod authenticators;
mod caller;
mod credential;
mod csrf;
mod devices;
mod jwt;
mod logins;
mod outbound;
mod password;
mod people;
mod providers;
mod random;
mod service;
mod sql;
mod token;
mod turns;
mod user_code;
mod users;
mod workloads;

pub use accounts::{AccountError, Accounts, NewAccount, NewToken, TokenInfo, TokenKind};
pub use attempts::{AttemptError, Attempts, network_of};
pub use authenticators::{AuthenticatorError, Authenticators, Known, SourceError, Verdict};
pub use caller::{Caller, Recognition};
pub use credential::Credential;
pub use csrf::CsrfToken;
pub use devices::{
    Asked, DeviceAnswer, DeviceError, DeviceRequest, Granted, Terminal, UserCode, UserCodeError,
};
pub use jwt::fetch::KeysError;
pub use jwt::json::JsonError;
pub use jwt::token::SignedTokenError;
pub use logins::{Callback, LOGIN_LIFETIME, LoginError};
pub use password::{PasswordError, Passwords};
pub use people::{Session, Whence};
pub use providers::{
    AskError, DiscoveryError, IdTokenError, Person, PersonError, Provider, ProviderError, Providers,
};
pub use random::{Unguessable, UnguessableError};
pub use service::{AuthError, Identity, MintError, Minted, Sources};
pub use token::{TOKEN_PREFIX, TokenText, TokenTextError};
pub use turns::Full;
pub use users::{Page, ServerRole, User, UserError};
pub use workloads::{ClaimsError, Verified, WorkloadError, Workloads};

use granary_store::Migrations;

/// The migrations of accounts, tokens and logins.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "identity",
    files: &[
        ("V1__accounts", include_str!("../migrations/V1__accounts.sql")),
        ("V2__identity", include_str!("../migrations/V2__identity.sql")),
        ("V3__attempts", include_str!("../migrations/V3__attempts.sql")),
        ("V4__logins", include_str!("../migrations/V4__logins.sql")),
        ("V5__server_roles", include_str!("../migrations/V5__server_roles.sql")),
    ],
};
