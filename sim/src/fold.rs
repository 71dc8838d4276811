//! A hash for maps of addresses, ports and numbers that are asked of every frame. Nobody who
//! would choose their keys is near, and none of them is ever walked, so that it need be no more
//! than quick and the same on every machine.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A map by it.
pub(crate) type FoldMap<K, V> = HashMap<K, V, BuildHasherDefault<Fold>>;
/// A set by it.
pub(crate) type FoldSet<T> = HashSet<T, BuildHasherDefault<Fold>>;

/// Odd, and half of its bits set.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The hash: words multiplied into one, and stirred at the end.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Fold(u64);

impl Fold {
    const fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(26) ^ word).wrapping_mul(FACTOR);
    }
}

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        stir(self.0)
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.word(last(rest));
        }
    }

    fn write_u8(&mut self, it: u8) {
        self.word(u64::from(it));
    }

    fn write_u16(&mut self, it: u16) {
        self.word(u64::from(it));
    }

    fn write_u32(&mut self, it: u32) {
        self.word(u64::from(it));
    }

    fn write_u64(&mut self, it: u64) {
        self.word(it);
    }

    fn write_usize(&mut self, it: usize) {
        self.word(it as u64);
    }
}

/// Two hashes of one thing, each of other words: that two things have both in common nobody
/// will live to see.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Digest([u64; 2]);

impl Digest {
    const FACTORS: [u64; 2] = [FACTOR, 0xc2b2_ae3d_27d4_eb4f];

    /// With one more word.
    #[must_use]
    pub(crate) const fn word(self, word: u64) -> Self {
        let (Self([one, other]), [by, by_other]) = (self, Self::FACTORS);
        let one = (one.rotate_left(26) ^ word).wrapping_mul(by);
        let other = other
            .rotate_left(37)
            .wrapping_add(word)
            .wrapping_mul(by_other);
        // What is high in a product is low in the next one.
        Self([one ^ one >> 32, other ^ other >> 29])
    }

    /// With more bytes, and how many.
    #[must_use]
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        let words = words.iter().map(|it| u64::from_le_bytes(*it));
        let all = words.fold(self.word(bytes.len() as u64), Self::word);
        all.word(last(rest))
    }

    /// What it comes to.
    pub(crate) fn finish(self) -> [u64; 2] {
        self.0.map(stir)
    }
}

/// Fewer than eight bytes as a word.
fn last(rest: &[u8]) -> u64 {
    rest.iter()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Every bit into every other: `SplitMix64`'s end.
const fn stir(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_differ_anywhere_or_in_length_have_no_digest_in_common() {
        let text: Vec<u8> = (0..100).collect();
        let of = |bytes: &[u8]| Digest::default().bytes(bytes).finish();
        let mut all = HashSet::new();
        for len in 0..text.len() {
            for bit in 0..len * 8 {
                let mut turned = text[..len].to_vec();
                turned[bit / 8] ^= 1 << (bit % 8);
                let [one, other] = of(&turned);
                assert!(all.insert(one) && all.insert(other));
            }
            assert!(all.insert(of(&text[..len])[0]));
        }
        let zeros = [0; 32];
        let lens: HashSet<_> = (0..32).map(|len| of(&zeros[..len])).collect();
        assert_eq!(lens.len(), 32);
        // What goes from one part to the next is another thing too.
        let parts = |at| of_parts(text.split_at(at));
        assert_ne!(parts(3), parts(4));
    }

    fn of_parts((one, other): (&[u8], &[u8])) -> [u64; 2] {
        Digest::default().bytes(one).bytes(other).finish()
    }
}
