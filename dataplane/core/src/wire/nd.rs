//! Neighbour solicitations and advertisements (RFC 4861 sections 4.3 and 4.4).
//!
//! ```text
//! 0      1      2          4               8                 24     25     26
//! +------+------+----------+---------------+-----------------+------+------+-----------+
//! | 135  | code | checksum | 0             | target          | 1    | 1    | MAC       |
//! | 136  |      |          | R S O 0...    |                 | 2    | 1    |           |
//! +------+------+----------+---------------+-----------------+------+------+-----------+
//! ```

use crate::addr::{Addr, Mac};
use crate::meta::{Meta, NdKind, proto};
use crate::port::Frame;
use crate::reason::DropReason;
use crate::wire::bytes::{array, put};
use crate::wire::ethernet::{self, ETHERTYPE_IPV6, HEADER_LEN};
use crate::wire::{checksum, icmp};

/// Options walked in one message, at most; more make it malformed.
pub const OPTIONS_MAX: usize = 8;
/// Longest frame that [`write_solicit`] writes.
pub const SOLICIT_FRAME_LEN: usize = HEADER_LEN + MESSAGE_END;

const IPV6_LEN: usize = 40;
/// Length of either message without options.
const MESSAGE_LEN: usize = 24;
/// Length of a link-layer address option.
const OPTION_LEN: usize = 8;
/// Length of an IPv6 packet of a message with one link-layer address option.
const MESSAGE_END: usize = IPV6_LEN + MESSAGE_LEN + OPTION_LEN;

const HOP_LIMIT: u8 = 255;
const TYPE_SOLICIT: u8 = 135;
const TYPE_ADVERT: u8 = 136;
const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;
const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// A valid solicitation or advertisement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nd {
    /// [`NdKind::NeighborSolicit`] or [`NdKind::NeighborAdvert`].
    pub kind: NdKind,
    /// The address asked for or announced; never multicast.
    pub target: Addr,
    /// The source (solicitation) or target (advertisement) link-layer address option.
    pub link_layer: Option<Mac>,
    /// The solicited flag of an advertisement.
    pub solicited: bool,
    /// The override flag of an advertisement.
    pub overrides: bool,
    /// The source is unspecified: a solicitation that asks whether an address is taken
    /// (RFC 4862 section 5.4.2).
    pub is_probe: bool,
}

impl Nd {
    /// The message of a frame that parsed as a neighbour solicitation or advertisement,
    /// with every check of RFC 4861 sections 7.1.1 and 7.1.2 made.
    ///
    /// # Errors
    /// [`DropReason::Truncated`], [`DropReason::Malformed`] (also for other frames) or
    /// [`DropReason::BadChecksum`].
    pub fn read(frame: &[u8], meta: &Meta) -> Result<Self, DropReason> {
        if !matches!(meta.nd, NdKind::NeighborSolicit | NdKind::NeighborAdvert) {
            return Err(DropReason::Malformed);
        }
        let solicit = meta.nd == NdKind::NeighborSolicit;
        let message = frame
            .get(usize::from(meta.l4_off)..usize::from(meta.l3_end))
            .ok_or(DropReason::Truncated)?;
        let (fixed, options) = message
            .split_first_chunk::<MESSAGE_LEN>()
            .ok_or(DropReason::Truncated)?;
        //= RFC 4861 section 7.1.1: "The IP Hop Limit field has a value of 255, i.e., the
        //= packet could not possibly have been forwarded by a router."
        let hop_limit = frame.get(usize::from(meta.l3_off) + 7).copied();
        if hop_limit != Some(HOP_LIMIT) || fixed[1] != 0 {
            return Err(DropReason::Malformed);
        }
        if !icmp::checksum_verifies(frame, meta) {
            return Err(DropReason::BadChecksum);
        }
        let wanted = if solicit {
            OPTION_SOURCE_LINK_LAYER
        } else {
            OPTION_TARGET_LINK_LAYER
        };
        let link_layer = link_layer_option(options, wanted)?;
        let target = array(fixed, 8).map(Addr::v6).ok_or(DropReason::Truncated)?;
        let nd = Self {
            kind: meta.nd,
            target,
            link_layer,
            solicited: !solicit && fixed[4] & FLAG_SOLICITED != 0,
            overrides: !solicit && fixed[4] & FLAG_OVERRIDE != 0,
            is_probe: solicit && meta.src == Addr::UNSPECIFIED,
        };
        if nd.is_consistent(meta) {
            Ok(nd)
        } else {
            Err(DropReason::Malformed)
        }
    }

