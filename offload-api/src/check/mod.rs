//! Whether a state holds together: one file a kind of object.
//!
//! Every check looks at the whole state, so that a fault is found whichever side of a
//! reference brought it in; [`Blame`] then finds the operation that did.

mod blame;
pub(crate) mod change;
mod endpoints;
mod names;
mod peers;
mod policies;
mod ports;
mod prefixes;

use core::net::IpAddr;
use std::collections::BTreeMap;

pub(crate) use blame::Blame;

use crate::limits::Limits;
use crate::model::{Endpoint, Peer, Port};
use crate::refusal::{Owner, Refusal, RefusalReason};
use crate::state::State;
use crate::transaction::{Key, Kind};

/// Checks all of it; see [`State::validate`].
pub(crate) fn check(state: &State, limits: &Limits, blame: &Blame<'_>) -> Result<(), Refusal> {
    let check = Check {
        state,
        limits,
        blame,
    };
    check.capacity()?;
    check.names()?;
    check.ports()?;
    check.peers()?;
    check.policies()?;
    check.endpoints()?;
    check.addresses()?;
    check.prefixes()
}

/// One check of one state.
struct Check<'a> {
    state: &'a State,
    limits: &'a Limits,
    blame: &'a Blame<'a>,
}

/// An object's field that claims something for itself alone.
struct Claim<H> {
    key: Key,
    field: String,
    /// Who claims, in the terms of the refusal that the other one gets.
    holder: H,
}

impl Check<'_> {
    fn capacity(&self) -> Result<(), Refusal> {
        let (state, limits) = (self.state, self.limits);
        let counts = [
            (Kind::Port, state.ports.len(), limits.ports),
            (Kind::Endpoint, state.endpoints.len(), limits.endpoints),
            (Kind::Identity, state.identities.len(), limits.identities),
            (Kind::Prefix, state.prefixes.len(), limits.prefixes),
            (Kind::Policy, state.policies.len(), limits.policies),
            (Kind::Peer, state.peers.len(), limits.peers),
        ];
        for (kind, count, max) in counts {
            self.fits(kind, kind.plural(), count, max)?;
        }
        let rows = state
            .policies
            .values()
            .map(crate::model::Policy::rows_in_all);
        self.fits(Kind::Policy, "policy rows", rows.sum(), limits.rows)
    }

    fn fits(
        &self,
        kind: Kind,
        what: &'static str,
        count: usize,
        max: usize,
    ) -> Result<(), Refusal> {
        if count <= max {
            return Ok(());
        }
        let why = RefusalReason::TooMany { what, count, max };
        Err(Refusal::new(self.blame.growth(kind), why))
    }

    /// A fault of one object alone.
    fn fault<T>(&self, key: &Key, field: &str, why: RefusalReason) -> Result<T, Refusal> {
        Err(Refusal::new(self.blame.path(key, field), why))
    }

    /// A reference from a field of `from` to `to`, which isn't there.
    fn dangling<T>(&self, from: Key, field: &str, to: Key) -> Result<T, Refusal> {
        let path = self.blame.reference((&from, field), Some((&to, "")));
        let (from, to) = (Box::new(from), Box::new(to));
        Err(Refusal::new(path, RefusalReason::Dangling { from, to }))
    }

    /// Files `claim` under what it claims. If that has a holder already, one of the two is
    /// at fault; `why` tells it of the other.
    fn claim<K: Ord, H>(
        &self,
        claims: &mut BTreeMap<K, Claim<H>>,
        what: K,
        claim: Claim<H>,
        why: impl FnOnce(&H) -> RefusalReason,
    ) -> Result<(), Refusal> {
        let Some(other) = claims.get(&what) else {
            claims.insert(what, claim);
            return Ok(());
        };
        let (guilty, holder) = if self.blame.is_later(&claim.key, &other.key) {
            (&claim, &other.holder)
        } else {
            (other, &claim.holder)
        };
        self.fault(&guilty.key, &guilty.field, why(holder))
    }

    /// Every address has one owner: the dataplane itself, a peer or a pod.
    fn addresses(&self) -> Result<(), Refusal> {
        let mut claims = BTreeMap::new();
        let own = self.uplink_ips();
        for (ip, claim) in own.chain(self.peer_ips()).chain(self.endpoint_ips()) {
            self.claim(&mut claims, ip, claim, |holder| {
                let owner = holder.name();
                RefusalReason::IpTaken { ip, owner }
            })?;
        }
        Ok(())
    }
}

/// Who claims an address.
enum Station<'a> {
    Uplink(&'a Port),
    Peer(&'a Peer),
    Pod(&'a Endpoint),
}

impl Station<'_> {
    fn name(&self) -> Owner {
        match self {
            Self::Uplink(port) => Owner::Uplink(port.name.clone()),
            Self::Peer(peer) => Owner::Peer(peer.node.clone()),
            Self::Pod(endpoint) => Owner::Pod((*endpoint).into()),
        }
    }
}

/// Whether a station can have the address. An IPv4 address in IPv6 form can't: it would be
/// a second spelling of the first.
fn is_station(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            ip.octets()[0] != 0 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_broadcast()
        }
        IpAddr::V6(ip) => {
            !ip.is_unspecified()
                && !ip.is_loopback()
                && !ip.is_multicast()
                && ip.to_ipv4_mapped().is_none()
        }
    }
}

#[cfg(test)]
mod tests;
