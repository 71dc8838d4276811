//! Two nodes on one wire.
//!
//! ```text
//!   vf0 vf1 vf2 host            vf0 vf1 vf2 host
//!    |   |   |   |               |   |   |   |
//!  +-+---+---+---+-+           +-+---+---+---+-+
//!  |   node A      |           |   node B      |     C: a peer without an SA
//!  +------+--------+           +-------+-------+
//!         | uplink                     |             a gateway to the outside
//!         +------------ wire ----------+----------------+
//! ```
//!
//! A node has no time of its own and does nothing between calls. Every poll checks that
//! each port's counters balance; [`Node::expect_delta`] checks every counter there is.

mod dns;
mod foreign;
mod frames;
mod node;
mod places;
mod plan;

pub(crate) use dns::*;
pub(crate) use foreign::*;
pub(crate) use frames::*;
pub(crate) use node::{ALONE, FLOWS, HASH_KEY, Node, WORKERS};
pub(crate) use places::*;
pub(crate) use plan::{FALLBACK_RULE, Plan, Policy};

use sluice_crypto::esp::{InboundSa, OutboundSa, Outer, Spi, Tunnel};
use sluice_crypto::key::{Algorithm, EspKey};
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::mem::MemPool;
use sluice_dataplane_core::sad::{Inbound, Mode, Outbound};
use sluice_dataplane_core::snapshot::PeerIndex;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire::{self, arp, nd};

/// How the two nodes protect what they send each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Protection {
    pub(crate) algorithm: Algorithm,
    pub(crate) esn: bool,
    pub(crate) udp_encap: bool,
    pub(crate) outer_v4: bool,
}

impl Default for Protection {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Aes128Gcm16,
            esn: true,
            udp_encap: false,
            outer_v4: true,
        }
    }
}

/// The key of one direction, the same at both ends.
pub(crate) fn key(algorithm: Algorithm, seed: u8) -> EspKey {
    let keymat: Vec<u8> = (0..algorithm.keymat_len())
        .map(|at| (at as u8).wrapping_mul(29) ^ seed)
        .collect();
    EspKey::from_keymat(algorithm, &keymat).unwrap()
}

/// The SPI that a side receives with.
pub(crate) fn spi(to: Side) -> Spi {
    Spi(0x1000_0000 + to as u32)
}

pub(crate) fn inbound(to: Side, how: Protection) -> Inbound {
    let key = key(how.algorithm, to as u8);
    Inbound {
        sa: Box::new(InboundSa::new(spi(to), key, how.esn, 1024).unwrap()),
        peer: OTHER,
        mode: Mode::Tunnel,
    }
}

pub(crate) fn outbound(from: Side, how: Protection) -> Outbound {
    let to = from.other();
    let (src, dst) = (from.tunnel(how.outer_v4), to.tunnel(how.outer_v4));
    let outer = if how.outer_v4 {
        Outer::V4 {
            src: src.to_v4(),
            dst: dst.to_v4(),
        }
    } else {
        Outer::V6 {
            src: src.to_v6(),
            dst: dst.to_v6(),
        }
    };
    let tunnel = Tunnel {
        outer,
        udp_encap: how.udp_encap,
    };
    let key = key(how.algorithm, to as u8);
    let sa = OutboundSa::new(spi(to), key, how.esn);
    Outbound::new(Box::new(sa), tunnel, Mode::Tunnel)
}

/// Two nodes, and what passed between them.
pub(crate) struct Rig {
    pub(crate) a: Node,
    pub(crate) b: Node,
    /// Every frame that either node put on the wire.
    pub(crate) wire: Vec<Vec<u8>>,
    /// Those of them that no node here takes.
    pub(crate) outside: Vec<Vec<u8>>,
    pool: MemPool,
}

impl Rig {
    /// Two nodes whose pods allow everything, next hops known, SAs installed.
    pub(crate) fn new() -> Self {
        Self::with(
            Plan::open(Side::A),
            Plan::open(Side::B),
            Protection::default(),
        )
    }

    pub(crate) fn protected_by(how: Protection) -> Self {
        Self::with(Plan::open(Side::A), Plan::open(Side::B), how)
    }

    /// As [`Self::new`], with these policies for A's vf0 and B's vf0.
    pub(crate) fn judging(a: Policy, b: Policy) -> Self {
        let (mut plan_a, mut plan_b) = (Plan::open(Side::A), Plan::open(Side::B));
        plan_a.pod(0).policy = a;
        plan_b.pod(0).policy = b;
        Self::with(plan_a, plan_b, Protection::default())
    }

    pub(crate) fn with(mut a: Plan, mut b: Plan, how: Protection) -> Self {
        (a.outer_v4, b.outer_v4) = (how.outer_v4, how.outer_v4);
        let mut rig = Self::without_sas(a, b);
        for node in [&mut rig.a, &mut rig.b] {
            let side = node.plan.side;
            node.command(Command::InstallInbound(inbound(side, how)));
            node.command(Command::InstallOutbound(OTHER, outbound(side, how).into()));
            node.poll();
            assert!(matches!(node.reply(), Reply::InboundInstalled(_)));
            assert!(matches!(node.reply(), Reply::OutboundInstalled(_, _, None)));
            node.rebase();
        }
        rig
    }

