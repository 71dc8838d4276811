//! A compiled policy: the table one or more endpoints are judged by.

use serde::{Deserialize, Serialize};

use super::{IdentityId, PolicyId};

/// Seen from the endpoint that the policy is on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// What a rule says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The flow may be.
    Allow,
    /// It may not.
    Deny,
}

/// What a row does with the flows that match it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// They may be.
    Allow,
    /// They may not.
    Deny,
    /// The rest of the row's tier has no say in them: the next tier decides.
    Pass,
}

impl From<Verdict> for Action {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Allow => Self::Allow,
            Verdict::Deny => Self::Deny,
        }
    }
}

/// Tiers are asked in this order; the first whose best row allows or denies decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// ClusterNetworkPolicies of tier Admin, and what nobody may override.
    Admin,
    /// NetworkPolicies.
    Namespace,
    /// ClusterNetworkPolicies of tier Baseline.
    Baseline,
}

impl Tier {
    /// All, in the order in which they are asked.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Namespace, Self::Baseline];
}

/// A protocol that Kubernetes policies name, and ICMP, which they can't.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
    /// RFC 9260.
    Sctp,
    /// ICMP over IPv4 and ICMPv6 over IPv6.
    Icmp,
}

/// An aligned block of destination ports: those whose first `len` bits are `base`'s.
/// A range of ports is at most 30 of them, as a range of addresses is of prefixes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortBlock {
    base: u16,
    len: u8,
}

impl PortBlock {
    /// Every port.
    pub const ANY: Self = Self { base: 0, len: 0 };

    /// A block; `None` if `len` is over 16 or `base` has bits past `len` set.
    #[must_use]
    pub fn new(base: u16, len: u8) -> Option<Self> {
        (len <= 16 && Self::masked(base, len).base == base).then_some(Self { base, len })
    }

    /// The block of length `len` that `port` is in; a `len` over 16 means 16.
    #[must_use]
    pub fn masked(port: u16, len: u8) -> Self {
        let len = len.min(16);
        let keep = u16::MAX.checked_shl(16 - u32::from(len)).unwrap_or(0);
        Self {
            base: port & keep,
            len,
        }
    }

    /// The first port.
    #[must_use]
    pub const fn base(self) -> u16 {
        self.base
    }

    /// How many leading bits are fixed, 0 to 16.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a collection's"
    )]
    pub const fn len(self) -> u8 {
        self.len
    }

    /// Whether the port is in the block.
    #[must_use]
    pub fn contains(self, port: u16) -> bool {
        Self::masked(port, self.len) == self
    }

    /// The fewest blocks that make up `first..=last`, in rising order; none if
    /// `first > last`.
    #[must_use]
    pub fn cover(first: u16, last: u16) -> Vec<Self> {
        let mut blocks = Vec::new();
        let (mut at, end) = (u32::from(first), u32::from(last));
        while at <= end {
            let mut size_bits = if at == 0 {
                16
            } else {
                at.trailing_zeros().min(16)
            };
            while at + (1 << size_bits) - 1 > end {
                size_bits -= 1;
            }
            let len = u8::try_from(16 - size_bits).unwrap_or(16);
            blocks.push(Self::masked(u16::try_from(at).unwrap_or(u16::MAX), len));
            at += 1 << size_bits;
        }
        blocks
    }
}

/// Names a rule of a [`Policy`] and is its precedence: where several rows of a tier match,
/// the row with the lowest index counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleIndex(pub u32);

/// One row of the table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyRow {
    /// Which way.
    pub direction: Direction,
    /// When it is asked.
    pub tier: Tier,
    /// The other end's identity; `None` is anyone.
    pub peer: Option<IdentityId>,
    /// The protocol; `None` is any, those that policies can't name too.
    pub protocol: Option<Protocol>,
    /// The flow's destination port; [`PortBlock::ANY`] if `protocol` is `None` or ICMP.
    pub ports: PortBlock,
    /// What to do.
    pub action: Action,
    /// The rule this row came from.
    pub rule: RuleIndex,
}

impl PolicyRow {
    /// What a policy's rows are sorted by, and what no two of them share.
    #[must_use]
    pub const fn key(&self) -> RowKey {
        RowKey {
            direction: self.direction,
            tier: self.tier,
            peer: self.peer,
            protocol: self.protocol,
            ports: self.ports,
        }
    }
}

/// What a [`PolicyRow`] matches, and when it is asked; see its fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the fields are PolicyRow's")]
pub struct RowKey {
    pub direction: Direction,
    pub tier: Tier,
    pub peer: Option<IdentityId>,
    pub protocol: Option<Protocol>,
    pub ports: PortBlock,
}

/// What holds when no row decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fallback {
    /// `Deny` where a policy isolates the endpoint in this direction.
    pub verdict: Verdict,
    /// The rule that says so.
    pub rule: RuleIndex,
}

/// A compiled policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Its number; endpoints refer to it.
    pub id: PolicyId,
    /// When no tier's ingress rows decide.
    pub ingress: Fallback,
    /// When no tier's egress rows decide.
    pub egress: Fallback,
    /// The rules' names as shown to people, by [`RuleIndex`].
    pub rules: Vec<String>,
    /// The rows, sorted by [`PolicyRow::key`] and without two of the same.
    pub rows: Vec<PolicyRow>,
    /// What would hold if policies in shadow mode were enforced; `None` if there are none.
    /// Asked beside the table and counted, and never obeyed.
    pub shadow: Option<Box<ShadowTable>>,
}

impl Policy {
    /// The table that is asked and not obeyed.
    #[must_use]
    pub fn shadow_table(&self) -> Option<&Self> {
        self.shadow.as_deref().map(ShadowTable::table)
    }

    /// Rows of both tables: what a dataplane has to hold.
    #[must_use]
    pub fn rows_in_all(&self) -> usize {
        self.rows.len() + self.shadow_table().map_or(0, |it| it.rows.len())
    }

    /// Rules of both tables.
    #[must_use]
    pub fn rules_in_all(&self) -> usize {
        self.rules.len() + self.shadow_table().map_or(0, |it| it.rules.len())
    }
}

/// A policy's second table. It has no shadow of its own, and the number of its policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShadowTable(Policy);

impl ShadowTable {
    /// Of a table of the policy that it will belong to; a shadow that it has is left out.
    #[must_use]
    pub fn new(mut table: Policy) -> Self {
        table.shadow = None;
        Self(table)
    }

    /// The table.
    #[must_use]
    pub const fn table(&self) -> &Policy {
        &self.0
    }
}
