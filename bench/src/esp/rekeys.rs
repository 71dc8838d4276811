//! Rekeys under load: the life cycles of two nodes, which agree on keys in memory, and packets of
//! one to the other, sealed before a rekey and opened after it, of which none may be lost.
//!
//! The TLS session that a secret comes from is left out: what is measured is what the life cycle
//! and the SAs make of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Context;
use sluice_crypto::esp::{InboundSa, NEXT_HEADER_IPV4, OutboundSa, Spi};
use sluice_crypto::key::Algorithm;
use sluice_crypto::lifecycle::{
    ExporterSecret, LANES_MAX, Limits, PeerConfig, SaAction, SaEvent, SaLifecycle, SessionId,
    SpiBlock, TimeMs, Timing,
};
use sluice_crypto::replay::ReplayWindow;

use super::bursts::Bursts;
use crate::timing::timed;

/// How long a receiving SA must be silent, in the life cycles' own time, which no clock drives.
const DRAIN_MS: u64 = 500;
/// Events of one rekey, at most.
const EVENTS_MAX: usize = 1_000;
/// The lowest SPI that is not reserved, and a bit.
const FIRST_SPI: u32 = 0x1_0000;

/// One of the two.
struct Node {
    machine: SaLifecycle,
    sending: Option<OutboundSa>,
    receiving: BTreeMap<Spi, InboundSa>,
    /// Pairs that came in use both ways.
    established: usize,
}

/// Both, and what goes from the first to the second.
pub(super) struct Nodes {
    ends: [Node; 2],
    now_ms: u64,
    sessions: u64,
    next_spi: u32,
    packets: Bursts,
    /// Packets that were not sealed or not opened.
    pub(super) refused: usize,
    /// Rekeys that came to nothing.
    pub(super) failed: usize,
}

impl Nodes {
    /// With a first pair of SAs each way, for packets of these lengths in turn.
    pub(super) fn new(algorithm: Algorithm, lens: &[usize]) -> anyhow::Result<Self> {
        let ids = ["spiffe://bench/node/a", "spiffe://bench/node/b"];
        let node = |local: &str, peer: &str| -> anyhow::Result<_> {
            let config = PeerConfig {
                local: local.to_owned(),
                peer: peer.to_owned(),
                instance: 1,
                jitter_seed: 1,
                lanes: 1,
                algorithms: vec![algorithm],
                esn: true,
                limits: Limits::default(),
                timing: Timing {
                    drain_ms: DRAIN_MS,
                    ..Timing::default()
                },
            };
            let machine = SaLifecycle::new(config, TimeMs(0)).context("a life cycle")?;
            Ok(Node {
                machine,
                sending: None,
                receiving: BTreeMap::new(),
                established: 0,
            })
        };
        let mut nodes = Self {
            ends: [node(ids[0], ids[1])?, node(ids[1], ids[0])?],
            now_ms: 0,
            sessions: 0,
            next_spi: FIRST_SPI,
            packets: Bursts::new(lens),
            refused: 0,
            failed: 0,
        };
        nodes.deadlines();
        nodes.settle();
        anyhow::ensure!(
            nodes.ends.iter().all(|it| it.established == 1),
            "the two nodes have no keys"
        );
        Ok(nodes)
    }

    /// Seals a pass of packets and opens it, with a rekey in between if there is to be one: how
    /// long all that took.
    pub(super) fn pass(&mut self, rekey: bool) -> Duration {
        timed(|| {
            self.seal();
            if rekey {
                self.rekey();
            }
            self.open();
            if rekey {
                self.drain();
            }
        })
    }

    fn seal(&mut self) {
        let (sending, refused) = (&mut self.ends[0].sending, &mut self.refused);
        self.packets.each(|it| {
            let sealed = sending
                .as_mut()
                .map(|sa| sa.seal(it.whole, it.len, NEXT_HEADER_IPV4));
            *refused += usize::from(!matches!(sealed, Some(Ok(_))));
        });
    }

    fn open(&mut self) {
        let (receiving, refused) = (&mut self.ends[1].receiving, &mut self.refused);
        self.packets.each(|it| {
            let spi = it.whole.first_chunk().copied().map(u32::from_be_bytes);
            let opened = spi
                .and_then(|spi| receiving.get_mut(&Spi(spi)))
                .map(|sa| sa.open(it.whole));
            *refused += usize::from(!matches!(opened, Some(Ok(_))));
        });
    }

    fn rekey(&mut self) {
        let before = self.ends.each_ref().map(|it| it.established);
        self.tell(0, SaEvent::RekeyWanted);
        self.deadlines();
        self.settle();
        let after = self.ends.each_ref().map(|it| it.established);
        let done = before
            .iter()
            .zip(&after)
            .all(|(before, after)| before < after);
        self.failed += usize::from(!done);
    }

