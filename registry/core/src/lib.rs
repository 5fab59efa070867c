//! The domain of Granary with no I/O: names, digests, roles and grants.
//!
//! Nothing here is async, talks to a database or reads a clock. What decides (who may, what a name means)
//! lives here or in a protocol crate's pure modules, and is tested without a server.

mod access;
mod clock;
mod digest;
mod name;
mod pattern;
mod report;
mod subject;

pub use access::{
    Action, Decision, Explanation, Grant, GrantSource, Grants, ReadFilter, Readable, Role, TokenScope,
    decide, explain, readable,
};
pub use clock::{Clock, ManualClock, SystemClock};
pub use digest::{Blake2b256, DigestError, Digests, Hasher, Md5, Sha256};
pub use name::{ChannelName, Format, NameError, SubjectName};
pub use pattern::{PackagePattern, PatternError};
pub use report::report;
pub use subject::{CLUSTER_ISSUER, Principal, Subject, SubjectError, Workload, WorkloadSubject};
