//! Chance from a seed: what the wires and the fuzzer draw. Not for keys.

/// A stream of draws, SplitMix64: a seed and a purpose give the same ones on every machine.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Of a seed, for a purpose: draws for one purpose don't move those for another.
    #[must_use]
    pub fn new(seed: u64, purpose: &str) -> Self {
        // FNV-1a, which needs no more than to tell a handful of names apart.
        let hash = purpose
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        let mut dice = Self(seed ^ hash);
        // Seeds that follow each other are no longer neighbours after a draw.
        dice.0 = dice.draw();
        dice
    }

    /// Any 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which counts as 1 if it is 0. The bias of a remainder is
    /// nothing at the bounds in use.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.draw() % bound).unwrap_or(0)
    }

    /// A number of a range, both ends included.
    pub fn within(&mut self, least: usize, most: usize) -> usize {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True in so many of a hundred draws.
    pub fn chance(&mut self, percent: u8) -> bool {
        self.below(100) < usize::from(percent)
    }

    /// One of them; `None` if there are none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_purpose_give_the_same_draws() {
        let draws = |seed, purpose| {
            let mut dice = Dice::new(seed, purpose);
            [dice.draw(), dice.draw(), dice.draw()]
        };
        assert_eq!(draws(1, "wire"), draws(1, "wire"));
        assert_ne!(draws(1, "wire"), draws(2, "wire"));
        assert_ne!(draws(1, "wire"), draws(1, "fuzz"));
    }

    #[test]
    fn a_chance_is_about_as_often_as_it_says() {
        let mut dice = Dice::new(7, "test");
        let hits = (0..10_000).filter(|_| dice.chance(30)).count();
        assert!((2_700..3_300).contains(&hits), "{hits}");
        assert!(!dice.chance(0) && dice.chance(100));
        assert!((0..1_000).all(|_| (3..=5).contains(&dice.within(3, 5))));
    }
}
