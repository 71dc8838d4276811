//! Certificates while sessions stand, as in the node channel: what a peer has shown is looked at
//! again, and a session by one whose time is over ends after a grace.

use sluice_crypto::lifecycle::{SaEvent, SessionId};
use sluice_dataplane_core::tick::Tick;
use sluice_offload_api::model::NodeName;

use super::channel::{Ground, Place};
use super::{Around, Field, Keying, ms};
use crate::world::certificates::time_of;
use crate::world::node::SimNode;

/// How often nodes look, and how long a peer has to show a better certificate: the node channel's
/// defaults.
const LOOK_EVERY_NS: u64 = Tick::SECOND;
const GRACE_MS: u64 = 20_000;

/// What comes of a look.
enum Verdict {
    /// It may have a new certificate that this session knows nothing of.
    Ask(Place),
    /// The grace is over.
    End(Place),
}

impl Keying {
    /// Nodes look at what their peers have shown, if it is time. Whether there was anything to do.
    pub(super) fn look_again(&mut self, nodes: &[SimNode], around: Around<'_>) -> bool {
        if around.now < self.look_at {
            return false;
        }
        self.look_at = around.now + LOOK_EVERY_NS;
        let verdicts = self.look(nodes, around.now);
        let any = !verdicts.is_empty();
        for verdict in verdicts {
            match verdict {
                Verdict::Ask(Place { node, peer, .. }) => {
                    self.tell(nodes, &node, &peer, SaEvent::RekeyWanted, around);
                }
                Verdict::End(it) => self.end(nodes, &it, around),
            }
        }
        any
    }

    fn look(&mut self, nodes: &[SimNode], now: Tick) -> Vec<Verdict> {
        let Self {
            certificates,
            channel,
            lives,
            ..
        } = self;
        let mut verdicts = Vec::new();
        let latest = nodes.iter().map(|it| time_of(it, now)).max();
        let Some(latest) = latest else {
            return verdicts;
        };
        for (place, seen) in channel.doubtful(latest) {
            let node = nodes.iter().find(|it| it.is_named(&place.node.0));
            let Some(node) = node.filter(|it| it.works()) else {
                continue;
            };
            // Checking a signature costs too much to do it each time.
            let is_expired = seen.chain.is_expired(time_of(node, now));
            if !is_expired && seen.doubted_since.is_none() {
                continue;
            }
            if certificates.doubt(node, &seen.chain, now).is_ok() {
                seen.doubted_since = None;
                continue;
            }
            let ms = ms(node, now);
            let life = lives.get(&place.node);
            let machine = life.and_then(|it| it.peers.get(&place.peer));
            let newest = machine.and_then(|it| it.machine.sessions().max());
            match seen.doubted_since {
                Some(since) if since + GRACE_MS <= ms => verdicts.push(Verdict::End(place)),
                Some(_) => {}
                None => {
                    seen.doubted_since = Some(ms);
                    if newest == Some(SessionId(place.session)) {
                        verdicts.push(Verdict::Ask(place));
                    }
                }
            }
        }
        verdicts
    }

    /// No key is made by a session any more; the SAs that there are stay.
    fn end(&mut self, nodes: &[SimNode], it: &Place, around: Around<'_>) {
        let field = Field::of(nodes, &self.lives, &self.certificates, around);
        self.channel.close(it.session, &it.node, around.now, &field);
        let session = SessionId(it.session);
        let event = SaEvent::SessionDown { session };
        self.tell(nodes, &it.node, &it.peer, event, around);
    }

    /// How often nodes had none to show, and refused one.
    pub(crate) const fn marks(&self) -> [(&'static str, u64); 2] {
        [
            ("certificate-missing", self.channel.without),
            ("certificate-refused", self.channel.refused),
        ]
    }

    /// Whether certificates, or that one has none, keep two nodes from agreeing on keys.
    pub(crate) fn are_kept_apart(
        &self,
        nodes: &[SimNode],
        a: &NodeName,
        b: &NodeName,
        around: Around<'_>,
    ) -> bool {
        let field = Field::of(nodes, &self.lives, &self.certificates, around);
        let (dials, answers) = if a < b { (a, b) } else { (b, a) };
        let refuses = |node, peer, role| {
            let shown = field.shows(peer);
            shown.is_none_or(|it| field.accepts(node, peer, &it, role).is_err())
        };
        refuses(dials, answers, sluice_svid::Role::Server)
            || refuses(answers, dials, sluice_svid::Role::Client)
    }
}
