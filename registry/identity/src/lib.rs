//! Who is this: every kind of credential, accounts, tokens.

mod accounts;
mod attempts;
mod authenticators;
mod caller;
mod credential;
mod jwt;
mod password;
mod service;
mod sql;
mod token;
mod workloads;

pub use accounts::{AccountError, Accounts, NewAccount, NewToken, TokenInfo};
pub use attempts::{AttemptError, Attempts};
pub use authenticators::{AuthenticatorError, Authenticators, Known, SourceError, Verdict};
pub use caller::{Caller, Recognition};
pub use credential::Credential;
pub use jwt::fetch::KeysError;
pub use jwt::json::JsonError;
pub use jwt::token::SignedTokenError;
pub use password::{PasswordError, Passwords};
pub use service::{AuthError, Identity, MintError, Minted, Sources};
pub use token::{TOKEN_PREFIX, TokenText, TokenTextError};
pub use workloads::{ClaimsError, Verified, WorkloadError, Workloads};

use granary_store::Migrations;

/// The migrations of accounts and tokens.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "identity",
    files: &[
        ("V1__accounts", include_str!("../migrations/V1__accounts.sql")),
        ("V2__identity", include_str!("../migrations/V2__identity.sql")),
        ("V3__attempts", include_str!("../migrations/V3__attempts.sql")),
    ],
};
