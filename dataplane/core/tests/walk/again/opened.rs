//! The same of what comes by the wire: from under ESP, and beside it.

use sluice_crypto::esp::{
    ESP_HEADER_LEN, InboundSa, NEXT_HEADER_DUMMY, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, OutboundSa,
    Outer, Spi, Tunnel,
};
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::sad::Inbound;
use sluice_dataplane_core::snapshot::{Encryption, PeerIndex};

use super::*;

const FLOWS: usize = 18;
/// Those before come by an SA from B's first pod; from here on from B itself,
const FROM_NODE: usize = 12;
/// for the host,
const TO_HOST: usize = 13;
/// in clear, from outside,
const IN_CLEAR: usize = 14;
/// and as it comes, between pods whose settings leave it open.
const EITHER: usize = 16;
/// What C may say and B may not, by an SA of its own.
const FROM_C: Spi = Spi(0x2000_0000);
/// Another one from B.
const NEXT: Spi = Spi(0x1000_0100);

/// Somebody who seals for A.
struct Sealer {
    sa: OutboundSa,
    tunnel: Tunnel,
}

impl Sealer {
    fn new(spi: Spi, how: Protection, from: Addr) -> Self {
        let to = Side::A.tunnel(how.outer_v4);
        let outer = if how.outer_v4 {
            let (src, dst) = (from.to_v4(), to.to_v4());
            Outer::V4 { src, dst }
        } else {
            let (src, dst) = (from.to_v6(), to.to_v6());
            Outer::V6 { src, dst }
        };
        let tunnel = Tunnel {
            outer,
            udp_encap: how.udp_encap,
        };
        let sa = OutboundSa::new(spi, key(how.algorithm, spi.0 as u8 ^ 0x55), how.esn);
        Self { sa, tunnel }
    }

    fn inbound(spi: Spi, how: Protection, peer: PeerIndex) -> Inbound {
        let key = key(how.algorithm, spi.0 as u8 ^ 0x55);
        Inbound {
            sa: Box::new(InboundSa::new(spi, key, how.esn, 1024).unwrap()),
            peer,
            mode: Mode::Tunnel,
        }
    }

    fn seal(&mut self, inner: &[u8], next_header: u8, tos: u8) -> Vec<u8> {
        let mut esp = vec![0; ESP_HEADER_LEN];
        esp.extend(inner);
        esp.resize(OutboundSa::sealed_len(inner.len()), 0);
        self.sa.seal(&mut esp, inner.len(), next_header).unwrap();
        let mut frame = vec![0; 14 + self.tunnel.header_len()];
        let outer = &mut frame[14..];
        self.tunnel.write(outer, esp.len(), tos, true, 0).unwrap();
        frame[..6].copy_from_slice(&Side::A.uplink_mac().0);
        frame[6..12].copy_from_slice(&Side::B.uplink_mac().0);
        let ethertype: u16 = if matches!(self.tunnel.outer, Outer::V4 { .. }) {
            0x0800
        } else {
            0x86dd
        };
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame.extend(esp);
        frame
    }
}

struct Wire {
    how: Protection,
    b: Sealer,
    next: Sealer,
    c: Sealer,
    seqs: [u32; FLOWS],
    datagrams: u16,
    /// Whether a packet that may begin a connection anew was the last: what comes behind it in its
    /// burst finds the flow as it was before.
    is_beginning: bool,
}

fn is_v4(flow: usize) -> bool {
    flow & 1 == 0
}

fn is_tcp(flow: usize) -> bool {
    flow & 2 == 0 && flow < FROM_NODE || flow >= EITHER
}

/// Whether it was A's pod that began.
fn is_begun_here(flow: usize) -> bool {
    flow & 4 != 0
}

/// The pod that it goes to. The third is behind a VLAN tag.
fn pod(flow: usize) -> usize {
    if flow >= EITHER { 0 } else { flow / 4 % 3 }
}

/// The one of B that it comes from, if from one.
fn peer(flow: usize) -> usize {
    usize::from(flow >= EITHER)
}

