//! What parse learns of one frame, carried beside it through the walk.

use crate::addr::{Addr, Mac};

/// IANA protocol numbers the walk knows by name.
pub mod proto {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ESP (RFC 4303).
    pub const ESP: u8 = 50;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// IPv6 no next header (RFC 8200 section 4.7); in ESP a dummy packet (RFC 4303 section 2.6).
    pub const NONE: u8 = 59;
    /// SCTP (RFC 9260).
    pub const SCTP: u8 = 132;
}

/// What kind of frame it is, as far as the walk tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum FrameKind {
    /// An ARP frame (RFC 826); the rest of [`Meta`] past the MACs is unset.
    Arp,
    /// IPv4 or IPv6.
    #[default]
    Ip,
    /// Any other ethertype: forwarded between host and uplink, dropped on a VF.
    Other,
}

/// An IPv6 neighbour discovery message or MLD seen by parse, else `None`
/// (RFC 4861 section 4, RFC 3810). Kept apart from other ICMPv6: it is answered or
/// dropped before policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum NdKind {
    /// Not neighbour discovery.
    #[default]
    None,
    /// Type 133.
    RouterSolicit,
    /// Type 134.
    RouterAdvert,
    /// Type 135.
    NeighborSolicit,
    /// Type 136.
    NeighborAdvert,
    /// Type 137.
    Redirect,
    /// MLD, types 130, 131, 132 and 143.
    Mld,
}

/// Where an IP packet stands in its datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum FragKind {
    /// Not a fragment, or an IPv6 atomic fragment (RFC 6946).
    #[default]
    Whole,
    /// The first fragment; it has the transport header.
    First,
    /// A later fragment; it has no transport header.
    Later,
}

/// TCP flag bits as they stand in byte 13 of the header (RFC 9293 section 3.1).
pub mod tcp_flag {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// ACK.
    pub const ACK: u8 = 0x10;
}

/// A parsed frame: offsets from the frame's first byte, and the flow's tuple.
///
/// For ICMP echo and its kin `src_port` and `dst_port` both hold the identifier
/// (RFC 792; RFC 4443 section 4.1). For an ICMP error `embedded` is set and the
/// tuple stays the outer packet's; the embedded tuple is read on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// IP source.
    pub src: Addr,
    /// IP destination.
    pub dst: Addr,
    /// Ethernet source.
    pub eth_src: Mac,
    /// Ethernet destination.
    pub eth_dst: Mac,
    /// Transport source port, or the ICMP identifier; 0 where there is none.
    pub src_port: u16,
    /// Transport destination port, or the ICMP identifier; 0 where there is none.
    pub dst_port: u16,
    /// 802.1Q VLAN id (12 bits) if the frame carries a tag, else 0 (IEEE 802.1Q
    /// section 9.6 calls 0 "priority tagged", which is treated as untagged).
    pub vlan: u16,
    /// Offset of the IP header, 14 or 18.
    pub l3_off: u16,
    /// Offset of the transport header, past IPv6 extension headers.
    pub l4_off: u16,
    /// Offset just past the last byte of the IP packet: Ethernet padding is beyond it.
    pub l3_end: u16,
    /// The protocol of the transport header, [`proto`].
    pub protocol: u8,
    /// TCP flags, [`tcp_flag`]; 0 if not TCP.
    pub tcp_flags: u8,
    /// ICMP or ICMPv6 type; 0 if neither.
    pub icmp_type: u8,
    /// IPv4 TOS or IPv6 traffic class.
    pub tos: u8,
    /// What kind of frame.
    pub kind: FrameKind,
    /// Neighbour discovery, if that is what it is.
    pub nd: NdKind,
    /// Fragment position.
    pub frag: FragKind,
    /// IPv4 DF bit; always set for IPv6.
    pub dont_fragment: bool,
    /// An ICMP or ICMPv6 error message: it carries the packet it complains of.
    pub icmp_error: bool,
}

const _: () = assert!(size_of::<Meta>() <= 80);

impl Meta {
    /// Length in bytes of the IP header with its options or extension headers.
    #[must_use]
    pub const fn l3_header_len(&self) -> usize {
        (self.l4_off - self.l3_off) as usize
    }

    /// Length of the IP packet in bytes.
    #[must_use]
    pub const fn l3_len(&self) -> usize {
        (self.l3_end - self.l3_off) as usize
    }
}
