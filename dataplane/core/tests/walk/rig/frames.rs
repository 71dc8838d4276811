//! Frames to send, and frames taken apart.

use core::net::IpAddr;

use sluice_dataplane_core::addr::{Addr, Mac};
use sluice_dataplane_core::meta::{Meta, proto};
use sluice_dataplane_core::snapshot::ROUTER_MAC;
use sluice_dataplane_core::wire::build::{Body, FrameSpec};
use sluice_dataplane_core::wire::{self, checksum};

use super::places::{GATEWAY_MAC, Side, VF2_VLAN};

/// Bytes of a pod's payload that must never be seen on the wire.
pub(crate) const MARKER: &[u8] = b"SLUICE-MARKER-IN-CLEAR";

pub(crate) const SYN: u8 = 0x02;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN: u8 = 0x01;
pub(crate) const RST: u8 = 0x04;

pub(crate) fn udp(src_port: u16, dst_port: u16) -> Body {
    Body::Udp { src_port, dst_port }
}

/// A segment of a connection in which both ends number from 1 and neither says anything
/// that the other takes: after its SYN each stays at 2.
pub(crate) fn tcp(src_port: u16, dst_port: u16, flags: u8) -> Body {
    let seq = if flags & SYN == 0 { 2 } else { 1 };
    let ack = if flags & ACK == 0 { 0 } else { 2 };
    tcp_at(src_port, dst_port, flags, seq, ack)
}

/// A segment with these numbers.
pub(crate) fn tcp_at(src_port: u16, dst_port: u16, flags: u8, seq: u32, ack: u32) -> Body {
    Body::Tcp {
        src_port,
        dst_port,
        flags,
        seq,
        ack,
        mss: None,
    }
}

pub(crate) fn echo(id: u16, reply: bool) -> Body {
    Body::IcmpEcho { id, seq: 1, reply }
}

/// A packet with the marker in it.
pub(crate) fn spec(src: (Mac, Addr), dst: (Mac, Addr), body: Body) -> FrameSpec {
    FrameSpec {
        eth_src: src.0,
        eth_dst: dst.0,
        payload: MARKER.to_vec(),
        ..FrameSpec::new(IpAddr::from(src.1), IpAddr::from(dst.1), body)
    }
}

impl Side {
    /// A packet from one of this node's pods, as the pod sends it.
    pub(crate) fn pod_sends(self, vf: usize, dst: Addr, body: Body) -> FrameSpec {
        let src = (self.vf_mac(vf), self.pod(vf, dst.is_v4()));
        FrameSpec {
            vlan: (vf == 2).then_some(VF2_VLAN),
            ..spec(src, (ROUTER_MAC, dst), body)
        }
    }

    /// A packet from this node's host, as the host sends it.
    pub(crate) fn host_sends(self, dst: Addr, body: Body) -> FrameSpec {
        let src = (self.host_mac(), self.node(dst.is_v4()));
        spec(src, (ROUTER_MAC, dst), body)
    }

    /// A plaintext packet that the gateway sends to this node's uplink.
    pub(crate) fn wire_sends(self, src: Addr, dst: Addr, body: Body) -> FrameSpec {
        spec((GATEWAY_MAC, src), (self.uplink_mac(), dst), body)
    }
}

pub(crate) fn with_payload(spec: FrameSpec, payload: Vec<u8>) -> FrameSpec {
    FrameSpec { payload, ..spec }
}

/// The IP packet of a frame.
pub(crate) fn packet(frame: &[u8]) -> &[u8] {
    let meta = meta(frame);
    &frame[usize::from(meta.l3_off)..usize::from(meta.l3_end)]
}

pub(crate) fn meta(frame: &[u8]) -> Meta {
    wire::parse(frame).expect("a frame that parses")
}

/// An ICMP error that `spec`'s destination, or a router before it, would send about it.
pub(crate) fn error_about(
    offending: &FrameSpec,
    kind: u8,
    from: (Mac, Addr),
    to: (Mac, Addr),
) -> FrameSpec {
    let frame = offending.build();
    let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    // ICMPv6's packet too big names a size.
    if kind == 2 && !to.1.is_v4() {
        payload[4..8].copy_from_slice(&1280u32.to_be_bytes());
    }
    let quoted = packet(&frame);
    payload.extend(&quoted[..quoted.len().min(548)]);
    let protocol = if to.1.is_v4() {
        proto::ICMP
    } else {
        proto::ICMPV6
    };
    with_payload(spec(from, to, Body::Other { protocol }), payload)
}

/// An ARP frame; `op` 1 asks, 2 answers.
pub(crate) fn arp(op: u16, eth: [Mac; 2], sender: (Mac, Addr), target: (Mac, Addr)) -> Vec<u8> {
    let mut frame = [eth[0].0, eth[1].0].concat();
    frame.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
    frame.extend(op.to_be_bytes());
    frame.extend(sender.0.0);
    frame.extend(sender.1.to_v4());
    frame.extend(target.0.0);
    frame.extend(target.1.to_v4());
    frame.resize(60, 0);
    frame
}

/// A broadcast question of `sender` for `target`.
pub(crate) fn who_has(sender: (Mac, Addr), target: Addr) -> Vec<u8> {
    arp(
        1,
        [Mac::BROADCAST, sender.0],
        sender,
        (Mac::default(), target),
    )
}

/// An ICMPv6 message of neighbour discovery, hop limit 255.
pub(crate) fn icmpv6(src: (Mac, Addr), dst: (Mac, Addr), message: Vec<u8>) -> Vec<u8> {
    let body = Body::Other {
        protocol: proto::ICMPV6,
    };
    let spec = FrameSpec {
        ttl: 255,
        ..with_payload(spec(src, dst, body), message)
    };
    spec.build()
}

/// A solicitation for `target`.
pub(crate) fn solicit(sender: (Mac, Addr), target: Addr) -> Vec<u8> {
    let group = wire::nd::solicited_node(target);
    let eth_dst = wire::ethernet::multicast_v6(group.to_v6());
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.to_v6());
    if sender.1 != Addr::UNSPECIFIED {
        message.extend([1, 1]);
        message.extend(sender.0.0);
    }
    icmpv6(sender, (eth_dst, group), message)
}

/// An advertisement that `target` is at `mac`.
pub(crate) fn advertise(src: (Mac, Addr), dst: (Mac, Addr), target: Addr, mac: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.to_v6());
    message.extend([2, 1]);
    message.extend(mac.0);
    icmpv6(src, dst, message)
}

/// Sets the fragment fields of an IPv4 frame and its checksum.
pub(crate) fn fragmented(mut frame: Vec<u8>, offset_units: u16, more: bool) -> Vec<u8> {
    let l3 = if frame[12] == 0x81 { 18 } else { 14 };
    let field = offset_units | if more { 0x2000 } else { 0 };
    frame[l3 + 6..l3 + 8].copy_from_slice(&field.to_be_bytes());
    frame[l3 + 10..l3 + 12].fill(0);
    let sum = checksum::of(&frame[l3..l3 + 20]);
    frame[l3 + 10..l3 + 12].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// A fixed stream of numbers (`SplitMix64`).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}