    //= RFC 4861 section 7.1.1: "If the IP source address is the unspecified address, the IP
    //= destination address is a solicited-node multicast address" and "there is no source
    //= link-layer address option in the message"
    //= RFC 4861 section 7.1.2: "If the IP Destination Address is a multicast address the
    //= Solicited flag is zero"
    fn is_consistent(&self, meta: &Meta) -> bool {
        let probe_ok = !self.is_probe || (self.link_layer.is_none() && is_solicited_node(meta.dst));
        let advert_ok = !self.solicited || !is_multicast(meta.dst);
        !is_multicast(self.target)
            && !self.target.is_v4()
            && !self.link_layer.is_some_and(Mac::is_group)
            && probe_ok
            && advert_ok
    }
}

/// The MAC in the last option of type `wanted`, every option checked to nest.
fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, DropReason> {
    let mut link_layer = None;
    for _ in 0..OPTIONS_MAX {
        let [kind, units, ..] = *options else { break };
        //= RFC 4861 section 4.6: "Nodes MUST silently discard an ND packet that contains an
        //= option with length zero."
        let (option, rest) = options
            .split_at_checked(usize::from(units) * 8)
            .ok_or(DropReason::Malformed)?;
        if units == 0 {
            return Err(DropReason::Malformed);
        }
        if kind == wanted {
            let &[_, _, a, b, c, d, e, f] = option else {
                return Err(DropReason::Malformed);
            };
            link_layer = Some(Mac([a, b, c, d, e, f]));
        }
        options = rest;
    }
    if options.is_empty() {
        Ok(link_layer)
    } else {
        Err(DropReason::Malformed)
    }
}

/// Turns a solicitation into the solicited advertisement that its target is at `mac`,
/// sent to who asked; `nd` is what [`Nd::read`] made of it. Any VLAN tag stays, and
/// `meta` no longer describes the frame afterwards.
///
/// `false`, and no change, for another message, for a probe (its answer would say the
/// address is taken), or if the frame can't grow.
///
/// The override flag is set, though RFC 4861 section 7.2.8 would have a proxy clear it:
/// on a pod's link nobody but the router may answer, so there is no better answer to
/// give way to, and a stale entry should go at once.
#[must_use]
pub fn advertise_in_place(
    frame: &mut impl Frame,
    meta: &Meta,
    nd: &Nd,
    mac: Mac,
    is_router: bool,
) -> bool {
    let l3_off = usize::from(meta.l3_off);
    let to_mac = nd.link_layer.unwrap_or(meta.eth_src);
    if nd.kind != NdKind::NeighborSolicit
        || meta.nd != NdKind::NeighborSolicit
        || nd.is_probe
        || to_mac.is_group()
        || is_multicast(nd.target)
    {
        return false;
    }
    let len = l3_off + MESSAGE_END;
    let missing = len.saturating_sub(frame.bytes().len());
    if missing > 0 && !frame.grow_back(missing) {
        return false;
    }
    frame.truncate(len);
    let bytes = frame.bytes_mut();
    let router = if is_router { FLAG_ROUTER } else { 0 };
    let advert = Message {
        kind: TYPE_ADVERT,
        flags: router | FLAG_SOLICITED | FLAG_OVERRIDE,
        src: nd.target,
        dst: meta.src,
        target: nd.target,
        link_layer: Some((OPTION_TARGET_LINK_LAYER, mac)),
    };
    ethernet::rewrite(bytes, mac, to_mac)
        && bytes
            .get_mut(l3_off..)
            .and_then(|packet| advert.write(packet))
            .is_some()
}

