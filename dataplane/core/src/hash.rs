//! A fast keyed hash for tables that a sender can aim at.

/// The key of a table's hash, drawn at boot: who doesn't know it can't choose tuples
/// that meet in one bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashKey(pub [u64; 2]);

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// One round: the 128-bit product of both halves folded, which mixes every input bit
/// into every output bit (the multiply-fold of wyhash and of ahash's fallback).
#[inline]
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the two halves of the product"
    )]
    let (low, high) = (product as u64, (product >> 64) as u64);
    low ^ high
}

impl HashKey {
    /// Hashes a value given as 64-bit words.
    #[inline]
    #[must_use]
    pub fn hash<const N: usize>(self, words: [u64; N]) -> u64 {
        let [k0, k1] = self.0;
        // A small key makes a small multiplier, and one of 3 mixes nothing: a million
        // sequential flows under [1, 2] met in buckets of 60, under [0, 0] of 3 900.
        let multiplier = (k1 ^ 0xe703_7ed1_a0b4_28db) | 1;
        let mut state = k0 ^ 0x9e37_79b9_7f4a_7c15;
        for word in words {
            state = fold(state ^ word, multiplier) ^ k0.rotate_left(23);
        }
        fold(state ^ k1, 0xa076_1d64_78bd_642f)
    }
}

impl HashKey {
    /// A hash of two words in one round, for a cache: who finds words that meet there costs
    /// others time, and nothing else.
    #[inline]
    #[must_use]
    pub(crate) const fn quick(self, low: u64, high: u64) -> u64 {
        let [k0, k1] = self.0;
        fold(low ^ k0 ^ 0x9e37_79b9_7f4a_7c15, high ^ k1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_key_gives_another_order() {
        let (a, b) = (HashKey([1, 2]), HashKey([3, 4]));
        let same = (0..1000u64)
            .filter(|&i| a.hash([i]) & 0xff == b.hash([i]) & 0xff)
            .count();
        assert!(
            same < 30,
            "{same} of 1000 in the same of 256 buckets under both keys"
        );
    }

    #[test]
    fn neighbouring_flows_spread_under_a_weak_key_as_under_a_strong_one() {
        for key in [
            [0, 0],
            [1, 2],
            [u64::MAX; 2],
            [0x9e37_79b9, 0x5bd1_e995 << 32],
        ] {
            let mut buckets = vec![0u32; 1 << 16];
            for n in 0..1u64 << 15 {
                // Addresses in sequence, then the ports of each.
                let words = [n & 0xff, 7, n >> 8 & 0xf, 7, n >> 12];
                let bucket = usize::try_from(HashKey(key).hash(words) & 0xffff).unwrap();
                buckets[bucket] += 1;
            }
            // One in two on average; by chance nine are met once in 100 tables.
            let worst = buckets.iter().max().unwrap();
            assert!(*worst < 12, "{worst} in one bucket under {key:?}");
        }
    }

    #[test]
    fn sequential_words_spread_over_buckets() {
        let key = HashKey([0x1234, 0x5678]);
        let mut buckets = [0u32; 256];
        for i in 0..25_600u64 {
            let bucket = usize::try_from(key.hash([i, i >> 3]) & 0xff).unwrap();
            buckets[bucket] += 1;
        }
        let worst = buckets.iter().max().unwrap();
        assert!(
            *worst < 160,
            "100 a bucket expected, the fullest has {worst}"
        );
    }
}
