//! What a burst's packets read, asked for a few packets before each one's turn.
//!
//! Asked for all at once, a burst's keys would come while nobody works; asked for by their own
//! packets, each would be waited for. So they come while the packets before them are sealed or
//! opened. Where a thing stands is written in another: that one is asked for twice as early.

use crate::port::BURST_MAX;

/// Packets from asking to a turn. One of the shortest takes a good part of what memory takes to
/// answer.
pub const NEAR: usize = 4;
/// The same for what says where the rest is.
pub const FAR: usize = 2 * NEAR;
/// The same for the second asking. A core forgets what is asked for while too much is on its way,
/// and all of a key is a lot; what has come meanwhile costs nothing to ask for.
const AGAIN: usize = NEAR / 2;

/// What says what each packet of a burst reads.
#[derive(Clone, Copy, Debug)]
pub struct Ahead<T> {
    items: [T; BURST_MAX],
    /// A bit for each that reads something else than the one before it.
    others: u32,
    count: usize,
    turn: usize,
}

impl<T: Copy> Ahead<T> {
    /// None yet; what it is filled with is not looked at.
    #[must_use]
    pub const fn new(filler: T) -> Self {
        Self {
            items: [filler; BURST_MAX],
            others: 0,
            count: 0,
            turn: 0,
        }
    }

    /// Another packet, and whether it reads what the one before does. One too many for a burst
    /// asks for nothing.
    #[inline]
    pub fn push(&mut self, it: T, is_same: bool) {
        if let Some(place) = self.items.get_mut(self.count) {
            *place = it;
            self.others |= u32::from(!is_same) << self.count;
            self.count += 1;
        }
    }

    /// Before the first one's turn: asks for what the first few read. What all of them read the
    /// first one waits for, asked for or not.
    #[inline]
    pub fn begin(&mut self, far: impl Fn(T), near: impl Fn(T)) {
        if self.others.count_ones() < 2 {
            self.others = 0;
            return;
        }
        (0..FAR).for_each(|at| self.ask(at, &far));
        (0..AGAIN).for_each(|at| self.ask(at, &near));
    }

    /// The turn of the next one, in the order of [`Self::push`]: asks for what later ones read.
    #[inline]
    pub fn turn(&mut self, far: impl Fn(T), near: impl Fn(T)) {
        if self.others != 0 {
            self.ask(self.turn + FAR, &far);
            self.ask(self.turn + NEAR, &near);
            self.ask(self.turn + AGAIN, &near);
            self.turn += 1;
        }
    }

    #[inline]
    fn ask(&self, at: usize, ask: &impl Fn(T)) {
        if let Some(it) = self.items.get(at)
            && self.others >> at & 1 == 1
        {
            ask(*it);
        }
    }
}

#[cfg(test)]
mod tests {
    use core::cell::RefCell;

    use super::*;

    /// What is asked for, far and near, before each turn.
    fn asked(items: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut ahead = Ahead::new(0);
        let mut last = None;
        for it in items {
            ahead.push(*it, last.replace(it) == Some(it));
        }
        let (far, near) = (RefCell::default(), RefCell::default());
        let put = |to: &RefCell<Vec<u8>>, it| to.borrow_mut().push(it);
        ahead.begin(|it| put(&far, it), |it| put(&near, it));
        let mut all = Vec::new();
        for _ in items {
            all.push((far.take(), near.take()));
            ahead.turn(|it| put(&far, it), |it| put(&near, it));
        }
        assert!(far.take().is_empty() && near.take().is_empty(), "too late");
        all
    }

    /// All that was asked for near, in order of what it is.
    fn near_of(all: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut near: Vec<u8> = all.iter().flat_map(|it| it.1.clone()).collect();
        near.sort_unstable();
        near
    }

    #[test]
    fn each_is_asked_for_the_right_number_of_packets_before_its_turn() {
        let items: Vec<u8> = (0..20).collect();
        let all = asked(&items);
        assert_eq!(all[0], ((0..8).collect(), (0..2).collect()));
        for (turn, it) in all.iter().enumerate().skip(1).take(11) {
            let turn = u8::try_from(turn).unwrap();
            assert_eq!(*it, (vec![turn + 7], vec![turn + 3, turn + 1]));
        }
        let far: Vec<u8> = all.iter().flat_map(|it| it.0.clone()).collect();
        assert_eq!(far, items);
        // For the first ones there is no time to ask twice.
        let twice = items
            .iter()
            .flat_map(|it| vec![*it; if *it < 4 { 1 } else { 2 }]);
        assert_eq!(near_of(&all), twice.collect::<Vec<_>>());
    }

    #[test]
    fn in_a_row_the_first_asks_for_all_and_one_thing_alone_is_not_asked_for() {
        let all = asked(&[1, 1, 1, 2, 2, 3, 1]);
        let far: Vec<u8> = all.iter().flat_map(|it| it.0.clone()).collect();
        assert_eq!(far, [1, 2, 3, 1]);
        assert_eq!(near_of(&all), [1, 1, 1, 2, 3, 3]);
        assert!(asked(&[5; 32]).iter().all(|it| *it == Default::default()));
        assert!(asked(&[]).is_empty());
    }

    #[test]
    fn more_than_a_burst_are_forgotten_and_nothing_breaks() {
        let items: Vec<u8> = (0..40).collect();
        let far: Vec<u8> = asked(&items).iter().flat_map(|it| it.0.clone()).collect();
        assert_eq!(far, items[..BURST_MAX]);
    }
}