/// Writes the untagged frame by which `src_mac` at `src_ip` asks the solicited-node group
/// of `target` for it to the front of `buf`, and returns its length:
/// [`SOLICIT_FRAME_LEN`], or 8 less without the link-layer option, if `src_ip` is
/// unspecified and this is a probe. `None`, and no change, if `buf` is shorter than
/// [`SOLICIT_FRAME_LEN`], `target` is multicast, or an address is IPv4.
#[must_use]
pub fn write_solicit(buf: &mut [u8], src_mac: Mac, src_ip: Addr, target: Addr) -> Option<usize> {
    if src_ip.is_v4() || target.is_v4() || is_multicast(target) || buf.len() < SOLICIT_FRAME_LEN {
        return None;
    }
    let is_probe = src_ip == Addr::UNSPECIFIED;
    let len = SOLICIT_FRAME_LEN - if is_probe { OPTION_LEN } else { 0 };
    let dst = solicited_node(target);
    let frame = buf.get_mut(..len)?;
    if !ethernet::write(
        frame,
        src_mac,
        ethernet::multicast_v6(dst.to_v6()),
        ETHERTYPE_IPV6,
    ) {
        return None;
    }
    let solicit = Message {
        kind: TYPE_SOLICIT,
        flags: 0,
        src: src_ip,
        dst,
        target,
        link_layer: (!is_probe).then_some((OPTION_SOURCE_LINK_LAYER, src_mac)),
    };
    solicit.write(frame.get_mut(HEADER_LEN..)?)?;
    Some(len)
}

/// The group that a node with the address `target` listens to.
//= RFC 4291 section 2.7.1: "taking the low-order 24 bits of an address (unicast or
//= anycast) and appending those bits to the prefix FF02:0:0:0:0:1:FF00::/104"
#[must_use]
pub const fn solicited_node(target: Addr) -> Addr {
    Addr(SOLICITED_NODE_PREFIX | target.0 & 0xff_ffff)
}

const SOLICITED_NODE_PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;

fn is_solicited_node(addr: Addr) -> bool {
    addr.0 >> 24 == SOLICITED_NODE_PREFIX >> 24
}

fn is_multicast(addr: Addr) -> bool {
    addr.0 >> 120 == 0xff
}

/// A message to write.
struct Message {
    kind: u8,
    flags: u8,
    src: Addr,
    dst: Addr,
    target: Addr,
    link_layer: Option<(u8, Mac)>,
}

