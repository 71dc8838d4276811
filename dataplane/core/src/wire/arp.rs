//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! ```text
//! 0      2      4     5     6     8            14          18           24          28
//! +------+------+-----+-----+-----+------------+-----------+------------+-----------+
//! | 0001 | 0800 | 06  | 04  | op  | sender MAC | sender IP | target MAC | target IP |
//! +------+------+-----+-----+-----+------------+-----------+------------+-----------+
//! ```

use crate::addr::{Addr, Mac};
use crate::meta::{FrameKind, Meta};
use crate::wire::bytes::{array, be16, put};
use crate::wire::ethernet::{self, ETHERTYPE_ARP, HEADER_LEN};

/// Length of the packet, without Ethernet header and padding.
pub const ARP_LEN: usize = 28;
/// Length of an untagged frame of it, without padding.
pub const FRAME_LEN: usize = HEADER_LEN + ARP_LEN;

/// A request's operation.
pub const OP_REQUEST: u16 = 1;
/// A reply's operation.
pub const OP_REPLY: u16 = 2;

/// Hardware type 1, protocol 0x0800, lengths 6 and 4: how every packet here starts.
pub(super) const FIXED_FIELDS: [u8; 6] = [0x00, 0x01, 0x08, 0x00, 6, 4];

/// What an ARP packet says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// [`OP_REQUEST`] or [`OP_REPLY`].
    pub op: u16,
    /// Who sends it, by MAC.
    pub sender_mac: Mac,
    /// Who sends it, by IP; unspecified in a probe.
    pub sender_ip: Addr,
    /// The MAC asked for, ignored in requests.
    pub target_mac: Mac,
    /// The IP asked for.
    pub target_ip: Addr,
}

impl Arp {
    /// The packet of a frame that parsed as [`FrameKind::Arp`].
    #[must_use]
    pub fn read(frame: &[u8], meta: &Meta) -> Option<Self> {
        if meta.kind != FrameKind::Arp {
            return None;
        }
        let packet: [u8; ARP_LEN] = array(frame, usize::from(meta.l3_off))?;
        Some(Self {
            op: be16(&packet, 6)?,
            sender_mac: Mac(array(&packet, 8)?),
            sender_ip: Addr::v4(array(&packet, 14)?),
            target_mac: Mac(array(&packet, 18)?),
            target_ip: Addr::v4(array(&packet, 24)?),
        })
    }

    /// Whether the sender asks if an address it means to take is free.
    //= RFC 5227 section 1.1: "an 'ARP Probe' is used to refer to an ARP Request packet,
    //= broadcast on the local link, with an all-zero 'sender IP address'"
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.op == OP_REQUEST && self.sender_ip == Addr::v4([0; 4])
    }

    /// Whether the sender asks for, or announces, its own address
    /// (RFC 5227 section 1.1: an ARP Announcement).
    #[must_use]
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}

/// Turns a request into the reply that its target IP is at `mac`, sent to who asked.
/// `false`, and no change, if it isn't a request. Whether the question deserves an
/// answer (see [`Arp::is_probe`]) is the caller's to know.
//= RFC 826: "Swap hardware and protocol fields, putting the local hardware and protocol
//= addresses in the sender fields. Set the ar$op field to ares_op$REPLY"
#[must_use]
pub fn reply_in_place(frame: &mut [u8], meta: &Meta, mac: Mac) -> bool {
    let Some(request) = Arp::read(frame, meta) else {
        return false;
    };
    if request.op != OP_REQUEST || request.sender_mac.is_group() {
        return false;
    }
    let reply = Arp {
        op: OP_REPLY,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
    };
    ethernet::rewrite(frame, mac, request.sender_mac)
        && write(frame, usize::from(meta.l3_off), &reply).is_some()
}

/// Writes the untagged broadcast frame by which `src_mac` at `src_ip` asks who has
/// `target_ip` to the front of `buf`, and returns its length, [`FRAME_LEN`]. `None`, and
/// no change, if `buf` is shorter or an address isn't IPv4.
#[must_use]
pub fn write_request(buf: &mut [u8], src_mac: Mac, src_ip: Addr, target_ip: Addr) -> Option<usize> {
    if !src_ip.is_v4() || !target_ip.is_v4() {
        return None;
    }
    let frame = buf.get_mut(..FRAME_LEN)?;
    let request = Arp {
        op: OP_REQUEST,
        sender_mac: src_mac,
        sender_ip: src_ip,
        target_mac: Mac::default(),
        target_ip,
    };
    if !ethernet::write(frame, src_mac, Mac::BROADCAST, ETHERTYPE_ARP) {
        return None;
    }
    write(frame, HEADER_LEN, &request)?;
    Some(FRAME_LEN)
}

