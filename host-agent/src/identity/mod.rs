//! Who an address can be, as a number.
//!
//! Addresses that no rule of any policy can tell apart share an identity: the same pod
//! labels, namespace and named ports, or the same node, and inside of the same address
//! blocks. Whatever a rule says of one it says of all, so a table of identities is exact.

mod key;
mod numbers;
mod table;

pub(crate) use key::printable;
pub use key::{IdentityKey, NamedPorts, Subject};
pub use numbers::{Full, Numbers};
pub use table::{IdentityTable, PolicyKey};
