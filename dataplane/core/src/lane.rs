//! Which lane a packet goes by.
//!
//! Between two nodes there are as many child SAs a direction as the one with more lanes has,
//! and all packets of a flow go by the same one: so each has its packets in order, and one
//! core that numbers them. The hash is the one that network cards steer by, so that a card
//! can bring a flow to the core that has its SA.

use crate::addr::Addr;
use crate::flow::key::Tuple;
use crate::meta::{FragKind, Meta, proto};

/// The key of the hash, over and over: with a period of sixteen bits both directions of a flow
/// hash alike, as source and destination stand a multiple of sixteen bits apart (Woo and Park,
/// "Scalable TCP Session Monitoring with Symmetric Receive-side Scaling", 2012).
pub const KEY: u16 = 0x6d5a;

/// The low 16 bits of the Toeplitz hash of the packet's addresses, and of its ports if it is
/// whole and has any (Microsoft, "Verifying the RSS Hash Calculation"; what DPDK calls
/// `RTE_ETH_RSS_IP` and `RTE_ETH_RSS_TCP`, `UDP` and `SCTP`). Fragments go by their addresses
/// alone: only the first has ports.
#[inline]
#[must_use]
pub fn lane_hash(meta: &Meta) -> u16 {
    let has_ports = matches!(meta.protocol, proto::TCP | proto::UDP | proto::SCTP);
    let ports = if has_ports && meta.frag == FragKind::Whole {
        meta.src_port ^ meta.dst_port
    } else {
        0
    };
    toeplitz(fold(meta.src) ^ fold(meta.dst) ^ ports)
}

/// The hash of a flow: what [`lane_hash`] is of its whole packets, either way.
#[inline]
#[must_use]
pub fn flow_hash(tuple: &Tuple) -> u16 {
    let has_ports = matches!(tuple.protocol, proto::TCP | proto::UDP | proto::SCTP);
    let ports = if has_ports {
        tuple.src_port ^ tuple.dst_port
    } else {
        0
    };
    toeplitz(fold(tuple.src) ^ fold(tuple.dst) ^ ports)
}

/// The sum, in the field's sense, of an address's words of sixteen bits.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "halves are added to halves"
)]
fn fold(addr: Addr) -> u16 {
    let bits = if addr.is_v4() {
        u128::from(addr.0 as u32)
    } else {
        addr.0
    };
    let bits = (bits ^ bits >> 64) as u64;
    let bits = (bits ^ bits >> 32) as u32;
    (bits ^ bits >> 16) as u16
}

/// The hash of sixteen bits of input. The key's window for an input bit is the key turned by
/// the bit's place, whatever word the bit is in: words can be added before they are hashed.
#[inline]
fn toeplitz(word: u16) -> u16 {
    let [front, back] = word.to_be_bytes().map(|it| BYTES.get(usize::from(it)));
    let (front, back) = (front.copied().unwrap_or(0), back.copied().unwrap_or(0));
    front ^ back.rotate_left(u8::BITS)
}

