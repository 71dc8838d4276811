//! A packet as oracles look at it: by whom, for whom, and what it says.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;

use sluice_crypto::esp::PORT_NAT_T;
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::meta::{FragKind, FrameKind, Meta, NdKind, proto};
use sluice_dataplane_core::wire;

use crate::world::Api;

/// UDP's header.
const UDP_LEN: usize = 8;

/// The two ends of a packet's flow.
pub(super) type Ends = ((IpAddr, u16), (IpAddr, u16), u8);

/// An IP packet that is no neighbour discovery.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) eth_dst: Mac,
    pub(super) src: IpAddr,
    pub(super) dst: IpAddr,
    pub(super) protocol: u8,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    /// An ICMP error: about a flow, and none itself.
    pub(super) error: bool,
    /// SPI and the sequence number's low half, if it is ESP, in UDP too.
    pub(super) esp: Option<(u32, u32)>,
    /// The datagram that it is a piece of, and whether it is a later one, without ports.
    pub(super) piece: Option<Piece>,
    /// What tells it from others of its flow and no hop changes.
    says: [u64; 2],
}

/// Of a datagram in pieces: its identification, and whether this one is not the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) id: u32,
    pub(super) is_later: bool,
}

impl Packet {
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let meta = wire::parse(frame).ok()?;
        if meta.kind != FrameKind::Ip || meta.nd != NdKind::None {
            return None;
        }
        Some(Self {
            eth_dst: meta.eth_dst,
            src: meta.src.into(),
            dst: meta.dst.into(),
            protocol: meta.protocol,
            src_port: meta.src_port,
            dst_port: meta.dst_port,
            error: meta.icmp_error,
            esp: esp(frame, &meta),
            piece: piece(frame, &meta),
            says: digest(says(frame, &meta)),
        })
    }

    /// Whether it is between two dataplanes and protected: ESP for anyone else is a packet like
    /// any other, whoever made it, be it a bit that turned in its header.
    pub(super) fn is_sealed(&self, api: &Api<'_>) -> bool {
        self.esp.is_some() && api.is_tunnel(self.dst)
    }

    /// Its flow's ends, the smaller first: the same for what goes back.
    pub(super) fn ends(&self) -> Ends {
        let (from, to) = ((self.src, self.src_port), (self.dst, self.dst_port));
        (from.min(to), from.max(to), self.protocol)
    }

    /// What it is, whoever carries it.
    pub(super) fn identity(&self) -> Identity {
        let from = (self.src, self.src_port);
        let to = (self.dst, self.dst_port);
        Identity(digest((from, to, self.protocol, self.says)))
    }
}

/// What makes two packets the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Identity([u64; 2]);

/// Two hashes of one thing: that two things have both in common nobody will live to see.
fn digest(of: impl Hash) -> [u64; 2] {
    [0u8, 1].map(|first| {
        let mut hasher = DefaultHasher::new();
        (first, &of).hash(&mut hasher);
        hasher.finish()
    })
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, .. } = self;
        let (src_port, dst_port) = (self.src_port, self.dst_port);
        match self.protocol {
            proto::TCP => write!(f, "TCP [{src}]:{src_port} to [{dst}]:{dst_port}"),
            proto::UDP => write!(f, "UDP [{src}]:{src_port} to [{dst}]:{dst_port}"),
            proto::SCTP => write!(f, "SCTP [{src}]:{src_port} to [{dst}]:{dst_port}"),
            proto::ICMP | proto::ICMPV6 => write!(f, "ICMP {src_port} of [{src}] to [{dst}]"),
            other => write!(f, "protocol {other} of [{src}] to [{dst}]"),
        }
    }
}

fn piece(frame: &[u8], meta: &Meta) -> Option<Piece> {
    if meta.frag == FragKind::Whole {
        return None;
    }
    let fragment = wire::fragment(frame, meta)?;
    Some(Piece {
        id: fragment.id,
        is_later: meta.frag == FragKind::Later,
    })
}

fn esp(frame: &[u8], meta: &Meta) -> Option<(u32, u32)> {
    let l4 = usize::from(meta.l4_off);
    let at = match meta.protocol {
        proto::ESP => l4,
        proto::UDP if meta.dst_port == PORT_NAT_T => l4 + UDP_LEN,
        _ => return None,
    };
    let word = |at: usize| {
        let bytes = frame.get(at..)?.first_chunk::<4>()?;
        Some(u32::from_be_bytes(*bytes))
    };
    Some((word(at)?, word(at + 4)?))
}

/// Of TCP its numbers, flags and data; else what is behind ports and checksum.
fn says(frame: &[u8], meta: &Meta) -> Vec<u8> {
    let l4 = usize::from(meta.l4_off);
    let end = usize::from(meta.l3_end);
    let part = |from: usize, to: usize| frame.get(from..to.min(end)).unwrap_or_default();
    match meta.protocol {
        proto::TCP => {
            let header = frame.get(l4 + 12).map_or(20, |b| usize::from(b >> 4) * 4);
            let numbers = part(l4 + 4, l4 + 12);
            let flags = part(l4 + 13, l4 + 14);
            [numbers, flags, part(l4 + header, end)].concat()
        }
        proto::ICMP | proto::ICMPV6 => [part(l4, l4 + 2), part(l4 + 4, end)].concat(),
        proto::UDP => part(l4 + UDP_LEN, end).to_vec(),
        _ => part(l4, end).to_vec(),
    }
}
