//! Domain types: what an agent tells a dataplane, and what a dataplane tells about itself.

mod domain;
mod encryption;
mod names;
mod objects;
mod pairs;
mod policy;
mod prefix;
mod read;

pub use domain::{DOMAIN_LABEL_LEN_MAX, DOMAIN_LEN_MAX, DomainError, DomainPattern};
pub use encryption::{Encryption, EncryptionError};
pub use names::{Generation, IdentityId, MacAddr, NodeName, PodRef, PodUid, PolicyId, PortName};
pub use objects::{
    Endpoint, EndpointKey, Identity, Interface, Peer, Place, Port, PortKind, Prefix,
};
pub use pairs::{PairCrossing, PairEnd, PairLine, PairRecord, PairsRest};
pub use policy::{
    Action, Direction, Fallback, Policy, PolicyRow, PortBlock, Protocol, RowKey, RuleIndex,
    ShadowTable, Tier, Verdict,
};
pub use prefix::{IpPrefix, PrefixError};
pub use read::{
    Capacity, DropCount, Fill, FlowEnd, FlowRecord, FlowState, FlowVerdict, Lease, NameRecord,
    PortCounters, PortStatus, SaAlgorithm, SaDirection, SaFingerprint, SaRecord, ShadowRuling,
    Status,
};

#[cfg(test)]
mod tests;