impl Message {
    /// Writes the whole IPv6 packet, which `packet` must have the length of.
    fn write(&self, packet: &mut [u8]) -> Option<()> {
        let payload_len = u16::try_from(packet.len().checked_sub(IPV6_LEN)?).ok()?;
        let [hi, lo] = payload_len.to_be_bytes();
        put(packet, 0, [0x60, 0, 0, 0, hi, lo, proto::ICMPV6, HOP_LIMIT])?;
        put(packet, 8, self.src.to_v6())?;
        put(packet, 24, self.dst.to_v6())?;
        put(packet, IPV6_LEN, [self.kind, 0, 0, 0, self.flags, 0, 0, 0])?;
        put(packet, IPV6_LEN + 8, self.target.to_v6())?;
        if let Some((kind, mac)) = self.link_layer {
            put(packet, IPV6_LEN + MESSAGE_LEN, [kind, 1])?;
            put(packet, IPV6_LEN + MESSAGE_LEN + 2, mac.0)?;
        }
        let sum = checksum::pseudo_v6(
            self.src.to_v6(),
            self.dst.to_v6(),
            proto::ICMPV6,
            u32::from(payload_len),
        );
        let sum = sum.bytes(packet.get(IPV6_LEN..)?).checksum();
        put(packet, IPV6_LEN + 2, sum.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;
    use crate::wire::test_frame::TestFrame;

    const POD: Mac = Mac([2, 0, 0, 0, 0, 0x10]);
    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn ip(text: &str) -> Addr {
        text.parse::<core::net::IpAddr>().unwrap().into()
    }

    fn solicit(src: &str, target: &str) -> Vec<u8> {
        let mut frame = vec![0xa5; SOLICIT_FRAME_LEN];
        let len = write_solicit(&mut frame, POD, ip(src), ip(target)).unwrap();
        frame.truncate(len);
        frame
    }

    fn read(frame: &[u8]) -> Result<Nd, DropReason> {
        Nd::read(frame, &parse(frame).unwrap())
    }

    /// Sets payload length and checksum to what the rest of the frame makes them.
    fn fix(frame: &mut [u8]) {
        let len = u16::try_from(frame.len() - 54).unwrap();
        frame[18..20].copy_from_slice(&len.to_be_bytes());
        frame[56..58].fill(0);
        let sum = checksum::Sum::new()
            .bytes(&frame[22..54])
            .word(len)
            .word(58);
        let sum = sum.bytes(&frame[54..]).checksum();
        frame[56..58].copy_from_slice(&sum.to_be_bytes());
    }

    #[test]
    fn a_solicitation_goes_to_the_solicited_node_group_and_reads_back() {
        let frame = solicit("fd00::10", "fd00::ab:cdef");
        let meta = parse(&frame).unwrap();
        assert_eq!(meta.eth_dst, Mac([0x33, 0x33, 0xff, 0xab, 0xcd, 0xef]));
        assert_eq!(
            (meta.dst, meta.nd),
            (ip("ff02::1:ffab:cdef"), NdKind::NeighborSolicit)
        );
        let nd = read(&frame).unwrap();
        assert_eq!((nd.target, nd.link_layer), (ip("fd00::ab:cdef"), Some(POD)));
        assert!(!nd.is_probe && !nd.solicited && !nd.overrides);
    }

    #[test]
    fn a_solicitation_becomes_the_advertisement_whatever_its_length_and_tag() {
        let plain = solicit("fd00::10", "fd00::1");
        let mut without_option = plain[..78].to_vec();
        fix(&mut without_option);
        let mut with_nonce = plain.clone();
        with_nonce.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        fix(&mut with_nonce);
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0, 7]);
        let mut padded = plain.clone();
        padded.resize(100, 0xee);
        for frame in [plain, without_option, with_nonce, tagged, padded] {
            let asked = parse(&frame).unwrap();
            let nd = read(&frame).unwrap();
            let mut frame = TestFrame::new(&frame);
            assert!(advertise_in_place(&mut frame, &asked, &nd, ROUTER, true));
            let meta = parse(frame.bytes()).unwrap();
            assert_eq!(
                (meta.eth_src, meta.eth_dst, meta.vlan),
                (ROUTER, POD, asked.vlan)
            );
            assert_eq!((meta.src, meta.dst), (ip("fd00::1"), ip("fd00::10")));
            assert_eq!(usize::from(meta.l3_end), frame.bytes().len());
            let advert = Nd::read(frame.bytes(), &meta).unwrap();
            let expected = Nd {
                kind: NdKind::NeighborAdvert,
                target: ip("fd00::1"),
                link_layer: Some(ROUTER),
                solicited: true,
                overrides: true,
                is_probe: false,
            };
            assert_eq!(advert, expected);
            assert_eq!(frame.bytes()[usize::from(meta.l4_off) + 4], 0xe0);
            // An advertisement is not answered.
            assert!(!advertise_in_place(
                &mut frame, &meta, &advert, ROUTER, true
            ));
        }
    }

