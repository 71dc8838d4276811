//! Domain types: what an agent tells a dataplane.

mod names;
mod objects;
mod policy;
mod prefix;

pub use names::{Generation, IdentityId, MacAddr, NodeName, PodRef, PodUid, PolicyId, PortName};
pub use objects::{Endpoint, Identity, Interface, Peer, Place, Port, PortKind, Prefix};
pub use policy::{Direction, Fallback, Policy, PolicyRow, PortBlock, Protocol, RuleIndex, Verdict};
pub use prefix::{IpPrefix, PrefixError};