    /// Lets time pass until what was replaced is retired: silent since it was last heard of.
    fn drain(&mut self) {
        for _ in 0..2 {
            self.report();
            self.now_ms += DRAIN_MS + 1;
            self.deadlines();
            self.settle();
        }
        let left = self.ends.iter().any(|it| it.receiving.len() > 2);
        self.failed += usize::from(left);
    }

    /// Says what each receiving SA has opened.
    fn report(&mut self) {
        for at in 0..self.ends.len() {
            let used = |(spi, sa): (&Spi, &InboundSa)| (*spi, sa.packets());
            let used: Vec<_> = self.ends[at].receiving.iter().map(used).collect();
            for (spi, packets) in used {
                let asked = TimeMs(self.now_ms);
                self.tell(
                    at,
                    SaEvent::InboundUsed {
                        spi,
                        packets,
                        asked,
                    },
                );
            }
        }
    }

    fn deadlines(&mut self) {
        let now = TimeMs(self.now_ms);
        for end in &mut self.ends {
            end.machine.on_deadline(now);
        }
    }

    fn tell(&mut self, at: usize, event: SaEvent) {
        let now = TimeMs(self.now_ms);
        self.ends[at].machine.on_event(event, now);
    }

    /// Carries out what both want done, until neither wants anything.
    fn settle(&mut self) {
        let mut said = VecDeque::new();
        for _ in 0..EVENTS_MAX {
            for at in 0..self.ends.len() {
                while let Some(action) = self.ends[at].machine.next_action() {
                    self.carry_out(at, action, &mut said);
                }
            }
            let Some((to, event)) = said.pop_front() else {
                return;
            };
            self.tell(to, event);
        }
        self.failed += 1;
    }

    fn carry_out(&mut self, at: usize, action: SaAction, said: &mut VecDeque<(usize, SaEvent)>) {
        let other = 1 - at;
        match action {
            SaAction::Dial => self.dial(said),
            SaAction::Send(session, message) => {
                said.push_back((other, SaEvent::Received { session, message }));
            }
            SaAction::Close(session, _) => {
                said.push_back((other, SaEvent::SessionDown { session }));
            }
            SaAction::InstallInbound(it) => {
                let sa = InboundSa::new(it.spi, it.key, it.esn, ReplayWindow::DEFAULT);
                let event = match sa {
                    Ok(sa) => {
                        self.ends[at].receiving.insert(it.spi, sa);
                        SaEvent::InboundInstalled(it.spi)
                    }
                    Err(_) => SaEvent::InboundRefused(it.spi),
                };
                self.tell(at, event);
            }
            SaAction::InstallOutbound(it) => {
                self.ends[at].sending = Some(OutboundSa::new(it.spi, it.key, it.esn));
                self.tell(at, SaEvent::OutboundInstalled(it.spi));
            }
            SaAction::RetireInbound(spi) => {
                self.ends[at].receiving.remove(&spi);
            }
            SaAction::RetireOutbound(spi) => {
                let sending = &mut self.ends[at].sending;
                if sending.as_ref().is_some_and(|sa| sa.spi() == spi) {
                    *sending = None;
                }
            }
            SaAction::Established(..) => self.ends[at].established += 1,
        }
    }

    /// A session of both, with a secret of its own.
    fn dial(&mut self, said: &mut VecDeque<(usize, SaEvent)>) {
        self.sessions += 1;
        for at in 0..self.ends.len() {
            let mut secret = [7; ExporterSecret::LEN];
            secret[..8].copy_from_slice(&self.sessions.to_be_bytes());
            let Ok(receive) = SpiBlock::new(self.next_spi) else {
                self.failed += 1;
                return;
            };
            self.next_spi = self
                .next_spi
                .wrapping_add(u32::from(LANES_MAX))
                .max(FIRST_SPI);
            let up = SaEvent::SessionUp {
                session: SessionId(self.sessions),
                secret: ExporterSecret::take_from(&mut secret),
                receive,
            };
            said.push_back((at, up));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use super::*;

    #[test]
    fn no_packet_is_lost_and_every_rekey_has_other_keys() {
        let mut nodes = Nodes::new(Algorithm::Aes256Gcm16, &[1420]).unwrap();
        let mut spis = Vec::new();
        for _ in 0..20 {
            nodes.pass(true);
            spis.push(nodes.ends[0].sending.as_ref().unwrap().spi());
        }
        assert_eq!((nodes.refused, nodes.failed), (0, 0));
        spis.dedup();
        assert_eq!(spis.len(), 20);
        assert!(nodes.ends.iter().all(|it| it.receiving.len() <= 2));
        assert_eq!(nodes.ends[1].established, 21);
    }
}
