//! What the API that Quetz' clients know says and takes, without the server: the shapes of bodies and errors, members as
//! grants, keys as tokens' scopes, the syntax of a search.

pub(crate) mod body;
pub(crate) mod constraint;
pub(crate) mod error;
pub(crate) mod ids;
pub(crate) mod keys;
pub(crate) mod members;
pub(crate) mod operations;
pub(crate) mod page;
pub(crate) mod search;
pub(crate) mod times;
