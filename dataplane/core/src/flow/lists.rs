//! Doubly linked lists through the entries of a table: each entry is in one list at most.
//!
//! The links stand in one array, behind those of the entries one more for each list. That
//! closes its list to a ring, so an entry leaves without anyone knowing which list it is in.

/// The entries before and after one in its list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: u32,
    after: u32,
}

/// A list, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct List(pub(super) u32);

#[derive(Debug)]
pub(super) struct Lists {
    links: Box<[Link]>,
    entries: u32,
}

impl Lists {
    /// So many empty lists for so many entries; together fewer than 2^32.
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the caller's bound, see above"
    )]
    pub(super) fn new(entries: usize, lists: usize) -> Self {
        let alone = |at| {
            let at = at as u32;
            Link {
                before: at,
                after: at,
            }
        };
        Self {
            links: (0..entries + lists).map(alone).collect(),
            entries: entries as u32,
        }
    }

    fn link(&mut self, at: u32) -> Option<&mut Link> {
        self.links.get_mut(at as usize)
    }

    /// The entry that was put into a list before all others there.
    pub(super) fn first(&self, list: List) -> Option<u32> {
        let ring = self.entries.wrapping_add(list.0);
        let first = self.links.get(ring as usize)?.after;
        (first != ring).then_some(first)
    }

    /// Takes an entry out of its list, if it is in one.
    pub(super) fn leave(&mut self, entry: u32) {
        let Some(link) = self.link(entry) else {
            return;
        };
        let Link { before, after } = *link;
        *link = Link {
            before: entry,
            after: entry,
        };
        if let Some(link) = self.link(before) {
            link.after = after;
        }
        if let Some(link) = self.link(after) {
            link.before = before;
        }
    }

    /// Moves an entry to a list's end.
    pub(super) fn join(&mut self, entry: u32, list: List) {
        self.leave(entry);
        let ring = self.entries.wrapping_add(list.0);
        let Some(end) = self.link(ring) else {
            return;
        };
        let last = core::mem::replace(&mut end.before, entry);
        if let Some(link) = self.link(last) {
            link.after = entry;
        }
        if let Some(link) = self.link(entry) {
            *link = Link {
                before: last,
                after: ring,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn lists_equal_queues(ops in prop::collection::vec((0u32..8, 0u32..4), 0..200)) {
            let mut lists = Lists::new(8, 3);
            let mut model = vec![VecDeque::new(); 3];
            for (entry, list) in ops {
                for queue in &mut model { queue.retain(|e| *e != entry); }
                if list < 3 {
                    lists.join(entry, List(list));
                    model[list as usize].push_back(entry);
                } else {
                    lists.leave(entry);
                }
                for (list, queue) in (0..).zip(&model) {
                    prop_assert_eq!(lists.first(List(list)), queue.front().copied());
                }
            }
            for (list, queue) in (0..).zip(&model) {
                for entry in queue {
                    prop_assert_eq!(lists.first(List(list)), Some(*entry));
                    lists.leave(*entry);
                }
                prop_assert_eq!(lists.first(List(list)), None);
            }
        }
    }
}