/// The hash of each byte that stands in front of a zero one.
static BYTES: [u16; 256] = {
    let mut all = [0; 256];
    let mut byte = 0;
    while byte < all.len() {
        let mut bit = 0;
        while bit < u8::BITS {
            // Counted from the front.
            if byte >> (u8::BITS - 1 - bit) & 1 == 1 {
                all[byte] ^= KEY.rotate_left(bit);
            }
            bit += 1;
        }
        byte += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The hash as RSS describes it: for each bit of the input that is set, the 32 bits of the
    /// key from that bit on.
    fn rss(key: &[u8], input: &[u8]) -> u32 {
        let window = |from: usize| {
            (0..32).fold(0u32, |all, bit| {
                let at = from + bit;
                all << 1 | u32::from(key[at / 8] >> (7 - at % 8) & 1)
            })
        };
        let bits = (0..input.len() * 8).filter(|at| input[at / 8] >> (7 - at % 8) & 1 == 1);
        bits.map(window).fold(0, |hash, it| hash ^ it)
    }

    fn input(src: &[u8], dst: &[u8], ports: Option<[u16; 2]>) -> Vec<u8> {
        let ports = ports.into_iter().flatten().flat_map(u16::to_be_bytes);
        [src, dst].concat().into_iter().chain(ports).collect()
    }

    /// "Verifying the RSS Hash Calculation", the first line of its tables, with its key.
    #[test]
    fn the_reference_gives_the_hashes_of_the_specification() {
        let key: Vec<u8> =
            ["6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"]
                .concat()
                .as_bytes()
                .chunks(2)
                .map(|it| u8::from_str_radix(std::str::from_utf8(it).unwrap(), 16).unwrap())
                .collect();
        let (src, dst) = ([66, 9, 149, 187], [161, 142, 100, 80]);
        assert_eq!(rss(&key, &input(&src, &dst, None)), 0x323e_8fc2);
        assert_eq!(
            rss(&key, &input(&src, &dst, Some([2794, 1766]))),
            0x51cc_c178
        );
    }

    fn meta(src: Addr, dst: Addr, protocol: u8, [src_port, dst_port]: [u16; 2]) -> Meta {
        Meta {
            src,
            dst,
            protocol,
            src_port,
            dst_port,
            ..Meta::default()
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_card_with_this_key_computes(
            (src, dst) in any::<([u8; 16], [u8; 16])>(),
            ports in any::<[u16; 2]>(),
            v4 in any::<bool>(),
            protocol in prop::sample::select(vec![proto::TCP, proto::UDP, proto::SCTP, proto::ICMP]),
        ) {
            let key: Vec<u8> = KEY.to_be_bytes().into_iter().cycle().take(52).collect();
            let len = if v4 { 4 } else { 16 };
            let of = |it: [u8; 16]| match v4 {
                true => Addr::v4([it[0], it[1], it[2], it[3]]),
                false => Addr::v6(it),
            };
            let has_ports = protocol != proto::ICMP;
            let want = rss(&key, &input(&src[..len], &dst[..len], has_ports.then_some(ports)));
            let hash = lane_hash(&meta(of(src), of(dst), protocol, ports));
            prop_assert_eq!(u32::from(hash), want & 0xffff);
            let back = meta(of(dst), of(src), protocol, [ports[1], ports[0]]);
            prop_assert_eq!(lane_hash(&back), hash, "the other direction");
        }
    }

    #[test]
    fn fragments_go_by_their_addresses() {
        let of = |frag, ports| Meta {
            frag,
            ..meta(
                Addr::v4([10, 0, 0, 1]),
                Addr::v4([10, 0, 0, 2]),
                proto::UDP,
                ports,
            )
        };
        let first = lane_hash(&of(FragKind::First, [4000, 53]));
        assert_eq!(first, lane_hash(&of(FragKind::Later, [0, 0])));
        assert_ne!(first, lane_hash(&of(FragKind::Whole, [4000, 53])));
    }

    /// How many of `flows` each child gets where there are `lanes` of them; no child has a
    /// quarter more or less than its share.
    fn spread_evenly(flows: &[Meta], lanes: u16) {
        let mut counts = vec![0u32; usize::from(lanes)];
        for flow in flows {
            counts[usize::from(lane_hash(flow) % lanes)] += 1;
        }
        let fair = u32::try_from(flows.len()).unwrap() / u32::from(lanes);
        let even = fair - fair / 4..=fair + fair / 4;
        assert!(counts.iter().all(|it| even.contains(it)), "{counts:?}");
    }

    /// Connections of one pair of pods, whose client counts its ports up as Linux does in
    /// steps of two.
    #[test]
    fn many_flows_of_one_pair_spread_evenly() {
        let v4 = [Addr::v4([10, 0, 1, 7]), Addr::v4([10, 0, 2, 9])];
        let v6 = [7, 9].map(|n| Addr((0xfd00_0010_0244_0001 << 64) + n));
        for [src, dst] in [v4, v6] {
            let ports = (32_768u16..61_000).step_by(2).take(8192);
            let flows = ports.map(|port| meta(src, dst, proto::TCP, [port, 443]));
            let flows: Vec<_> = flows.collect();
            for lanes in [2, 3, 4, 15, 16, 32] {
                spread_evenly(&flows, lanes);
            }
        }
    }

    /// A hundred clients of as many servers, one connection each.
    #[test]
    fn many_pairs_spread_evenly() {
        let pairs = (0..100u8).flat_map(|a| (0..100u8).map(move |b| (a, b)));
        let flows = pairs.map(|(a, b)| {
            let port = 32_768 + 2 * (u16::from(a) * 101 + u16::from(b));
            let [src, dst] = [Addr::v4([10, 0, 1, a]), Addr::v4([10, 0, 2, b])];
            meta(src, dst, proto::UDP, [port, 53])
        });
        let flows: Vec<_> = flows.collect();
        for lanes in [2, 3, 4, 15, 16, 32] {
            spread_evenly(&flows, lanes);
        }
    }
}
