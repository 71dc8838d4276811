//! An index of what a state is held against, that goes from version to version by what they
//! don't share.

use core::net::IpAddr;
use std::sync::Arc;

use sluice_offload_api::model::{Identity, IdentityId, IpPrefix, Place, Prefix};
use sluice_offload_api::{SharedMap, State};

use super::holders::Holders;
use crate::cluster::{Cluster, Holder, PodRanges};

/// Prefixes by their identity.
type ByIdentity = SharedMap<(IdentityId, IpPrefix), ()>;

/// Who is who: an index of a cluster and of the prefixes that were compiled from it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    cluster: Cluster,
    prefixes: SharedMap<IpPrefix, Prefix>,
    identities: SharedMap<IdentityId, Identity>,
    holders: Holders,
    ranges: Arc<PodRanges>,
    by_identity: ByIdentity,
    /// Those of them that are outside.
    outside: ByIdentity,
}

impl Directory {
    /// The index of another version.
    #[must_use]
    pub fn at(&self, cluster: &Cluster, state: &State) -> Self {
        let mut next = self.clone();
        next.holders.follow(&self.cluster, cluster);
        for it in self.prefixes.changes(&state.prefixes) {
            if let Some(was) = it.before {
                let key = (was.identity, was.prefix);
                next.by_identity.remove(&key);
                next.outside.remove(&key);
            }
            if let Some(is) = it.after {
                let key = (is.identity, is.prefix);
                next.by_identity.insert(key, ());
                if is.place == Place::Outside {
                    next.outside.insert(key, ());
                }
            }
        }
        next.ranges = self.ranges.at(&self.cluster, cluster);
        next.cluster = cluster.clone();
        next.prefixes = state.prefixes.clone();
        next.identities = state.identities.clone();
        next
    }

    pub(super) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(super) const fn prefixes(&self) -> &SharedMap<IpPrefix, Prefix> {
        &self.prefixes
    }

    pub(super) const fn identities(&self) -> &SharedMap<IdentityId, Identity> {
        &self.identities
    }

    /// Who has an address.
    pub(super) fn holder(&self, ip: IpAddr) -> Option<&Holder> {
        self.holders.of(ip)
    }

    /// Whether only pods have the address.
    pub(super) fn is_for_pods(&self, ip: IpAddr) -> bool {
        self.ranges.contain(ip)
    }

    /// Whether the address is a service's.
    pub(super) fn is_service_vip(&self, ip: IpAddr) -> bool {
        self.holders.is_service_vip(ip)
    }

    /// The prefixes of an identity and a family, in order.
    pub(super) fn prefixes_of(
        &self,
        identity: IdentityId,
        v4: bool,
    ) -> impl Iterator<Item = IpPrefix> {
        let first = if v4 { IpPrefix::MIN } else { IpPrefix::MIN_V6 };
        let from = self.by_identity.range((identity, first)..);
        let prefixes = from.map(|(key, ())| *key);
        prefixes
            .take_while(move |(of, prefix)| *of == identity && prefix.addr().is_ipv4() == v4)
            .map(|(_, prefix)| prefix)
    }

    /// Prefixes outside with their identities, by identity.
    pub(super) fn outside(&self) -> impl Iterator<Item = &(IdentityId, IpPrefix)> {
        self.outside.keys()
    }
}