/// A packet of a flow, as it is before it is sealed.
fn inner(flow: usize, body: Body) -> FrameSpec {
    let v4 = is_v4(flow);
    let to = Side::A.pod(pod(flow), v4);
    match flow {
        TO_HOST => Side::B.pod_sends(0, Side::A.node(v4), body),
        FROM_NODE => Side::B.host_sends(to, body),
        IN_CLEAR..EITHER => Side::A.wire_sends(stranger(v4), to, body),
        _ => Side::B.pod_sends(peer(flow), to, body),
    }
}

impl Wire {
    fn new(how: Protection) -> Self {
        let b = Side::B.tunnel(how.outer_v4);
        Self {
            how,
            b: Sealer::new(spi(Side::A), how, b),
            next: Sealer::new(NEXT, how, b),
            c: Sealer::new(FROM_C, how, c_tunnel(how.outer_v4)),
            seqs: [1; FLOWS],
            datagrams: 0,
            is_beginning: false,
        }
    }

    /// The SAs of these sealers at A, in place of the rig's own.
    fn install(&self, rig: &mut Rig) {
        let sas = [(spi(Side::A), OTHER), (NEXT, OTHER), (FROM_C, PEER_C)];
        rig.a.counting = false;
        rig.a.command(Command::RetireInbound(spi(Side::A)));
        for (spi, peer) in sas {
            let inbound = Sealer::inbound(spi, self.how, peer);
            rig.a.command(Command::InstallInbound(inbound));
        }
        rig.a.poll();
        while rig.a.next_reply().is_some() {}
        rig.a.counting = true;
    }

    fn shake_hands(&mut self, twins: &mut Twins) {
        for flow in (0..FLOWS).filter(|it| is_tcp(*it)) {
            let ports = (port(flow), PORT);
            let there = |flags, seq, ack| {
                let spec = inner(flow, tcp_at(ports.0, ports.1, flags, seq, ack));
                spec.build()
            };
            let peer = Side::B.pod(peer(flow), is_v4(flow));
            let back = |flags, seq, ack| {
                let body = tcp_at(ports.1, ports.0, flags, seq, ack);
                Side::A.pod_sends(pod(flow), peer, body).build()
            };
            let frames = if is_begun_here(flow) {
                let answer = self.sealed(&there(SYN | ACK, 0, 1));
                [back(SYN, 0, 0), answer, back(ACK, 1, 1)]
            } else {
                let [syn, ack] = [there(SYN, 0, 0), there(ACK, 1, 1)].map(|it| self.sealed(&it));
                [syn, back(SYN | ACK, 0, 1), ack]
            };
            let pods = Side::vf_port(pod(flow));
            let ports = if is_begun_here(flow) {
                [pods, UPLINK, pods]
            } else {
                [UPLINK, pods, UPLINK]
            };
            for rig in [&mut twins.bursts, &mut twins.singles] {
                for (port, frame) in ports.into_iter().zip(&frames) {
                    rig.a.deliver(port, frame);
                    rig.settle();
                }
                clear(rig);
            }
        }
    }

    fn sealed(&mut self, frame: &[u8]) -> Vec<u8> {
        let (packet, next_header) = unframed(frame);
        self.b.seal(packet, next_header, 0)
    }