    #[test]
    fn a_probe_is_recognised_and_not_answered() {
        let probe = solicit("::", "fd00::10");
        let meta = parse(&probe).unwrap();
        let nd = read(&probe).unwrap();
        assert!(nd.is_probe && nd.link_layer.is_none());
        let mut frame = TestFrame::new(&probe);
        assert!(!advertise_in_place(&mut frame, &meta, &nd, ROUTER, true));
        assert_eq!(frame.bytes(), probe);
    }

    #[test]
    fn without_room_to_grow_the_frame_stays_as_it_was() {
        let mut bytes = solicit("fd00::10", "fd00::1")[..78].to_vec();
        fix(&mut bytes);
        let mut frame = TestFrame::with_room(&bytes, 0, 7);
        let (meta, nd) = (parse(&bytes).unwrap(), read(&bytes).unwrap());
        assert!(!advertise_in_place(&mut frame, &meta, &nd, ROUTER, true));
        assert_eq!(frame.bytes(), bytes);
    }

    #[test]
    fn each_check_of_rfc_4861_section_7_1_1_is_made() {
        let good = solicit("fd00::10", "fd00::1");
        let broken = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut frame = good.clone();
            change(&mut frame);
            fix(&mut frame);
            read(&frame).err()
        };
        let malformed = Some(DropReason::Malformed);
        assert_eq!(broken(&|_| {}), None);
        assert_eq!(broken(&|f| f[21] = 254), malformed, "hop limit");
        assert_eq!(broken(&|f| f[55] = 1), malformed, "code");
        assert_eq!(broken(&|f| f[62] = 0xff), malformed, "multicast target");
        assert_eq!(broken(&|f| f[79] = 0), malformed, "option of length zero");
        assert_eq!(broken(&|f| f[79] = 2), malformed, "option past the end");
        assert_eq!(
            broken(&|f| f[80] |= 1),
            malformed,
            "group link-layer address"
        );
        assert_eq!(broken(&|f| f.truncate(79)), malformed, "half an option");
        assert_eq!(broken(&|f| f.truncate(77)), Some(DropReason::Truncated));
        assert_eq!(
            broken(&|f| f[22..38].fill(0)),
            malformed,
            "probe with an option"
        );
        assert_eq!(
            broken(&|f| (0..OPTIONS_MAX).for_each(|_| f.extend([9, 1, 0, 0, 0, 0, 0, 0]))),
            malformed,
            "too many options"
        );
        let mut bad_sum = good.clone();
        bad_sum[57] ^= 1;
        assert_eq!(read(&bad_sum).err(), Some(DropReason::BadChecksum));
        let mut probe = solicit("::", "fd00::1");
        probe[38..54].copy_from_slice(&ip("ff02::1").to_v6());
        fix(&mut probe);
        assert_eq!(read(&probe).err(), malformed, "probe to all nodes");
    }

    #[test]
    fn an_advertisement_to_a_group_must_not_claim_to_be_solicited() {
        let mut frame = solicit("fd00::10", "fd00::1");
        (frame[54], frame[78]) = (TYPE_ADVERT, OPTION_TARGET_LINK_LAYER);
        fix(&mut frame);
        assert_eq!(read(&frame).unwrap().link_layer, Some(POD));
        frame[58] = FLAG_SOLICITED;
        fix(&mut frame);
        assert_eq!(read(&frame).err(), Some(DropReason::Malformed));
    }

    #[test]
    fn a_short_buffer_or_a_wrong_address_writes_nothing() {
        let mut buf = [7; SOLICIT_FRAME_LEN];
        let (a, b) = (ip("fd00::1"), ip("fd00::2"));
        assert_eq!(
            write_solicit(&mut buf[..SOLICIT_FRAME_LEN - 1], POD, a, b),
            None
        );
        assert_eq!(write_solicit(&mut buf, POD, ip("10.0.0.1"), b), None);
        assert_eq!(write_solicit(&mut buf, POD, a, ip("10.0.0.1")), None);
        assert_eq!(write_solicit(&mut buf, POD, a, ip("ff02::1")), None);
        assert_eq!(buf, [7; SOLICIT_FRAME_LEN]);
    }
}