fn write(frame: &mut [u8], at: usize, arp: &Arp) -> Option<()> {
    let packet: &mut [u8] = frame.get_mut(at..)?.get_mut(..ARP_LEN)?;
    put(packet, 0, FIXED_FIELDS)?;
    put(packet, 6, arp.op.to_be_bytes())?;
    put(packet, 8, arp.sender_mac.0)?;
    put(packet, 14, arp.sender_ip.to_v4())?;
    put(packet, 18, arp.target_mac.0)?;
    put(packet, 24, arp.target_ip.to_v4())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::DropReason;
    use crate::wire::parse;

    const POD: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const POD_IP: Addr = Addr::v4([10, 0, 0, 10]);
    const ASKED: Addr = Addr::v4([10, 0, 0, 1]);

    fn request() -> Vec<u8> {
        let mut frame = vec![0; FRAME_LEN];
        assert_eq!(
            write_request(&mut frame, POD, POD_IP, ASKED),
            Some(FRAME_LEN)
        );
        frame
    }

    #[test]
    fn a_written_request_parses_and_reads_back() {
        let frame = request();
        let meta = parse(&frame).unwrap();
        assert_eq!(
            (meta.kind, meta.eth_dst, meta.l3_end),
            (FrameKind::Arp, Mac::BROADCAST, 42)
        );
        let arp = Arp::read(&frame, &meta).unwrap();
        assert_eq!(
            (arp.op, arp.sender_mac, arp.sender_ip),
            (OP_REQUEST, POD, POD_IP)
        );
        assert_eq!((arp.target_mac, arp.target_ip), (Mac::default(), ASKED));
        assert!(!arp.is_probe() && !arp.is_announcement());
    }

    #[test]
    fn a_request_becomes_the_reply_that_the_asked_address_is_at_the_router() {
        let mut frame = request();
        // A tag in front moves the packet, and stays.
        frame.splice(12..12, [0x81, 0x00, 0x00, 0x64]);
        let meta = parse(&frame).unwrap();
        assert!(reply_in_place(&mut frame, &meta, ROUTER));
        let meta = parse(&frame).unwrap();
        assert_eq!((meta.eth_src, meta.eth_dst, meta.vlan), (ROUTER, POD, 100));
        let reply = Arp::read(&frame, &meta).unwrap();
        assert_eq!(
            (reply.op, reply.sender_mac, reply.sender_ip),
            (OP_REPLY, ROUTER, ASKED)
        );
        assert_eq!((reply.target_mac, reply.target_ip), (POD, POD_IP));
    }

    #[test]
    fn a_reply_is_not_answered() {
        let mut frame = request();
        frame[21] = 2;
        let meta = parse(&frame).unwrap();
        let before = frame.clone();
        assert!(!reply_in_place(&mut frame, &meta, ROUTER));
        assert_eq!(frame, before);
    }

    #[test]
    fn a_probe_and_an_announcement_are_told_from_a_question() {
        let mut frame = vec![0; FRAME_LEN];
        let probe = write_request(&mut frame, POD, Addr::v4([0; 4]), POD_IP);
        assert_eq!(probe, Some(FRAME_LEN));
        assert!(
            Arp::read(&frame, &parse(&frame).unwrap())
                .unwrap()
                .is_probe()
        );
        assert!(write_request(&mut frame, POD, POD_IP, POD_IP).is_some());
        assert!(
            Arp::read(&frame, &parse(&frame).unwrap())
                .unwrap()
                .is_announcement()
        );
    }

    #[test]
    fn a_field_that_is_not_ipv4_over_ethernet_is_malformed() {
        for at in [14, 15, 16, 17, 18, 19, 20, 21, 22] {
            let mut frame = request();
            frame[at] ^= 0x03;
            // 1 ^ 3 is a reply, the one other operation.
            let expected = if at == 21 {
                None
            } else {
                Some(DropReason::Malformed)
            };
            assert_eq!(parse(&frame).err(), expected, "byte {at}");
        }
        assert_eq!(parse(&request()[..41]).err(), Some(DropReason::Truncated));
    }

    #[test]
    fn a_short_buffer_or_an_ipv6_address_writes_nothing() {
        let mut buf = [7; FRAME_LEN - 1];
        assert_eq!(write_request(&mut buf, POD, POD_IP, ASKED), None);
        assert_eq!(buf, [7; FRAME_LEN - 1]);
        let mut buf = [7; FRAME_LEN];
        assert_eq!(write_request(&mut buf, POD, Addr::UNSPECIFIED, ASKED), None);
        assert_eq!(buf, [7; FRAME_LEN]);
    }
}