    /// A packet of a flow, plain or odd: inside, outside, or on its way.
    fn frames(&mut self, dice: &mut Seeded, flow: usize) -> Vec<Vec<u8>> {
        let odd = dice.below(50);
        let may_be_cut = is_v4(flow) && !is_tcp(flow);
        self.is_beginning = odd == 3 && is_tcp(flow);
        let len = match odd {
            0 => 1_490,
            1 => 0,
            10 | 11 if may_be_cut => usize::from(CUT_AT - 1) * 8,
            _ => 1 + dice.below(200),
        };
        let body = if is_tcp(flow) {
            let flags = match odd {
                2 => ACK | FIN,
                3 => SYN,
                4 => ACK | SYN,
                30 => ACK | RST,
                31 => 0,
                _ => ACK,
            };
            tcp_at(port(flow), PORT, flags, self.seqs[flow], 1)
        } else {
            udp(port(flow), PORT)
        };
        // What arrives in any case.
        if is_tcp(flow) && odd > 31 {
            self.seqs[flow] = self.seqs[flow].wrapping_add(len as u32);
        }
        let mut spec = with_payload(inner(flow, body), vec![odd as u8; len]);
        spec.tos = match odd {
            5 => 3,
            8 => 2,
            _ => 0,
        };
        let mut frame = spec.build();
        match odd {
            6 => {
                let at = frame.len().min(14 + dice.below(60)) - 1;
                frame[at] ^= 1 << dice.below(8);
            }
            9 if is_v4(flow) => renumber(&mut frame, dice.below(256) as u16),
            10 | 11 if may_be_cut => {
                self.datagrams += 1;
                renumber(&mut frame, self.datagrams);
                let first = fragmented(frame.clone(), 0, true);
                let later = fragmented(frame, CUT_AT, false);
                let mut both = if odd == 10 {
                    vec![first, later]
                } else {
                    vec![later, first]
                };
                if !(IN_CLEAR..EITHER).contains(&flow) {
                    both = both.iter().map(|it| self.sealed(it)).collect();
                }
                return both;
            }
            12 => frame.extend([0; 9]),
            _ => {}
        }
        let is_clear = match flow {
            IN_CLEAR..EITHER => true,
            EITHER.. => dice.below(4) == 0,
            _ => false,
        };
        if is_clear {
            if flow >= EITHER {
                frame[..6].copy_from_slice(&Side::A.uplink_mac().0);
                frame[6..12].copy_from_slice(&Side::B.uplink_mac().0);
            }
            return vec![frame];
        }
        let (packet, next_header) = unframed(&frame);
        let other = NEXT_HEADER_IPV4 + NEXT_HEADER_IPV6 - next_header;
        let mut sealed = match odd {
            13 => self.b.seal(packet, other, 0),
            14 => self.b.seal(packet, NEXT_HEADER_DUMMY, 0),
            7 | 8 => self.b.seal(packet, next_header, 3),
            32..=34 => self
                .b
                .seal(packet, next_header, (dice.below(64) as u8) << 2),
            15 | 16 => self.c.seal(packet, next_header, 0),
            17..=24 => self.next.seal(packet, next_header, 0),
            _ => self.b.seal(packet, next_header, 0),
        };
        match odd {
            25 => {
                let at = dice.below(sealed.len());
                sealed[at] ^= 1 << dice.below(8);
            }
            26 => return vec![sealed.clone(), sealed],
            27 => sealed.truncate(sealed.len() - 1),
            28 => sealed.extend([0; 9]),
            // What keeps a way through a NAT open, and what IKE says by the same port.
            35 if self.how.udp_encap => {
                let start = 14 + self.b.tunnel.header_len();
                sealed[start..start + 4].fill(dice.below(2) as u8 * 0xff);
            }
            // Another flow label.
            36 if !self.how.outer_v4 => sealed[17] ^= 0x5a,
            // Another hop limit, of a packet that came by another way.
            29 if self.how.outer_v4 => {
                sealed[22] -= 1;
                sealed[24..26].fill(0);
                let sum = checksum::of(&sealed[14..34]);
                sealed[24..26].copy_from_slice(&sum.to_be_bytes());
            }
            _ => {}
        }
        vec![sealed]
    }
}

/// What comes from B's second pod for A's first may be sealed or not.
fn leave_open(twins: &mut Twins) {
    for rig in [&mut twins.bursts, &mut twins.singles] {
        for v4 in [V4, !V4] {
            let ends = [Side::A.pod(0, v4), Side::B.pod(1, v4)];
            rig.a
                .replan(|plan| plan.set_encryption(&ends, Encryption::Off));
        }
    }
}

