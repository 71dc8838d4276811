//! The chain of IPv6 extension headers (RFC 8200 section 4), walked within bounds.

use crate::reason::DropReason;
use crate::wire::bytes::{array, be16, be32};

/// Extension headers in one packet, at most.
//= RFC 8504 section 5.3: a node may limit what of a chain it processes
pub const EXTENSIONS_MAX: usize = 8;
/// Bytes of all extension headers of one packet, at most.
pub const EXTENSION_BYTES_MAX: usize = 512;
/// Options other than padding in one options header, at most.
//= RFC 8504 section 5.3: "the default value SHOULD be set to 8"
pub const OPTIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

const OPTION_PAD1: u8 = 0x00;
const OPTION_PADN: u8 = 0x01;
const OPTION_JUMBO: u8 = 0xc2;
const OPTION_HOME_ADDRESS: u8 = 0xc9;

const FRAGMENT_LEN: usize = 8;

/// What stands at the end of the chain.
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Chain {
    /// The first header that isn't an extension; behind a later fragment's header
    /// whatever that one names.
    pub(in crate::wire) protocol: u8,
    /// Where that header starts.
    pub(in crate::wire) l4_off: usize,
    /// The fragment header, if there is one.
    pub(in crate::wire) fragment: Option<Fragment>,
}

impl Chain {
    /// The reason for a packet that ends inside its chain.
    //= RFC 7112 section 5: "it MUST include the entire IPv6 Header Chain in the First Fragment"
    fn cut_short(&self, reason: DropReason) -> DropReason {
        match self.fragment {
            Some(fragment) if fragment.more => DropReason::FragmentTiny,
            _ => reason,
        }
    }
}

/// The fields of a fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug)]
pub(in crate::wire) struct Fragment {
    /// Where its data belongs in the original's.
    pub(in crate::wire) offset_bytes: u16,
    /// Whether more fragments follow.
    pub(in crate::wire) more: bool,
    /// Where its data starts in the frame.
    pub(in crate::wire) data_off: usize,
    /// The datagram's identification.
    pub(in crate::wire) id: u32,
}

impl Fragment {
    /// Where the fragment's own header starts: what stands before it is in every fragment.
    pub(in crate::wire) const fn header_off(&self) -> usize {
        self.data_off - FRAGMENT_LEN
    }
}

/// Walks the chain that starts at `chain_off` with the header `next_header` names;
/// `frame` ends where the packet does.
///
/// AH, and whatever isn't known here, ends the chain as a protocol without ports.
///
/// # Errors
/// [`DropReason::Truncated`] if the packet ends inside a header, or if it is a first
/// fragment [`DropReason::FragmentTiny`]; [`DropReason::ExtensionHeaders`] past a bound or for a header that may not be there,
/// [`DropReason::Malformed`] if a header contradicts itself.
pub(in crate::wire) fn walk(
    frame: &[u8],
    chain_off: usize,
    next_header: u8,
) -> Result<Chain, DropReason> {
    let mut chain = Chain {
        protocol: next_header,
        l4_off: chain_off,
        fragment: None,
    };
    // One turn more than headers: the last one finds the transport header or gives up.
    for index in 0..=EXTENSIONS_MAX {
        let kind = chain.protocol;
        let len = match kind {
            //= RFC 8200 section 4.1: the Hop-by-Hop Options header "is restricted to appear
            //= immediately after an IPv6 header only"
            HOP_BY_HOP if index > 0 => return Err(DropReason::ExtensionHeaders),
            HOP_BY_HOP | DESTINATION_OPTIONS | ROUTING => {
                let header = variable(frame, chain.l4_off).map_err(|e| chain.cut_short(e))?;
                if kind == ROUTING {
                    routing(header)?
                } else {
                    options(header)?
                }
                header.len()
            }
            FRAGMENT if chain.fragment.is_some() => return Err(DropReason::ExtensionHeaders),
            FRAGMENT => {
                chain.fragment = Some(fragment(frame, chain.l4_off)?);
                FRAGMENT_LEN
            }
            _ => return Ok(chain),
        };
        let next_header = frame.get(chain.l4_off);
        chain.protocol = *next_header.ok_or(DropReason::Truncated)?;
        chain.l4_off += len;
        if chain.l4_off - chain_off > EXTENSION_BYTES_MAX {
            return Err(DropReason::ExtensionHeaders);
        }
        if chain.fragment.is_some_and(|f| f.offset_bytes != 0) {
            return Ok(chain);
        }
    }
    Err(DropReason::ExtensionHeaders)
}

