//! Who is this: every kind of credential, accounts, tokens.

mod accounts;
mod caller;
mod credential;
mod password;
mod service;
mod sql;
mod token;

pub use accounts::{AccountError, Accounts, NewAccount, TokenInfo};
pub use caller::{Caller, Recognition};
pub use credential::Credential;
pub use password::{PasswordError, Passwords};
pub use service::{AuthError, Identity};
pub use token::{TOKEN_PREFIX, TokenText, TokenTextError};

use granary_store::Migrations;

/// The migrations of accounts and tokens.
pub const MIGRATIONS: Migrations = Migrations {
    owner: "identity",
    files: &[("V1__accounts", include_str!("../migrations/V1__accounts.sql"))],
};
