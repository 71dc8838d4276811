//! A packet as oracles look at it: by whom, for whom, and what it says.

use std::cell::Cell;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use sluice_crypto::esp::PORT_NAT_T;
use sluice_dataplane_core::addr::Mac;
use sluice_dataplane_core::meta::{FragKind, FrameKind, Meta, NdKind, proto};
use sluice_dataplane_core::wire;
use sluice_dataplane_core::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

use crate::fold::Digest;
use crate::world::Api;

/// UDP's header.
const UDP_LEN: usize = 8;

/// The two ends of a packet's flow.
pub(super) type Ends = ((IpAddr, u16), (IpAddr, u16), u8);

/// An IP packet that is no neighbour discovery.
#[derive(Clone, Debug)]
pub(super) struct Packet<'a> {
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
    frame: &'a [u8],
    /// Where in the frame its transport header is, and where it ends.
    l4_off: usize,
    l3_end: usize,
    /// What it is, once somebody has asked: of what is on the wire nobody does.
    identity: Cell<Option<Identity>>,
}

/// Of a datagram in pieces: its identification, and whether this one is not the first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) id: u32,
    pub(super) is_later: bool,
}

impl<'a> Packet<'a> {
    pub(super) fn read(frame: &'a [u8]) -> Option<Self> {
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
            frame,
            l4_off: usize::from(meta.l4_off),
            l3_end: usize::from(meta.l3_end),
            identity: Cell::new(None),
        })
    }

    /// The same with other ports.
    pub(super) fn with_ports(&self, src_port: u16, dst_port: u16) -> Self {
        Self {
            src_port,
            dst_port,
            identity: Cell::new(None),
            ..self.clone()
        }
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
        let known = self.identity.get();
        known.unwrap_or_else(|| {
            let ends = [(self.src, self.src_port), (self.dst, self.dst_port)];
            let ends = ends.iter().fold(Digest::default(), |it, (ip, port)| {
                let it = match ip {
                    IpAddr::V4(ip) => it.bytes(&ip.octets()),
                    IpAddr::V6(ip) => it.bytes(&ip.octets()),
                };
                it.word(u64::from(*port))
            });
            let identity = Identity(self.says(ends.word(u64::from(self.protocol))).finish());
            self.identity.set(Some(identity));
            identity
        })
    }

    /// Adds what tells it from others of its flow and no hop changes: of TCP its numbers, flags
    /// and data; else what is behind ports and checksum.
    fn says(&self, digest: Digest) -> Digest {
        let (l4, end) = (self.l4_off, self.l3_end);
        let part = |from: usize, to: usize| self.frame.get(from..to.min(end)).unwrap_or_default();
        match self.protocol {
            proto::TCP => {
                let header = self.frame.get(l4 + 12);
                let header = header.map_or(20, |b| usize::from(b >> 4) * 4);
                let numbers = digest.bytes(part(l4 + 4, l4 + 12));
                let flags = numbers.bytes(part(l4 + 13, l4 + 14));
                flags.bytes(part(l4 + header, end))
            }
            proto::ICMP | proto::ICMPV6 => digest.bytes(part(l4, l4 + 2)).bytes(part(l4 + 4, end)),
            proto::UDP => digest.bytes(part(l4 + UDP_LEN, end)),
            _ => digest.bytes(part(l4, end)),
        }
    }
}

/// What makes two packets the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Identity([u64; 2]);

impl Hash for Identity {
    /// It is a hash already.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self([one, _]) = self;
        state.write_u64(*one);
    }
}

impl fmt::Display for Packet<'_> {
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

/// Whether a frame shows on its first few bytes that it is no piece of a datagram. One that
/// doesn't may be whole all the same.
pub(super) fn is_plainly_whole(frame: &[u8]) -> bool {
    /// More fragments, or an offset (RFC 791 section 3.1).
    const PIECE: u16 = 0x3fff;
    let word = |at: usize| {
        let bytes = frame.get(at..)?.first_chunk::<2>()?;
        Some(u16::from_be_bytes(*bytes))
    };
    match word(12) {
        Some(ETHERTYPE_IPV4) => word(20).is_some_and(|it| it & PIECE == 0),
        Some(ETHERTYPE_IPV6) => {
            let next = frame.get(20).copied();
            let whole = [proto::TCP, proto::UDP, proto::ESP, proto::ICMPV6];
            next.is_some_and(|it| whole.contains(&it))
        }
        _ => false,
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
