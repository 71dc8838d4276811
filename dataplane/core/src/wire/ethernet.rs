//! The Ethernet header (IEEE 802.3 section 3.1.1, IEEE 802.1Q section 9.6).
//!
//! ```text
//! 0        6        12      14                 12      14      16      18
//! +--------+--------+-------+---- ...   or     +-------+-------+-------+---- ...
//! | dst    | src    | type  | payload          | 8100  | TCI   | type  | payload
//! +--------+--------+-------+---- ...          +-------+-------+-------+---- ...
//! ```

use crate::addr::Mac;
use crate::wire::bytes::{array, put};

/// Length of the untagged header.
pub const HEADER_LEN: usize = 14;
/// Length an 802.1Q tag adds.
pub const VLAN_TAG_LEN: usize = 4;
/// Shortest frame, without its check sequence; ports pad up to it.
pub const FRAME_LEN_MIN: usize = 60;

/// IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// An 802.1Q customer tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// An 802.1ad service tag.
pub const ETHERTYPE_QINQ: u16 = 0x88a8;
/// The service tag in use before 802.1ad.
pub const ETHERTYPE_QINQ_OLD: u16 = 0x9100;

/// The destination of `frame`.
#[must_use]
pub fn dst(frame: &[u8]) -> Option<Mac> {
    array(frame, 0).map(Mac)
}

/// The source of `frame`.
#[must_use]
pub fn src(frame: &[u8]) -> Option<Mac> {
    array(frame, 6).map(Mac)
}

/// Sets both addresses and leaves tag and ethertype; `false`, and no change, if `frame`
/// is too short.
#[must_use]
pub fn rewrite(frame: &mut [u8], src: Mac, dst: Mac) -> bool {
    frame.len() >= HEADER_LEN && put(frame, 0, dst.0).is_some() && put(frame, 6, src.0).is_some()
}

/// Writes an untagged header; `false`, and no change, if `frame` is too short.
#[must_use]
pub fn write(frame: &mut [u8], src: Mac, dst: Mac, ethertype: u16) -> bool {
    rewrite(frame, src, dst) && put(frame, 12, ethertype.to_be_bytes()).is_some()
}

/// The MAC an IPv6 multicast address is sent to.
//= RFC 2464 section 7: "the Ethernet multicast address whose first two octets are the value
//= 3333 hexadecimal and whose last four octets are the last four octets of DST"
#[must_use]
pub const fn multicast_v6(ip: [u8; 16]) -> Mac {
    let [.., a, b, c, d] = ip;
    Mac([0x33, 0x33, a, b, c, d])
}

/// Length in bytes of the header with or without a VLAN tag; `vlan` 0 means none.
#[must_use]
pub const fn header_len(vlan: u16) -> usize {
    if vlan == 0 {
        HEADER_LEN
    } else {
        HEADER_LEN + VLAN_TAG_LEN
    }
}

/// Writes a header with a tag for `vlan`, or without one if that is 0; `false`, and no
/// change, if `frame` is too short.
#[must_use]
pub fn write_tagged(frame: &mut [u8], src: Mac, dst: Mac, vlan: u16, ethertype: u16) -> bool {
    if vlan == 0 {
        return write(frame, src, dst, ethertype);
    }
    frame.len() >= header_len(vlan)
        && write(frame, src, dst, ETHERTYPE_VLAN)
        && put(frame, 14, vlan.to_be_bytes()).is_some()
        && put(frame, 16, ethertype.to_be_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_written_header_reads_back() {
        let mut frame = [0; 14];
        assert!(write(&mut frame, A, B, ETHERTYPE_IPV6));
        assert_eq!((src(&frame), dst(&frame)), (Some(A), Some(B)));
        assert_eq!(frame[12..], [0x86, 0xdd]);
    }

    #[test]
    fn a_rewrite_leaves_the_ethertype() {
        let mut frame = [0x77; 20];
        assert!(rewrite(&mut frame, A, B));
        assert_eq!(frame[12..], [0x77; 8]);
    }

    #[test]
    fn a_frame_without_a_whole_header_is_left_alone() {
        let mut frame = [7; 13];
        assert!(!rewrite(&mut frame, A, B));
        assert!(!write(&mut frame, A, B, 0));
        assert_eq!(frame, [7; 13]);
    }

    #[test]
    fn all_nodes_maps_to_3333_00000001() {
        let mut ip = [0; 16];
        (ip[0], ip[1], ip[15]) = (0xff, 2, 1);
        assert_eq!(multicast_v6(ip), Mac([0x33, 0x33, 0, 0, 0, 1]));
    }
}
