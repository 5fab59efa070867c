//! The route table: method and path to a handler, and what access each route needs.
//!
//! A protocol declares its [`Routes`] once, relative to where it will be mounted. A [`Table`] mounts them
//! under a prefix, or at the root of a host of their own; [`Hosts`] picks the table of the host that was asked.
//!
//! A pattern is a path of
//! - literal segments,
//! - `{name}`, any one segment,
//! - `{channel}`, the name of a channel: as many segments as the [`Mount`] allows (`{channel:1}` is never more
//!   than one), each beginning with a letter or a digit,
//! - `{name*}` at the end, one or more segments.
//!
//! A pattern that ends in a slash matches only a path that does, and the other way round; `{name*}` matches both.
//! Where several patterns match, segments are compared from left to right: a literal comes before a
//! variable, a variable before `{name*}`. Two routes that this cannot order are refused when the table is built.

mod pattern;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use granary_core::Action;
use http::{Method, Response};

use crate::Body;
pub use table::{Hosts, Lookup, Match, Params, Route, Table};

/// Answers a request; `C` is what it is told about it.
pub type Handler<C> = Arc<dyn Fn(C) -> BoxFuture<'static, Response<Body>> + Send + Sync>;

/// What a caller needs to get to a route. There is no route without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing, for the reason given.
    Open(&'static str),
    /// This action on the channel that the path names.
    Channel(Action),
    /// To be logged in.
    Authenticated,
    /// To be an admin of the registry.
    Admin,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(reason) => write!(f, "open: {reason}"),
            Self::Channel(action) => write!(f, "channel: {}", action.as_str()),
            Self::Authenticated => f.write_str("authenticated"),
            Self::Admin => f.write_str("admin"),
        }
    }
}

/// Routes that cannot be put into one table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The pattern is not one.
    #[error("the pattern {pattern:?} is wrong: {problem}")]
    Pattern {
        /// As it was declared, behind its prefix.
        pattern: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Two routes would match the same requests.
    #[error("{method} {first} and {second} match the same paths")]
    Ambiguous {
        /// The method of both.
        method: Method,
        /// The pattern that came first.
        first: String,
        /// The pattern that came second.
        second: String,
    },
    /// A host was given two tables.
    #[error("the host {0:?} has two route tables")]
    DuplicateHost(String),
}

/// One route as a protocol declares it.
struct Declared<C> {
    method: Method,
    pattern: &'static str,
    access: Access,
    handler: Handler<C>,
}

impl<C> Clone for Declared<C> {
    fn clone(&self) -> Self {
        Self { method: self.method.clone(), handler: Arc::clone(&self.handler), ..*self }
    }
}

/// The routes of one protocol, before they are mounted.
pub struct Routes<C> {
    declared: Vec<Declared<C>>,
}

impl<C> Routes<C> {
    /// No routes yet.
    pub const fn new() -> Self {
        Self { declared: Vec::new() }
    }

    /// Adds a route. `GET` routes answer `HEAD` too, unless there is one for it.
    #[must_use]
    pub fn route<F, R>(mut self, method: Method, pattern: &'static str, access: Access, handler: F) -> Self
    where
        F: Fn(C) -> R + Send + Sync + 'static,
        R: Future<Output = Response<Body>> + Send + 'static,
    {
        let handler: Handler<C> = Arc::new(move |context| Box::pin(handler(context)));
        self.declared.push(Declared { method, pattern, access, handler });
        self
    }

    /// Adds all of another set.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.declared.extend(other.declared);
        self
    }
}

impl<C> Default for Routes<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Clone for Routes<C> {
    fn clone(&self) -> Self {
        Self { declared: self.declared.clone() }
    }
}

/// How the path names the channel, where routes are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountedChannel {
    /// By up to this many segments.
    Segments(usize),
    /// Not at all: everything here belongs to this channel, and `{channel}` vanishes from the patterns.
    Fixed(String),
}

/// Where routes are mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    prefix: String,
    channel: MountedChannel,
}

impl Mount {
    /// Under a prefix such as `/pypi`, or at the root with an empty one.
    pub fn new(prefix: impl Into<String>, channel: MountedChannel) -> Self {
        Self { prefix: prefix.into(), channel }
    }
}
