//! How much of everything there may be. A dataplane may hold less; none holds more.

/// Operations in one transaction. A snapshot of everything at its bound fits.
pub const OPS_MAX: usize = 1 << 19;
/// Bytes of all messages of one transaction, as encoded.
pub const TRANSACTION_BYTES_MAX: usize = 1 << 28;
/// Bytes of one message, as encoded: what gRPC accepts by default. The largest policy fits.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Ports: the VFs, uplink and host of one DPU.
pub const PORTS_MAX: usize = 1024;
/// Endpoints; each has a port to itself.
pub const ENDPOINTS_MAX: usize = 1024;
/// Numeric identities.
pub const IDENTITIES_MAX: usize = 65_535;
/// Prefixes, of both families together: about two for each pod of the largest cluster.
pub const PREFIXES_MAX: usize = 1 << 18;
/// Compiled policies; each endpoint uses one.
pub const POLICIES_MAX: usize = 1024;
/// Rows of one policy, its shadow's among them.
pub const ROWS_PER_POLICY_MAX: usize = 1 << 16;
/// Rows of all policies.
pub const ROWS_MAX: usize = 1 << 20;
/// Rules of one policy, its shadow's among them.
pub const RULES_PER_POLICY_MAX: usize = 4096;
/// Other nodes.
pub const PEERS_MAX: usize = 4096;
/// Addresses of one endpoint.
pub const IPS_PER_ENDPOINT_MAX: usize = 8;

/// Bytes of a name: a Kubernetes object name is a DNS subdomain at most.
pub const NAME_LEN_MAX: usize = 253;
/// Bytes of an identity's label.
pub const LABEL_LEN_MAX: usize = 1024;
/// Bytes of a rule's name: `namespace/name` and some words.
pub const RULE_NAME_LEN_MAX: usize = 512;

/// The smallest MTU of a port in bytes: IPv6 requires it of every link (RFC 8200 section 5).
pub const MTU_MIN: u16 = 1280;
/// The largest MTU of a port in bytes.
pub const MTU_MAX: u16 = 9216;
/// The highest VLAN: 4095 is reserved (IEEE 802.1Q).
pub const VLAN_MAX: u16 = 4094;

/// What one dataplane can hold. The default is the most that the contract allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Operations in one transaction.
    pub ops: usize,
    /// Bytes of one transaction, as encoded.
    pub transaction_bytes: usize,
    /// Ports.
    pub ports: usize,
    /// Endpoints.
    pub endpoints: usize,
    /// Identities.
    pub identities: usize,
    /// Prefixes.
    pub prefixes: usize,
    /// Policies.
    pub policies: usize,
    /// Rows of one policy.
    pub rows_per_policy: usize,
    /// Rows of all policies.
    pub rows: usize,
    /// Peers.
    pub peers: usize,
}

impl Limits {
    /// The most that the contract allows.
    pub const MAX: Self = Self {
        ops: OPS_MAX,
        transaction_bytes: TRANSACTION_BYTES_MAX,
        ports: PORTS_MAX,
        endpoints: ENDPOINTS_MAX,
        identities: IDENTITIES_MAX,
        prefixes: PREFIXES_MAX,
        policies: POLICIES_MAX,
        rows_per_policy: ROWS_PER_POLICY_MAX,
        rows: ROWS_MAX,
        peers: PEERS_MAX,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::MAX
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::convert::to_requests;
    use crate::model::{
        Action, Direction, Fallback, IdentityId, Policy, PolicyId, PolicyRow, PortBlock, Protocol,
        RuleIndex, Tier, Verdict,
    };
    use crate::transaction::{Mode, Object, Op, Transaction};

    #[test]
    fn the_largest_policy_fits_in_a_message() {
        let rule = RuleIndex(u32::MAX);
        let fallback = Fallback {
            verdict: Verdict::Deny,
            rule,
        };
        let row = PolicyRow {
            direction: Direction::Egress,
            tier: Tier::Baseline,
            peer: Some(IdentityId(u32::MAX)),
            protocol: Some(Protocol::Icmp),
            ports: PortBlock::masked(u16::MAX, 16),
            action: Action::Pass,
            rule,
        };
        let policy = Policy {
            id: PolicyId(u32::MAX),
            ingress: fallback,
            egress: fallback,
            rules: vec!["x".repeat(RULE_NAME_LEN_MAX); RULES_PER_POLICY_MAX],
            rows: vec![row; ROWS_PER_POLICY_MAX],
            shadow: None,
        };
        let tx = Transaction {
            mode: Mode::Snapshot,
            ops: vec![Op::Add(Object::Policy(policy))],
            generation: crate::model::Generation(1),
        };
        let largest = to_requests(tx).map(|it| it.encoded_len()).max();
        assert!(largest <= Some(MESSAGE_BYTES_MAX), "{largest:?} bytes");
    }

    #[test]
    fn a_snapshot_of_everything_fits_in_a_transaction() {
        let objects =
            PORTS_MAX + ENDPOINTS_MAX + IDENTITIES_MAX + PREFIXES_MAX + POLICIES_MAX + PEERS_MAX;
        assert!(objects <= OPS_MAX);
    }
}