/// The header at `at` that tells its own length, in units of 8 bytes past the first 8.
fn variable(frame: &[u8], at: usize) -> Result<&[u8], DropReason> {
    let [_, units] = array(frame, at).ok_or(DropReason::Truncated)?;
    let len = (usize::from(units) + 1) * 8;
    frame.get(at..at + len).ok_or(DropReason::Truncated)
}

/// Refuses routes that are still to be travelled: the destination in the IPv6 header
/// isn't where such a packet goes, so no policy could judge it. It is to IPv6 what the
/// refused source route options are to IPv4.
//= RFC 5095 section 3: a type 0 header is never executed
fn routing(header: &[u8]) -> Result<(), DropReason> {
    match *header {
        [_, _, kind, 0, ..] if kind != 0 => Ok(()),
        _ => Err(DropReason::ExtensionHeaders),
    }
}

/// Checks that options nest in their header and none changes what the packet is.
fn options(header: &[u8]) -> Result<(), DropReason> {
    let mut rest = header.get(2..).unwrap_or(&[]);
    let mut count = 0;
    // At most 2046 bytes, and each turn takes at least one.
    while let [kind, tail @ ..] = rest {
        rest = match *kind {
            OPTION_PAD1 => tail,
            OPTION_PADN => after_option(tail)?,
            // RFC 2675: no link here has an MTU that needs one.
            OPTION_JUMBO => return Err(DropReason::Malformed),
            // RFC 6275 section 6.3: it puts another address in the source's place, past
            // the guard.
            OPTION_HOME_ADDRESS => return Err(DropReason::ExtensionHeaders),
            _ => {
                count += 1;
                if count > OPTIONS_MAX {
                    return Err(DropReason::ExtensionHeaders);
                }
                after_option(tail)?
            }
        };
    }
    Ok(())
}

/// What follows an option whose length byte is the first of `tail`.
fn after_option(tail: &[u8]) -> Result<&[u8], DropReason> {
    let (len, data) = tail.split_first().ok_or(DropReason::Malformed)?;
    data.get(usize::from(*len)..).ok_or(DropReason::Malformed)
}

