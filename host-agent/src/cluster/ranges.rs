//! Prefixes whose addresses only pods have.

use core::net::IpAddr;
use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_offload_api::model::{Interface, IpPrefix, PrefixError};

use super::{Cluster, Node};

/// Why pods alone can't have the addresses that an operator says.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PodCidrError {
    /// It is no prefix.
    #[error(transparent)]
    Prefix(#[from] PrefixError),
    /// Nobody would be outside.
    #[error(
        "{cidr} would leave nobody outside the cluster; write the range that pods' addresses are \
         taken from"
    )]
    EveryAddress {
        /// The prefix.
        cidr: IpPrefix,
    },
    /// The dataplane or its gateway has one of them.
    #[error("{cidr} has {own} of the uplink in it, which no pod has")]
    OfUplink {
        /// The prefix.
        cidr: IpPrefix,
        /// The address.
        own: IpAddr,
    },
}

/// Reads a prefix whose addresses only pods have, where a dataplane has these interfaces.
///
/// # Errors
/// [`PodCidrError`].
pub fn pod_cidr(text: &str, interfaces: &[Interface]) -> Result<IpPrefix, PodCidrError> {
    let cidr: IpPrefix = text.parse()?;
    if cidr.len() == 0 {
        return Err(PodCidrError::EveryAddress { cidr });
    }
    let own = interfaces.iter().flat_map(|it| [Some(it.addr), it.gateway]);
    match own.flatten().find(|ip| cidr.contains(*ip)) {
        Some(own) => Err(PodCidrError::OfUplink { cidr, own }),
        None => Ok(cidr),
    }
}

/// The prefixes: those that the operator names or, if none are, those that the Nodes have for
/// their pods; and each address that a pod of this node has had to give back. An address in one is
/// of nobody outside, also while nobody is known to have it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodRanges {
    all: BTreeSet<IpPrefix>,
    /// Their families, whether IPv4, and lengths.
    lens: BTreeSet<(bool, u8)>,
}

impl PodRanges {
    /// Those of a cluster.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let mut all: BTreeSet<_> = if cluster.pod_cidrs.is_empty() {
            let of_nodes = cluster.nodes.values().flat_map(|it| &it.pod_cidrs);
            of_nodes.copied().collect()
        } else {
            cluster.pod_cidrs.clone()
        };
        all.extend(cluster.vacated.iter().copied().map(IpPrefix::host));
        let lens = all.iter().map(|it| (it.addr().is_ipv4(), it.len()));
        Self {
            lens: lens.collect(),
            all,
        }
    }

    /// Those of the next version of the cluster that these are of.
    #[must_use]
    pub fn at(self: &Arc<Self>, before: &Cluster, after: &Cluster) -> Arc<Self> {
        let ranges = |node: Option<&Node>| node.map_or(0, |it| it.pod_cidrs.len());
        let nodes = before.nodes.changes(&after.nodes);
        let mut moved = nodes
            .iter()
            .filter(|it| ranges(it.before) + ranges(it.after) > 0);
        let is_other = |was: Option<&Node>, is: Option<&Node>| {
            was.map(|it| &it.pod_cidrs) != is.map(|it| &it.pod_cidrs)
        };
        let is_same = before.pod_cidrs == after.pod_cidrs && before.vacated == after.vacated;
        if is_same && !moved.any(|it| is_other(it.before, it.after)) {
            return Arc::clone(self);
        }
        Arc::new(Self::of(after))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = IpPrefix> {
        self.all.iter().copied()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, prefix: &IpPrefix) -> bool {
        self.all.contains(prefix)
    }

    /// Whether all addresses of a prefix are in one of them.
    #[must_use]
    pub fn cover(&self, prefix: &IpPrefix) -> bool {
        let (addr, v4) = (prefix.addr(), prefix.addr().is_ipv4());
        let mut lens = self.lens.range((v4, 0)..=(v4, prefix.len()));
        lens.any(|(_, len)| IpPrefix::masked(addr, *len).is_ok_and(|it| self.all.contains(&it)))
    }

    /// Whether an address is in one of them.
    #[must_use]
    pub fn contain(&self, ip: IpAddr) -> bool {
        self.cover(&IpPrefix::host(ip))
    }

    /// Those that are here and not there, or there and not here.
    pub fn differences<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = IpPrefix> + 'a {
        self.all.symmetric_difference(&other.all).copied()
    }
}