/// Another identification.
fn renumber(frame: &mut [u8], id: u16) {
    frame[18..20].copy_from_slice(&id.to_be_bytes());
    frame[24..26].fill(0);
    let sum = checksum::of(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// A frame's packet with all that follows it, and what it is in ESP.
fn unframed(frame: &[u8]) -> (&[u8], u8) {
    let is_v4 = frame[12..14] == [0x08, 0x00];
    let next_header = if is_v4 {
        NEXT_HEADER_IPV4
    } else {
        NEXT_HEADER_IPV6
    };
    (&frame[14..], next_header)
}

fn clear(rig: &mut Rig) {
    for port in [VF0, VF1, VF2, UPLINK, HOST] {
        rig.a.take(port);
        rig.b.take(port);
    }
}

/// What left, flow by flow, and what B's pods were told about it in any order.
fn left(rig: &mut Rig) -> Vec<Vec<Vec<u8>>> {
    rig.settle();
    let mut all = Vec::new();
    for port in [VF0, VF1, VF2, HOST] {
        let mut sent = rig.a.take(port);
        sent.sort_by_key(|it| {
            let meta = meta(it);
            let is_later = meta.frag == FragKind::Later;
            (is_later, meta.src, meta.dst, meta.src_port, meta.dst_port)
        });
        let mut told = rig.b.take(port);
        told.sort();
        all.extend([sent, told]);
    }
    all
}

impl Twins {
    fn compare_opened(&mut self) {
        let [bursts, singles] = [&mut self.bursts, &mut self.singles].map(left);
        for (at, (burst, single)) in bursts.iter().zip(&singles).enumerate() {
            let differing = burst.iter().zip(single).find(|(a, b)| a != b);
            let what = differing.map(|(a, b)| [meta(a), meta(b)]);
            let lens = (burst.len(), single.len());
            assert!(
                burst == single,
                "tray {at}, {lens:?} frames, first {what:#?}"
            );
        }
        self.compare_state();
    }

    /// Mostly nothing; or what a way was found by becomes another.
    fn change_receiver(&mut self, dice: &mut Seeded, wire: &Wire) {
        let (change, vf) = (dice.below(30), dice.below(3));
        let udp = || Policy::CLOSED.allow_in(Transport::Udp, PORT);
        for rig in [&mut self.bursts, &mut self.singles] {
            rig.a.counting = false;
            match change {
                0..=4 => rig
                    .a
                    .replan(|plan| plan.repolicy(vf, policy(change, udp()))),
                5 => rig.a.replan(|plan| {
                    let addrs = plan.pod(vf).addrs.clone();
                    plan.replace_pod(vf, addrs, Policy::OPEN);
                }),
                6 => rig.a.replan(|plan| {
                    let last = plan.revoked.pop();
                    plan.revoked.extend(last.is_none().then_some(0));
                    plan.move_address(Side::B.pod(0, V4));
                    plan.move_address(Side::B.pod(0, !V4));
                }),
                7 => {
                    rig.a.command(Command::RetireInbound(NEXT));
                    rig.a.poll();
                    rig.a.reply();
                }
                8 => {
                    let again = Sealer::inbound(NEXT, wire.how, OTHER);
                    rig.a.command(Command::InstallInbound(again));
                    rig.a.poll();
                    rig.a.reply();
                }
                9 => rig
                    .a
                    .replan(|plan| plan.vf_mtu = 1400 + 100 * (vf as u16 & 1)),
                _ => {}
            }
            rig.a.counting = true;
        }
    }
}

#[test]
fn a_burst_of_esp_is_its_packets_one_by_one() {
    if !ALONE {
        return;
    }
    let mut met = 0;
    for seed in 1..=60 {
        let mut dice = Seeded(seed);
        let how = Protection {
            outer_v4: seed % 2 == 0,
            udp_encap: seed % 3 == 0,
            ..Protection::default()
        };
        let mut twins = Twins::new(how);
        let mut wire = Wire::new(how);
        for rig in [&mut twins.bursts, &mut twins.singles] {
            wire.install(rig);
        }
        leave_open(&mut twins);
        wire.shake_hands(&mut twins);
        for _ in 0..60 {
            let mut burst = Vec::new();
            wire.is_beginning = false;
            while burst.len() < ROUGHLY && !wire.is_beginning {
                let flow = dice.below(FLOWS);
                for _ in 0..1 + dice.below(RUN_MAX) {
                    if !wire.is_beginning {
                        burst.extend(wire.frames(&mut dice, flow));
                    }
                }
            }
            twins.deliver(UPLINK, &burst);
            twins.compare_opened();
            let quiet_s = match dice.below(20) {
                0 => 20 + dice.below(120),
                1 => dice.below(35),
                _ => 0,
            };
            twins.advance(quiet_s as u64 * Tick::SECOND + dice.below(40) as u64 * Tick::MS);
            twins.change_receiver(&mut dice, &wire);
        }
        met += twins.bursts.a.counters()["opened"];
    }
    assert!(met > 10_000, "{met}");
}
