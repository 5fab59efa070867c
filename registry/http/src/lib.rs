//! What every protocol needs of HTTP.
//!
//! The way of a request: [`listen`] and [`serve`] (connections, limits, panic guard, drain) → [`proxy`] (where it
//! comes from) → [`path`] (decoded once) → [`routes`] (by host, then by path and method; each route names the
//! [`Access`] it needs) → [`credentials`] (what it carries to say who sends it) → [`csrf`] (whether a browser that is logged in
//! was asked by a page of ours) → the handler, which answers
//! through [`file`], [`conditional`], [`encoding`] and [`respond`].

pub mod body;
pub mod conditional;
pub mod credentials;
pub mod csrf;
mod download;
pub mod encoding;
pub mod file;
pub mod form;
pub mod front;
pub mod index;
mod index_response;
pub mod listen;
pub mod management;
pub mod metrics;
pub mod path;
pub mod pipeline;
pub mod proxy;
pub mod range;
pub mod rates;
mod refusal;
pub mod respond;
pub mod routes;
pub mod serve;
pub mod stored_index;

pub use body::{Body, BodyLimits, BoxError, RequestBody, RequestBodyError};
pub use conditional::EntityTag;
pub use download::StoredFile;
pub use file::FileResponse;
pub use front::{Front, FrontSettings};
pub use index::IndexCache;
pub use listen::{ListenAddress, Listener, Peer};
pub use path::{PathError, Query, RequestPath};
pub use pipeline::{Call, Freshness, Protocol, Services};
pub use proxy::{Origin, TrustedProxies};
pub use rates::{RateLimits, Rates};
pub use refusal::Refusal;
pub use routes::{Access, Handler, Hosts, Lookup, Mount, MountedChannel, Params, Route, Routes, Table};
pub use serve::{ServeSettings, serve};
pub use stored_index::StoredIndex;
