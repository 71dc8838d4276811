//! Certificates: an authority, and what each node has of it. Whether a peer's is good is asked of
//! production's own check (`sluice-svid`), at the clock of the node that asks.

mod authority;

#[cfg(test)]
mod tests;

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use rustls_pki_types::{CertificateDer, UnixTime};
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;
use sluice_svid::{
    Accept, Algorithms, AnchorError, Chain, Doubt, IdError, Role, SpiffeId, SvidError, TrustDomain,
    verify,
};

use self::authority::{Authority, Validity};
use super::node::SimNode;
use crate::keys::SeedKeys;

/// The time of day at which every world begins, in seconds since 1970: 2026-01-01, 00:00 UTC.
const BEGIN_SECS: u64 = 1_767_225_600;
const DOMAIN: &str = "sluice";
/// How long a certificate is good, by the authority's clock.
const LIFETIME_SECS: u64 = 24 * 3_600;
/// How much earlier it begins, for the clocks of those that are behind.
const EARLY_SECS: u64 = 3_600;
/// A node asks for the next when half of its time has passed, as SPIRE's agent does,
const RENEW_SECS: u64 = LIFETIME_SECS / 2;
/// and not more often than that one does, whatever it got.
const ASK_EVERY_NS: u64 = 5 * Tick::SECOND;
/// Ring's, as there is no other library here. In production it is the TLS library's.
const ALGORITHMS: Algorithms<'static> = &[webpki::ring::ED25519];

