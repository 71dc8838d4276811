//! Which places of a table are taken, a bit for each: who reads what is there, and there is
//! little, needn't look at all of it.

/// A bit for each place.
#[derive(Debug)]
pub(crate) struct Marked(Box<[u64]>);

impl Marked {
    /// None of so many places.
    pub(crate) fn none_of(places: usize) -> Self {
        Self(vec![0; places.div_ceil(64)].into_boxed_slice())
    }

    /// Says whether a place is taken.
    pub(crate) fn set(&mut self, place: usize, is_taken: bool) {
        let Some(word) = self.0.get_mut(place / 64) else {
            return;
        };
        let bit = 1 << (place % 64);
        if is_taken {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }

    /// Those that are taken, the first first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, word)| {
            let mut left = *word;
            core::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                left &= left.checked_sub(1)?;
                Some(at * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_walked_in_order_and_only_while_they_are_taken() {
        let mut marked = Marked::none_of(130);
        let all = [0, 1, 63, 64, 127, 128, 129];
        for place in all.iter().rev() {
            marked.set(*place, true);
        }
        marked.set(100_000, true);
        assert_eq!(marked.iter().collect::<Vec<_>>(), all);
        marked.set(63, false);
        marked.set(5, false);
        let left: Vec<_> = marked.iter().collect();
        assert_eq!(left, [0, 1, 64, 127, 128, 129]);
    }
}