fn fragment(frame: &[u8], at: usize) -> Result<Fragment, DropReason> {
    let _whole: [u8; FRAGMENT_LEN] = array(frame, at).ok_or(DropReason::Truncated)?;
    let field = be16(frame, at + 2).ok_or(DropReason::Truncated)?;
    Ok(Fragment {
        offset_bytes: field & 0xfff8,
        more: field & 1 != 0,
        data_off: at + FRAGMENT_LEN,
        id: be32(frame, at + 4).ok_or(DropReason::Truncated)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{FragKind, Meta, NdKind, proto};
    use crate::wire::build::{Body, FrameSpec};
    use crate::wire::parse;

    const EMPTY_OPTIONS: [u8; 8] = [0, 0, 1, 4, 0, 0, 0, 0];

    /// Parses a UDP packet behind `headers`: each a type, and bytes whose first is
    /// overwritten by the type of what follows.
    fn behind(headers: &[(u8, &[u8])]) -> Result<Meta, DropReason> {
        chain(
            headers,
            Body::Udp {
                src_port: 1000,
                dst_port: 53,
            },
            8,
        )
    }

    fn chain(headers: &[(u8, &[u8])], body: Body, len: usize) -> Result<Meta, DropReason> {
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let spec = FrameSpec {
            payload: vec![0; len],
            ..FrameSpec::new(src, dst, body)
        };
        let mut frame = spec.build();
        let mut bytes = Vec::new();
        for (index, (_, header)) in headers.iter().enumerate() {
            let next = headers.get(index + 1).map_or(spec.protocol(), |h| h.0);
            bytes.push(next);
            bytes.extend(&header[1..]);
        }
        let payload_len = u16::try_from(frame.len() - 54 + bytes.len()).unwrap();
        frame[18..20].copy_from_slice(&payload_len.to_be_bytes());
        frame[20] = headers.first().map_or(spec.protocol(), |h| h.0);
        frame.splice(54..54, bytes);
        parse(&frame)
    }

    const fn fragment_header(word: u16) -> [u8; 8] {
        let [hi, lo] = word.to_be_bytes();
        [0, 0, hi, lo, 0, 0, 0, 9]
    }

    #[test]
    fn the_transport_header_is_found_behind_options_and_a_travelled_route() {
        let route: [u8; 24] = [
            0, 2, 4, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        ];
        let meta = behind(&[
            (HOP_BY_HOP, &EMPTY_OPTIONS),
            (DESTINATION_OPTIONS, &EMPTY_OPTIONS),
            (ROUTING, &route),
            (DESTINATION_OPTIONS, &EMPTY_OPTIONS),
        ])
        .unwrap();
        assert_eq!((meta.l3_off, meta.l4_off), (14, 54 + 8 + 8 + 24 + 8));
        assert_eq!(
            (meta.protocol, meta.src_port, meta.dst_port),
            (proto::UDP, 1000, 53)
        );
    }

    #[test]
    fn eight_headers_are_walked_and_nine_are_not() {
        let header: (u8, &[u8]) = (DESTINATION_OPTIONS, &EMPTY_OPTIONS);
        assert!(behind(&[header; EXTENSIONS_MAX]).is_ok());
        assert_eq!(
            behind(&[header; EXTENSIONS_MAX + 1]),
            Err(DropReason::ExtensionHeaders)
        );
    }

    #[test]
    fn more_bytes_than_the_bound_are_refused() {
        let mut padding = vec![0; EXTENSION_BYTES_MAX];
        padding[1] = u8::try_from(EXTENSION_BYTES_MAX / 8 - 1).unwrap();
        assert!(behind(&[(DESTINATION_OPTIONS, &padding)]).is_ok());
        padding.extend([0; 8]);
        padding[1] += 1;
        assert_eq!(
            behind(&[(DESTINATION_OPTIONS, &padding)]),
            Err(DropReason::ExtensionHeaders)
        );
    }

    #[test]
    fn a_header_out_of_place_is_refused() {
        let options: &[u8] = &EMPTY_OPTIONS;
        let atomic: &[u8] = &fragment_header(0);
        for headers in [
            [(DESTINATION_OPTIONS, options), (HOP_BY_HOP, options)],
            [(HOP_BY_HOP, options), (HOP_BY_HOP, options)],
            [(FRAGMENT, atomic), (FRAGMENT, atomic)],
        ] {
            assert_eq!(behind(&headers), Err(DropReason::ExtensionHeaders));
        }
    }

    #[test]
    fn a_route_still_to_travel_and_any_of_type_0_are_refused() {
        for route in [
            [0, 0, 0, 0, 0, 0, 0, 0],
            [0, 0, 0, 1, 0, 0, 0, 0],
            [0, 0, 4, 1, 0, 0, 0, 0],
        ] {
            assert_eq!(
                behind(&[(ROUTING, &route)]),
                Err(DropReason::ExtensionHeaders)
            );
        }
        assert!(behind(&[(ROUTING, &[0, 0, 2, 0, 0, 0, 0, 0])]).is_ok());
    }

    #[test]
    fn options_must_nest_and_be_few_and_change_nothing() {
        let with = |options: [u8; 14]| {
            let header: Vec<u8> = [0, 1].into_iter().chain(options).collect();
            behind(&[(HOP_BY_HOP, &header)])
        };
        let pad = [0; 9];
        let option = |a, b, c, d, e| {
            let mut bytes = [0; 14];
            bytes[..5].copy_from_slice(&[a, b, c, d, e]);
            bytes[5..].copy_from_slice(&pad);
            bytes
        };
        assert!(with(option(5, 2, 0, 0, 0)).is_ok(), "router alert");
        assert!(with(option(0x3e, 12, 0, 0, 0)).is_ok(), "to the last byte");
        assert_eq!(
            with(option(0x3e, 13, 0, 0, 0)),
            Err(DropReason::Malformed),
            "past the end"
        );
        assert_eq!(
            with([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]),
            Err(DropReason::Malformed)
        );
        assert_eq!(
            with(option(0xc2, 4, 0, 1, 0)),
            Err(DropReason::Malformed),
            "jumbo payload"
        );
        let home = with(option(0xc9, 12, 0, 0, 0));
        assert_eq!(home, Err(DropReason::ExtensionHeaders), "home address");
        let mut many = vec![0; 24];
        many[1] = 2;
        (0..=OPTIONS_MAX).for_each(|n| many[2 + 2 * n] = 0x3e);
        assert_eq!(
            behind(&[(HOP_BY_HOP, &many)]),
            Err(DropReason::ExtensionHeaders)
        );
        many[2] = OPTION_PADN;
        assert!(behind(&[(HOP_BY_HOP, &many)]).is_ok());
    }

    #[test]
    fn fragments_are_told_apart_and_an_atomic_one_is_whole() {
        let kind =
            |word| behind(&[(FRAGMENT, &fragment_header(word))]).map(|m| (m.frag, m.src_port));
        assert_eq!(kind(0), Ok((FragKind::Whole, 1000)));
        assert_eq!(kind(1), Ok((FragKind::First, 1000)));
        assert_eq!(kind(8), Ok((FragKind::Later, 0)));
        assert_eq!(kind(0xfff8), Err(DropReason::Malformed), "past 65535 bytes");
        let later = behind(&[(FRAGMENT, &fragment_header(9))]).unwrap();
        assert_eq!((later.l4_off, later.protocol), (62, proto::UDP));
    }

    #[test]
    fn headers_before_the_fragments_count_towards_the_longest_packet() {
        // The last of the 65,535 bytes: 7 from 65,528 on.
        let udp = Body::Other {
            protocol: proto::UDP,
        };
        let last: &[u8] = &fragment_header(0xfff8);
        let before: (u8, &[u8]) = (DESTINATION_OPTIONS, &EMPTY_OPTIONS);
        assert!(chain(&[(FRAGMENT, last)], udp, 7).is_ok());
        let behind = chain(&[before, (FRAGMENT, last)], udp, 7);
        assert_eq!(behind, Err(DropReason::Malformed));
        let earlier: &[u8] = &fragment_header(0xfff0);
        assert!(chain(&[before, (FRAGMENT, earlier)], udp, 7).is_ok());
        let longer = chain(&[before, (FRAGMENT, earlier)], udp, 8);
        assert_eq!(longer, Err(DropReason::Malformed));
    }

    #[test]
    fn a_later_fragment_ends_the_chain_whatever_it_names() {
        let header: &[u8] = &fragment_header(8);
        let meta = behind(&[(FRAGMENT, header), (DESTINATION_OPTIONS, &[0xff; 8])]).unwrap();
        assert_eq!(
            (meta.frag, meta.protocol),
            (FragKind::Later, DESTINATION_OPTIONS)
        );
    }

    #[test]
    fn a_first_fragment_must_hold_the_whole_chain() {
        let first: &[u8] = &fragment_header(1);
        let mut cut = EMPTY_OPTIONS;
        cut[1] = 9;
        assert_eq!(
            behind(&[(FRAGMENT, first), (DESTINATION_OPTIONS, &cut)]),
            Err(DropReason::FragmentTiny)
        );
        let atomic: &[u8] = &fragment_header(0);
        assert_eq!(
            behind(&[(FRAGMENT, atomic), (DESTINATION_OPTIONS, &cut)]),
            Err(DropReason::Truncated)
        );
        let tcp = Body::Other {
            protocol: proto::TCP,
        };
        assert_eq!(
            chain(&[(FRAGMENT, first)], tcp, 16),
            Err(DropReason::FragmentTiny)
        );
    }

    #[test]
    fn neighbour_discovery_in_a_fragment_is_refused_even_if_atomic() {
        let icmp = Body::Other {
            protocol: proto::ICMPV6,
        };
        // A payload of zeroes is an error message of type 0; the fragment itself is fine.
        assert!(chain(&[(FRAGMENT, &fragment_header(0))], icmp, 24).is_ok());
        let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        let mut spec = FrameSpec::new(src, dst, icmp);
        spec.payload = [vec![135], vec![0; 31]].concat();
        assert_eq!(parse(&spec.build()).unwrap().nd, NdKind::NeighborSolicit);
        let mut frame = spec.build();
        frame.splice(54..54, [58, 0, 0, 0, 0, 0, 0, 1]);
        (frame[19], frame[20]) = (40, FRAGMENT);
        assert_eq!(parse(&frame), Err(DropReason::Malformed));
    }

    #[test]
    fn ah_ends_the_chain_as_a_protocol_without_ports() {
        let meta = chain(&[], Body::Other { protocol: 51 }, 24).unwrap();
        assert_eq!((meta.protocol, meta.l4_off, meta.src_port), (51, 54, 0));
    }
}