/// What a node shows, the leaf first.
pub(super) type Shown = Arc<[CertificateDer<'static>]>;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It can't be made.
    #[error("a certificate can't be made: {0}")]
    Made(#[from] rcgen::Error),
    /// It can't have this time.
    #[error("a certificate can't be made: {0}")]
    Time(#[from] time::error::ComponentRange),
    /// It can't be an anchor.
    #[error("the authority's certificate: {0}")]
    Anchor(#[from] AnchorError),
    /// No node can be called so.
    #[error(transparent)]
    Id(#[from] IdError),
}

/// The authority, and all that it has issued last.
#[derive(Debug)]
pub(super) struct Certificates {
    keys: SeedKeys,
    domain: TrustDomain,
    authority: Authority,
    held: BTreeMap<NodeName, Held>,
    /// It issues nothing.
    pub(super) away: bool,
    /// Nodes that show what isn't theirs: of another node, or by an authority that nobody knows.
    pub(super) wrong: BTreeMap<NodeName, Option<NodeName>>,
}

/// What a node has.
#[derive(Debug)]
struct Held {
    /// Of which of the machines that have had the name.
    machine: u8,
    serial: u64,
    /// When it was issued, in seconds since 1970.
    issued: u64,
    /// It has not asked since it started.
    fresh: bool,
    ask_at: Tick,
    /// Signed when it is shown first: most never are.
    made: OnceLock<Option<Shown>>,
}

impl Certificates {
    pub(super) fn new(seed: u64) -> Result<Self, CertificateError> {
        let keys = SeedKeys::new(seed);
        Ok(Self {
            domain: TrustDomain::new(DOMAIN)?,
            authority: Authority::new(&keys, "ca", BEGIN_SECS)?,
            keys,
            held: BTreeMap::new(),
            away: false,
            wrong: BTreeMap::new(),
        })
    }

    /// A node asks for its next certificate, if it is time.
    pub(super) fn tend(&mut self, node: &SimNode, now: Tick) {
        let machine = node.number.machine;
        if let Some(it) = self.held.get_mut(&node.name) {
            let half = it.issued + RENEW_SECS;
            let wanted = it.fresh || it.machine != machine || half <= time_of(node, now).as_secs();
            if !wanted || now < it.ask_at && it.machine == machine {
                return;
            }
            it.ask_at = now + ASK_EVERY_NS;
        }
        if self.away {
            // What another machine had was on its own disk.
            self.held
                .retain(|it, held| *it != node.name || held.machine == machine);
            return;
        }
        let serial = self.held.get(&node.name).map_or(1, |it| it.serial + 1);
        let held = Held {
            machine,
            serial,
            issued: BEGIN_SECS + now.0 / Tick::SECOND,
            fresh: false,
            ask_at: now + ASK_EVERY_NS,
            made: OnceLock::new(),
        };
        self.held.insert(node.name.clone(), held);
    }

    /// A node's dataplane is dead: the next one asks anew, and goes by what is on the disk if it
    /// gets nothing.
    pub(super) fn on_kill(&mut self, node: &NodeName) {
        if let Some(it) = self.held.get_mut(node) {
            (it.fresh, it.ask_at) = (true, Tick(0));
        }
    }

    /// The authority issues again; whether it didn't.
    pub(super) fn find(&mut self) -> bool {
        core::mem::take(&mut self.away)
    }

    /// A node is gone for good, with all that is on it.
    pub(super) fn forget(&mut self, node: &NodeName) {
        self.held.remove(node);
        self.wrong.remove(node);
    }

    /// A node shows what isn't its own from now on.
    pub(super) fn mistake(&mut self, node: &NodeName, of: Option<NodeName>) {
        self.wrong.insert(node.clone(), of);
        self.forget_made(node);
    }

    /// It shows its own again; whether it didn't.
    pub(super) fn put_right(&mut self, node: &NodeName) -> bool {
        self.forget_made(node);
        self.wrong.remove(node).is_some()
    }

    /// All is whole; whether it wasn't.
    pub(super) fn heal(&mut self) -> bool {
        let wrong: Vec<_> = self.wrong.keys().cloned().collect();
        let put_right = wrong.iter().filter(|it| self.put_right(it)).count();
        self.find() || put_right > 0
    }

    pub(crate) fn is_whole(&self) -> bool {
        !self.away && self.wrong.is_empty()
    }

    fn forget_made(&mut self, node: &NodeName) {
        if let Some(it) = self.held.get_mut(node) {
            it.serial += 1;
            it.made = OnceLock::new();
        }
    }

    /// What a node shows. Nothing when its time is over by the node's own clock, as in the node
    /// channel: no session begins then.
    pub(super) fn shown_by(&self, node: &SimNode, now: Tick) -> Option<Shown> {
        let held = self.held.get(&node.name)?;
        let wrong = self.wrong.get(&node.name);
        let is_expired = held.validity().not_after < time_of(node, now).as_secs();
        if wrong.is_none() && is_expired {
            return None;
        }
        let made = held.made.get_or_init(|| {
            let made = self.make(&node.name, held, wrong);
            debug_assert!(made.is_ok(), "{made:?}");
            made.ok()
        });
        made.clone()
    }

    fn make(
        &self,
        node: &NodeName,
        held: &Held,
        wrong: Option<&Option<NodeName>>,
    ) -> Result<Shown, CertificateError> {
        let named = wrong.and_then(Option::as_ref).unwrap_or(node);
        let id = SpiffeId::of_node(&self.domain, named)?;
        let unknown = match wrong {
            Some(None) => Some(Authority::new(&self.keys, "another ca", BEGIN_SECS)?),
            _ => None,
        };
        let authority = unknown.as_ref().unwrap_or(&self.authority);
        let validity = held.validity();
        let leaf = authority.issue(&self.keys, &node.0, &id, held.serial, validity)?;
        Ok(Arc::from([leaf]))
    }

    /// Whether a node accepts what `peer` has shown it, in the part of the handshake where that
    /// stands; `dialling` are those that are to dial the node.
    pub(super) fn check(
        &self,
        (node, now): (&SimNode, Tick),
        peer: &NodeName,
        shown: &Shown,
        role: Role,
        dialling: impl Iterator<Item = NodeName>,
    ) -> Result<Chain, SvidError> {
        let of = |it: &NodeName| SpiffeId::of_node(&self.domain, it);
        let (own, expected) = (of(&node.name)?, of(peer)?);
        let what = "it is missing";
        let chain = shown.split_first();
        let chain = chain.ok_or(SvidError::Encoding { what })?;
        let at = time_of(node, now);
        let anchors = &self.authority.anchors;
        let got = verify(ALGORITHMS, chain, anchors, &self.domain, role, at)?;
        let expected = Accept::Only(expected);
        if role == Role::Client {
            let dialling: BTreeSet<_> = dialling.filter_map(|it| of(&it).ok()).collect();
            Accept::Dialling(Arc::new(dialling)).check(got.clone(), &own)?;
        }
        // In production who dialled is whom it names; should it say in its hello that it is another,
        // that ends the session.
        expected.check(got, &own)?;
        Ok(Chain::new(shown.to_vec(), role, at))
    }

    /// What has become of what a node was shown.
    pub(super) fn doubt(&self, node: &SimNode, chain: &Chain, now: Tick) -> Result<(), Doubt> {
        let (anchors, at) = (&self.authority.anchors, time_of(node, now));
        chain.verify(ALGORITHMS, anchors, &self.domain, at)
    }
}

impl Held {
    const fn validity(&self) -> Validity {
        Validity {
            not_before: self.issued - EARLY_SECS,
            not_after: self.issued + LIFETIME_SECS,
        }
    }
}

/// The time of day by a node's clock.
pub(super) fn time_of(node: &SimNode, now: Tick) -> UnixTime {
    let since_begin = node.clock.since_begin_ns(now);
    let begin = i128::from(BEGIN_SECS) * i128::from(Tick::SECOND);
    let ns = u128::try_from(begin + since_begin).unwrap_or(0);
    let secs = u64::try_from(ns / u128::from(Tick::SECOND)).unwrap_or(u64::MAX);
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}
