//! C as a host that speaks ESP in transport mode, as an IPsec stack that isn't ours would. It
//! has our ciphers, and puts headers together in its own way.

use sluice_crypto::esp::{ESP_HEADER_LEN, InboundSa, OutboundSa, Outer, Spi, Tunnel};
use sluice_dataplane_core::addr::Addr;
use sluice_dataplane_core::command::{Command, Reply};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::sad::{Inbound, Mode, Outbound};
use sluice_dataplane_core::wire::checksum;

use super::{C_MAC, PEER_C, Plan, Protection, Rig, Side, c_tunnel, key, meta};

/// What A receives from C by.
pub(crate) const FROM_C: Spi = Spi(0x3000_0001);
/// What A sends to C by.
pub(crate) const TO_C: Spi = Spi(0x3000_0002);
const FROM_C_KEY: u8 = 0xc1;
const TO_C_KEY: u8 = 0xc2;
const WINDOW: usize = 64;

/// The host C, with the other ends of A's SAs.
pub(crate) struct Foreign {
    how: Protection,
    inbound: InboundSa,
    outbound: OutboundSa,
}

/// What A's SAs with C are for: A's first pod.
fn its_pod(how: Protection) -> Mode {
    Mode::Transport {
        pod: Side::A.pod(0, how.outer_v4),
    }
}

/// A receiving SA of A's, from C.
pub(crate) fn inbound_from_c(how: Protection) -> Inbound {
    let key = key(how.algorithm, FROM_C_KEY);
    Inbound {
        sa: Box::new(InboundSa::new(FROM_C, key, how.esn, WINDOW).unwrap()),
        peer: PEER_C,
        mode: its_pod(how),
    }
}

/// A sending SA of A's, to C, that begins with the number `first`.
pub(crate) fn outbound_to_c(how: Protection, first: u64) -> Outbound {
    let key = key(how.algorithm, TO_C_KEY);
    let (src, dst) = (Side::A.tunnel(how.outer_v4), c_tunnel(how.outer_v4));
    let outer = if how.outer_v4 {
        let (src, dst) = (src.to_v4(), dst.to_v4());
        Outer::V4 { src, dst }
    } else {
        let (src, dst) = (src.to_v6(), dst.to_v6());
        Outer::V6 { src, dst }
    };
    let tunnel = Tunnel {
        outer,
        udp_encap: how.udp_encap,
    };
    let sa = OutboundSa::starting_at(TO_C, key, how.esn, first);
    Outbound::new(Box::new(sa), tunnel, its_pod(how))
}

impl Rig {
    /// The two nodes, and C with which A has SAs of transport mode in one family.
    pub(crate) fn with_foreign(how: Protection) -> (Self, Foreign) {
        let mut plan = Plan::open(Side::A);
        plan.host_c = true;
        let mut rig = Self::with(plan, Plan::open(Side::B), how);
        rig.a.command(Command::InstallInbound(inbound_from_c(how)));
        let outbound = outbound_to_c(how, 1);
        rig.a
            .command(Command::InstallOutbound(PEER_C, outbound.into()));
        rig.a.poll();
        assert!(matches!(rig.a.reply(), Reply::InboundInstalled(FROM_C)));
        assert!(matches!(
            rig.a.reply(),
            Reply::OutboundInstalled(PEER_C, TO_C, None)
        ));
        rig.a.rebase();
        (rig, Foreign::new(how))
    }
}

impl Foreign {
    pub(crate) fn new(how: Protection) -> Self {
        let key = |seed| key(how.algorithm, seed);
        Self {
            how,
            inbound: InboundSa::new(TO_C, key(TO_C_KEY), how.esn, WINDOW).unwrap(),
            outbound: OutboundSa::new(FROM_C, key(FROM_C_KEY), how.esn),
        }
    }

    /// Numbers its packets from `first`.
    pub(crate) fn starting_at(how: Protection, first: u64) -> Self {
        let key = key(how.algorithm, FROM_C_KEY);
        let outbound = OutboundSa::starting_at(FROM_C, key, how.esn, first);
        Self {
            outbound,
            ..Self::new(how)
        }
    }

    /// C's address.
    pub(crate) fn addr(&self) -> Addr {
        c_tunnel(self.how.outer_v4)
    }

    /// The packet that was sealed to C in this frame.
    pub(crate) fn opens(&mut self, frame: &[u8]) -> Vec<u8> {
        let m = meta(frame);
        let (l3, l4) = (usize::from(m.l3_off), usize::from(m.l4_off));
        let mut esp = frame[l4..usize::from(m.l3_end)].to_vec();
        if self.how.udp_encap {
            assert_eq!((m.protocol, m.src_port, m.dst_port), (17, 4500, 4500));
            esp.drain(..8);
        } else {
            assert_eq!(m.protocol, proto::ESP);
        }
        let opened = self.inbound.open(&mut esp).expect("a packet that opens");
        let mut packet = frame[l3..l4].to_vec();
        packet.extend(&esp[opened.inner]);
        renumber(&mut packet, l4 - l3, opened.next_header);
        packet
    }

    /// A frame from C to A's uplink that carries a packet sealed.
    pub(crate) fn seals(&mut self, packet: &[u8]) -> Vec<u8> {
        let (header_len, next_header) = header_of(packet);
        self.seals_as(packet, header_len, next_header)
    }

    /// As [`Self::seals`], under any next header and with any part as the header.
    pub(crate) fn seals_as(
        &mut self,
        packet: &[u8],
        header_len: usize,
        next_header: u8,
    ) -> Vec<u8> {
        let (header, payload) = packet.split_at(header_len);
        let mut esp = vec![0; ESP_HEADER_LEN];
        esp.extend(payload);
        esp.resize(OutboundSa::sealed_len(payload.len()), 0);
        self.outbound
            .seal(&mut esp, payload.len(), next_header)
            .unwrap();
        let mut sealed = header.to_vec();
        if self.how.udp_encap {
            let len = esp.len() as u16 + 8;
            sealed.extend([0x11, 0x94, 0x11, 0x94]);
            sealed.extend([&len.to_be_bytes()[..], &[0, 0]].concat());
        }
        sealed.extend(esp);
        let protocol = if self.how.udp_encap { 17 } else { proto::ESP };
        renumber(&mut sealed, header_len, protocol);
        ether(&sealed)
    }
}

/// A frame from C to A's uplink.
fn ether(packet: &[u8]) -> Vec<u8> {
    let ethertype: [u8; 2] = if packet[0] >> 4 == 4 {
        [0x08, 0x00]
    } else {
        [0x86, 0xdd]
    };
    let macs = [Side::A.uplink_mac().0, C_MAC.0].concat();
    [&macs[..], &ethertype, packet].concat()
}

/// Where an IP packet's header ends, and what it says follows.
pub(crate) fn header_of(packet: &[u8]) -> (usize, u8) {
    let m = meta(&ether(packet));
    (usize::from(m.l4_off - m.l3_off), m.protocol)
}

/// Sets what follows an IP header of `header_len` bytes, and how long the packet is.
fn renumber(packet: &mut [u8], header_len: usize, next_header: u8) {
    let len = packet.len() as u16;
    if packet[0] >> 4 == 4 {
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet[9] = next_header;
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..header_len]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        return;
    }
    packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
    let (mut field, mut at) = (6, 40);
    while at < header_len {
        field = at;
        at += (usize::from(packet[at + 1]) + 1) * 8;
    }
    packet[field] = next_header;
}
