//! Many queues over one set of numbered items, in fixed memory.

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    before: u32,
    after: u32,
}

const LOOSE: Link = Link {
    before: NONE,
    after: NONE,
};

/// Queues by number of items by number. An item is in one queue or in none; which one is
/// the caller's to know. A number out of range changes nothing.
#[derive(Debug)]
pub(super) struct Queues {
    links: Box<[Link]>,
    /// First and last item of each queue.
    ends: Box<[Link]>,
    /// Apart from the ends, to be looked through fast.
    lens: Box<[u32]>,
}

impl Queues {
    /// `queues` empty ones for `items` items.
    pub(super) fn new(queues: usize, items: usize) -> Self {
        Self {
            links: vec![LOOSE; items].into_boxed_slice(),
            ends: vec![LOOSE; queues].into_boxed_slice(),
            lens: vec![0; queues].into_boxed_slice(),
        }
    }

    pub(super) fn len(&self, queue: usize) -> usize {
        self.lens.get(queue).map_or(0, |&len| len as usize)
    }

    /// The item that came first of those that are in a queue.
    pub(super) fn front(&self, queue: usize) -> Option<u32> {
        let &Link { after, .. } = self.ends.get(queue)?;
        (after != NONE).then_some(after)
    }

    /// The item that came next after another.
    pub(super) fn after(&self, item: u32) -> Option<u32> {
        let &Link { after, .. } = self.links.get(item as usize)?;
        (after != NONE).then_some(after)
    }

    /// Adds an item that is in no queue.
    pub(super) fn push(&mut self, queue: usize, item: u32) {
        let (Some(link), Some(ends), Some(len)) = (
            self.links.get_mut(item as usize),
            self.ends.get_mut(queue),
            self.lens.get_mut(queue),
        ) else {
            return;
        };
        let last = core::mem::replace(&mut ends.before, item);
        *link = Link {
            before: last,
            after: NONE,
        };
        *len += 1;
        match self.links.get_mut(last as usize) {
            Some(last) => last.after = item,
            None => ends.after = item,
        }
    }

    /// Takes out an item that is in this queue.
    pub(super) fn remove(&mut self, queue: usize, item: u32) {
        let (Some(link), Some(ends), Some(len)) = (
            self.links.get_mut(item as usize),
            self.ends.get_mut(queue),
            self.lens.get_mut(queue),
        ) else {
            return;
        };
        let Link { before, after } = core::mem::replace(link, LOOSE);
        *len = len.saturating_sub(1);
        match self.links.get_mut(before as usize) {
            Some(link) => link.after = after,
            None => ends.after = after,
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = before,
            None => ends.before = before,
        }
    }

    /// Takes out the item that came first.
    pub(super) fn pop(&mut self, queue: usize) -> Option<u32> {
        let item = self.front(queue)?;
        self.remove(queue, item);
        Some(item)
    }

    /// The queue with the most items.
    pub(super) fn longest(&self) -> usize {
        longest(&self.lens)
    }
}

/// The place of the greatest number; the first of several.
pub(super) fn longest(lens: &[u32]) -> usize {
    let greatest = lens.iter().copied().max().unwrap_or(0);
    lens.iter().position(|&len| len == greatest).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    const QUEUES: usize = 4;
    const ITEMS: u32 = 10;

    #[test]
    fn numbers_out_of_range_change_nothing() {
        let mut queues = Queues::new(1, 1);
        queues.push(0, 1);
        queues.push(1, 0);
        queues.remove(0, 9);
        assert_eq!(
            (queues.len(0), queues.front(0), queues.pop(1)),
            (0, None, None)
        );
        assert_eq!(queues.after(NONE), None);
    }

    proptest! {
        #[test]
        fn queues_equal_deques(
            ops in prop::collection::vec((0..3u8, 0..QUEUES, 0..ITEMS), 0..200),
        ) {
            let mut queues = Queues::new(QUEUES, ITEMS as usize);
            let mut model = vec![VecDeque::new(); QUEUES];
            for (op, queue, item) in ops {
                let place = model.iter().position(|q| q.contains(&item));
                match (op, place) {
                    (0, None) => {
                        queues.push(queue, item);
                        model[queue].push_back(item);
                    }
                    (1, Some(queue)) => {
                        queues.remove(queue, item);
                        model[queue].retain(|&i| i != item);
                    }
                    (2, _) => prop_assert_eq!(queues.pop(queue), model[queue].pop_front()),
                    _ => {}
                }
                for (at, wanted) in model.iter().enumerate() {
                    let mut found = VecDeque::new();
                    let mut next = queues.front(at);
                    while let Some(item) = next {
                        found.push_back(item);
                        next = queues.after(item);
                    }
                    prop_assert_eq!(&found, wanted);
                    prop_assert_eq!(queues.len(at), wanted.len());
                }
                let longest = model[queues.longest()].len();
                prop_assert!(model.iter().all(|q| q.len() <= longest));
            }
        }
    }
}