    pub(crate) fn without_sas(a: Plan, b: Plan) -> Self {
        let mut rig = Self {
            a: Node::new(a),
            b: Node::new(b),
            wire: Vec::new(),
            outside: Vec::new(),
            pool: MemPool::new(8),
        };
        rig.settle();
        rig.wire.clear();
        rig.outside.clear();
        rig.a.rebase();
        rig.b.rebase();
        rig
    }

    /// Moves time on for both nodes, without a poll.
    pub(crate) fn advance(&mut self, ns: u64) {
        self.a.now = self.a.now + ns;
        self.b.now = self.b.now + ns;
    }

    /// Polls and carries frames until nothing moves any more.
    pub(crate) fn settle(&mut self) {
        for _ in 0..20 {
            self.a.poll();
            self.b.poll();
            if !self.carry() {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    /// Carries what stands on the wire to whom it is for; whether there was anything.
    pub(crate) fn carry(&mut self) -> bool {
        let (from_a, from_b) = (self.a.take(UPLINK), self.b.take(UPLINK));
        let moved = !from_a.is_empty() || !from_b.is_empty();
        for frame in from_a {
            self.pass(Side::A, frame);
        }
        for frame in from_b {
            self.pass(Side::B, frame);
        }
        moved
    }

    fn pass(&mut self, from: Side, frame: Vec<u8>) {
        self.wire.push(frame.clone());
        let dst: [u8; 6] = frame[..6].try_into().unwrap();
        let dst = Mac(dst);
        let (sender, receiver) = match from {
            Side::A => (&mut self.a, &mut self.b),
            Side::B => (&mut self.b, &mut self.a),
        };
        if let Some(answer) = station_answer(&self.pool, &frame) {
            sender.deliver(UPLINK, &answer);
        } else if dst.is_group() || dst == from.other().uplink_mac() {
            receiver.deliver(UPLINK, &frame);
        } else {
            self.outside.push(frame);
        }
    }

    /// Whether bytes that stand in some frame of the wire in clear.
    pub(crate) fn seen_on_wire(&self, bytes: &[u8]) -> bool {
        self.wire.iter().any(|frame| contains(frame, bytes))
    }
}

pub(crate) fn contains(frame: &[u8], bytes: &[u8]) -> bool {
    frame.windows(bytes.len()).any(|w| w == bytes)
}

/// What C's or the gateway's stack answers to a question about itself.
fn station_answer(pool: &MemPool, question: &[u8]) -> Option<Vec<u8>> {
    use sluice_dataplane_core::meta::{FrameKind, NdKind};
    use sluice_dataplane_core::port::Frame;
    let meta = wire::parse(question).ok()?;
    let mut frame = pool.frame(question)?;
    match (meta.kind, meta.nd) {
        (FrameKind::Arp, _) => {
            let target = arp::Arp::read(question, &meta)?.target_ip;
            let mac = station_mac(target)?;
            arp::reply_in_place(frame.bytes_mut(), &meta, mac).then_some(())?;
        }
        (_, NdKind::NeighborSolicit) => {
            let message = nd::Nd::read(question, &meta).ok()?;
            let mac = station_mac(message.target)?;
            nd::advertise_in_place(&mut frame, &meta, &message, mac, false).then_some(())?;
        }
        _ => return None,
    }
    Some(frame.bytes().to_vec())
}

/// The other node, as each of the two numbers it.
pub(crate) const OTHER: PeerIndex = PeerIndex(0);
/// The peer that is only a name: nobody has an SA with it.
pub(crate) const PEER_C: PeerIndex = PeerIndex(1);

/// When nodes start: not at zero, where mistakes with time hide.
pub(crate) const START: Tick = Tick(1_000 * Tick::SECOND);

/// A node's word on the wire, with the key of the real one: for packets that no honest
/// node would send.
pub(crate) struct Forger {
    outbound: Outbound,
    from: Side,
}

impl Forger {
    /// Numbers its packets from `first`.
    pub(crate) fn new(from: Side, how: Protection, first: u64) -> Self {
        let mut outbound = outbound(from, how);
        let key = key(how.algorithm, from.other() as u8);
        *outbound.sa = OutboundSa::starting_at(spi(from.other()), key, how.esn, first);
        Self { outbound, from }
    }

    /// Seals anything as anything.
    pub(crate) fn seal(&mut self, inner: &[u8], next_header: u8) -> Vec<u8> {
        self.seal_marked(inner, next_header, 0)
    }

    /// As [`Self::seal`], with an outer TOS.
    pub(crate) fn seal_marked(&mut self, inner: &[u8], next_header: u8, tos: u8) -> Vec<u8> {
        use sluice_crypto::esp::ESP_HEADER_LEN;
        let mut esp = vec![0; ESP_HEADER_LEN];
        esp.extend(inner);
        esp.resize(OutboundSa::sealed_len(inner.len()), 0);
        let sa = &mut self.outbound.sa;
        sa.seal(&mut esp, inner.len(), next_header).unwrap();
        let mut outer = vec![0; self.outbound.tunnel.header_len()];
        let tunnel = &self.outbound.tunnel;
        tunnel.write(&mut outer, esp.len(), tos, true, 0).unwrap();
        let ethertype: u16 = match tunnel.outer {
            Outer::V4 { .. } => 0x0800,
            Outer::V6 { .. } => 0x86dd,
        };
        let (to, from) = (self.from.other().uplink_mac(), self.from.uplink_mac());
        let mut frame = [to.0, from.0].concat();
        frame.extend(ethertype.to_be_bytes());
        frame.extend(outer);
        frame.extend(esp);
        frame
    }
}
