//! What `granary dev` starts in its own process, so that one command on a bare machine gives a whole registry: an S3
//! server over files ([`object_store`]) and a private `PostgreSQL` on a socket ([`postgres`]).
//!
//! Neither is a stand-in: the registry talks to both as it would to a bucket and a database of a cloud, and both keep
//! what they acknowledged over a loss of power.

pub mod object_store;
pub mod postgres;
