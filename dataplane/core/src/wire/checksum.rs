//! The Internet checksum: whole (RFC 1071), incremental (RFC 1624), and the pseudo
//! headers of both families (RFC 9293 section 3.1, RFC 8200 section 8.1).

use crate::addr::Addr;

/// A one's complement sum being collected.
///
/// Sixty-four bits hold the carries of any frame: each added word is below 2^32 and a
/// frame has fewer than 2^32 of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    #[must_use]
    pub const fn new() -> Self {
        Self(0)
    }

    /// The sum with `bytes` added, network order. An odd last byte is padded with a
    /// zero, so only the last piece of a message may be of odd length.
    //= RFC 1071 section 1
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<4>();
        let sum = words
            .iter()
            .fold(self.0, |sum, w| sum + u64::from(u32::from_be_bytes(*w)));
        let last = match *rest {
            [a] => u32::from_be_bytes([a, 0, 0, 0]),
            [a, b] => u32::from_be_bytes([a, b, 0, 0]),
            [a, b, c] => u32::from_be_bytes([a, b, c, 0]),
            _ => 0,
        };
        Self(sum + u64::from(last))
    }

    /// The sum with one 16-bit word added.
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word as u64)
    }

    /// The sum with one 32-bit word added.
    #[must_use]
    pub const fn dword(self, dword: u32) -> Self {
        Self(self.0 + dword as u64)
    }

    /// The sum folded into 16 bits, not complemented: 0xffff if the summed bytes held
    /// their own right checksum.
    #[must_use]
    pub fn fold(self) -> u16 {
        // Below 2^33, then below 2^18, then below 2^16 + 4, then sixteen bits.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let [.., hi, lo] = ((sum & 0xffff) + (sum >> 16)).to_be_bytes();
        u16::from_be_bytes([hi, lo])
    }

    /// The checksum: the complement of the folded sum.
    #[must_use]
    pub fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Whether the summed bytes, their checksum among them, are intact.
    //= RFC 1071 section 1 (3): "if the result is all 1 bits, the check succeeds"
    #[must_use]
    pub fn verifies(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The checksum of `bytes`.
#[must_use]
pub fn of(bytes: &[u8]) -> u16 {
    Sum::new().bytes(bytes).checksum()
}

/// The sum of the pseudo header of `src` and `dst`, whose families must be the same:
/// `len_bytes` is the length of the transport header and its data.
#[must_use]
pub fn pseudo(src: Addr, dst: Addr, protocol: u8, len_bytes: u32) -> Sum {
    if src.is_v4() {
        pseudo_v4(src.to_v4(), dst.to_v4(), protocol, low16(len_bytes))
    } else {
        pseudo_v6(src.to_v6(), dst.to_v6(), protocol, len_bytes)
    }
}

/// The sum of the IPv4 pseudo header.
//= RFC 9293 section 3.1
#[must_use]
pub fn pseudo_v4(src: [u8; 4], dst: [u8; 4], protocol: u8, len_bytes: u16) -> Sum {
    Sum::new()
        .bytes(&src)
        .bytes(&dst)
        .word(u16::from(protocol))
        .word(len_bytes)
}

/// The sum of the IPv6 pseudo header.
//= RFC 8200 section 8.1
#[must_use]
pub fn pseudo_v6(src: [u8; 16], dst: [u8; 16], next_header: u8, len_bytes: u32) -> Sum {
    Sum::new()
        .bytes(&src)
        .bytes(&dst)
        .dword(len_bytes)
        .word(u16::from(next_header))
}

/// The checksum after the 16-bit word `old` under it became `new`.
///
/// A word at an odd offset of the message enters with its bytes swapped: give
/// `old.swap_bytes()` and `new.swap_bytes()`.
///
/// Equals the recomputed checksum unless the summed bytes became all zero, which no
/// header does.
//= RFC 1624 section 3 [Eqn. 3]: HC' = ~(~HC + ~m + m')
#[must_use]
pub fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::new().word(!checksum).word(!old).word(new).checksum()
}

/// As [`update16`] for a 32-bit word at an even offset.
#[must_use]
pub fn update32(checksum: u16, old: u32, new: u32) -> u16 {
    Sum::new().word(!checksum).dword(!old).dword(new).checksum()
}

/// The low sixteen bits.
const fn low16(n: u32) -> u16 {
    let [.., a, b] = n.to_be_bytes();
    u16::from_be_bytes([a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The sum as RFC 1071 section 4.1 writes it, one word at a time.
    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        low16(sum)
    }

    #[test]
    fn the_example_of_rfc_1071_section_3_sums_to_ddf2() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::new().bytes(&bytes).fold(), 0xddf2);
        assert_eq!(of(&bytes), 0x220d);
    }

    #[test]
    fn the_example_of_rfc_1624_section_4_updates_to_0000() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn an_ipv4_header_with_its_checksum_verifies() {
        let header = [
            0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8,
            0x00, 0x01, 0xc0, 0xa8, 0x00, 0xc7,
        ];
        assert!(Sum::new().bytes(&header).verifies());
        let mut broken = header;
        broken[8] -= 1;
        assert!(!Sum::new().bytes(&broken).verifies());
    }

    #[test]
    fn the_pseudo_headers_sum_the_fields_their_rfcs_list() {
        let v4 = [10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 9];
        assert_eq!(
            pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], 17, 9).fold(),
            naive(&v4)
        );
        assert_eq!(
            pseudo(Addr::v4([10, 0, 0, 1]), Addr::v4([10, 0, 0, 2]), 17, 9),
            pseudo_v4([10, 0, 0, 1], [10, 0, 0, 2], 17, 9)
        );
        let (src, dst) = ([0xfd; 16], [0x20; 16]);
        let mut v6 = [src, dst].concat();
        v6.extend([0, 1, 0, 9, 0, 0, 0, 58]);
        assert_eq!(pseudo_v6(src, dst, 58, 0x1_0009).fold(), naive(&v6));
        assert_eq!(
            pseudo(Addr::v6(src), Addr::v6(dst), 58, 7),
            pseudo_v6(src, dst, 58, 7)
        );
    }

    proptest! {
        #[test]
        fn the_sum_equals_the_naive_one(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), split in 0usize..150,
        ) {
            prop_assert_eq!(Sum::new().bytes(&bytes).fold(), naive(&bytes));
            let (a, b) = bytes.split_at((split * 2).min(bytes.len() & !1));
            prop_assert_eq!(Sum::new().bytes(a).bytes(b).fold(), naive(&bytes));
        }

        #[test]
        fn an_incremental_update_equals_the_recomputed_checksum(
            mut bytes in proptest::collection::vec(any::<u8>(), 4..80), at in any::<usize>(),
            new in any::<u16>(),
        ) {
            bytes.extend([0x45, 0]); // never all zero
            let at = at % (bytes.len() - 3);
            let before = of(&bytes);
            let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
            let updated = if at % 2 == 0 {
                update16(before, old, new)
            } else {
                update16(before, old.swap_bytes(), new.swap_bytes())
            };
            // at % 2 is relative to the message: an odd length moves no word.
            prop_assert_eq!(updated, of(&bytes));
        }

        #[test]
        fn an_update_of_32_bits_equals_the_recomputed_checksum(
            mut bytes in proptest::collection::vec(any::<u8>(), 8..80), new in any::<u32>(),
        ) {
            bytes.extend([0x45, 0]);
            let before = of(&bytes);
            let old = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
            bytes[2..6].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update32(before, old, new), of(&bytes));
        }
    }
}
