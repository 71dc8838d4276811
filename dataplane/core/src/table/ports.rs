//! What one peer's rows say of each destination port, as something to look up in at most
//! three reads however many rows there are.

use std::collections::BTreeMap;

use crate::table::policy::Action;

/// Intervals of a list that is searched from one end to the other, at most: their starts
/// are one cache line.
const LIST_MAX: usize = 32;
const PAGE: usize = 256;
/// Starts that are compared at once.
const LANES: usize = 8;

/// What a row says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Said {
    pub(crate) rule: u32,
    pub(crate) action: Action,
}

/// Rows that overlap, cut where any begins or ends: from a port up to the next one's, what
/// holds. The first starts at 0.
type Intervals = Vec<(u16, Option<Said>)>;

/// A block of ports and what is said of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) first: u16,
    pub(crate) last: u16,
    pub(crate) said: Said,
}

/// Where what is said of ports is: a row alone stands here itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ports {
    One {
        first: u16,
        last: u16,
        said: Said,
    },
    List(List),
    /// By the port's high byte, in [`PortArena::spans`] from this index on.
    Spans(u32),
}

/// Intervals in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct List {
    at: u32,
    /// How many; 0 if nothing is said, [`WHOLE_PAGE`] if every port of a high byte has its own.
    count: u8,
}

const WHOLE_PAGE: u8 = u8::MAX;

/// Of two rows the one that counts: the lower rule's, and of one rule's as [`Action`] says.
#[inline]
pub(crate) fn stronger(a: Option<Said>, b: Option<Said>) -> Option<Said> {
    match (a, b) {
        (Some(x), Some(y)) if y < x => b,
        (None, _) => b,
        _ => a,
    }
}

/// The intervals of all [`Ports`] of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortArena {
    starts: Vec<u16>,
    said: Vec<Option<Said>>,
    spans: Vec<List>,
}

impl PortArena {
    /// Takes one peer's rows in.
    pub(crate) fn add(&mut self, blocks: &[Block]) -> Ports {
        let intervals = cut(blocks);
        match intervals.as_slice() {
            [(_, Some(said))] => one(0, u16::MAX, *said),
            [(first, Some(said)), (end, None)] | [(_, None), (first, Some(said)), (end, None)] => {
                one(*first, end - 1, *said)
            }
            [(_, None), (first, Some(said))] => one(*first, u16::MAX, *said),
            few if few.len() <= LIST_MAX => Ports::List(self.list(few)),
            many => self.spans(many),
        }
    }

    /// After the last [`Self::add`].
    pub(crate) fn finish(&mut self) {
        // The last list is read to a multiple of LANES.
        self.starts.extend([0; LANES]);
        self.starts.shrink_to_fit();
        self.said.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    fn spans(&mut self, intervals: &[(u16, Option<Said>)]) -> Ports {
        let lists: Vec<_> = (0..=u8::MAX)
            .map(|high| {
                let (first, last) = (
                    u16::from_be_bytes([high, 0]),
                    u16::from_be_bytes([high, 255]),
                );
                let from = intervals.partition_point(|i| i.0 <= first) - 1;
                let to = intervals.partition_point(|i| i.0 <= last);
                let mut here = intervals[from..to].to_vec();
                here[0].0 = first;
                match here.as_slice() {
                    // Most ports of most peers: nothing more to read.
                    [(_, None)] => List { at: 0, count: 0 },
                    few if few.len() <= LIST_MAX => self.list(few),
                    many => self.page(many),
                }
            })
            .collect();
        let at = index(self.spans.len());
        self.spans.extend(lists);
        Ports::Spans(at)
    }

    fn list(&mut self, intervals: &[(u16, Option<Said>)]) -> List {
        let at = index(self.starts.len());
        self.starts.extend(intervals.iter().map(|i| i.0));
        self.said.extend(intervals.iter().map(|i| i.1));
        let count = u8::try_from(intervals.len()).unwrap_or(WHOLE_PAGE);
        List { at, count }
    }

    fn page(&mut self, intervals: &[(u16, Option<Said>)]) -> List {
        let at = index(self.starts.len());
        let first = intervals[0].0;
        // Starts without a meaning: one index serves both.
        self.starts.extend([0; PAGE]);
        self.said.extend((first..=first | 0xff).map(|port| {
            let up_to = intervals.partition_point(|i| i.0 <= port);
            intervals[up_to - 1].1
        }));
        List {
            at,
            count: WHOLE_PAGE,
        }
    }

    /// What is said of a port, and how many tables were read for it.
    #[inline]
    pub(crate) fn said(&self, ports: Ports, port: u16) -> (Option<Said>, usize) {
        match ports {
            Ports::One { first, last, said } => {
                ((first <= port && port <= last).then_some(said), 0)
            }
            Ports::List(list) => (self.in_list(list, port), 1),
            Ports::Spans(at) => {
                let list = self.spans.get(at as usize + usize::from(port >> 8));
                (list.and_then(|list| self.in_list(*list, port)), 2)
            }
        }
    }

    #[inline]
    fn in_list(&self, list: List, port: u16) -> Option<Said> {
        let at = list.at as usize;
        let nth = if list.count == WHOLE_PAGE {
            usize::from(port & 0xff) + 1
        } else {
            let mut nth = 0;
            // A few at a time and without a branch on them: which one it is nobody could
            // foretell. Those behind the list's end are another's and not counted.
            for done in (0..u16::from(list.count)).step_by(LANES) {
                let from = at + usize::from(done);
                let starts: &[u16; LANES] = self.starts.get(from..from + LANES)?.try_into().ok()?;
                let left = u16::from(list.count) - done;
                for (lane, start) in (0..).zip(starts) {
                    nth += u16::from(*start <= port) & u16::from(lane < left);
                }
            }
            usize::from(nth)
        };
        *self.said.get(at + nth.checked_sub(1)?)?
    }
}

const fn one(first: u16, last: u16, said: Said) -> Ports {
    Ports::One { first, last, said }
}

/// An index into an arena. A table of 2^32 rows doesn't fit in memory; were one to come, its
/// last rows would be found nowhere, which is no match.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn cut(blocks: &[Block]) -> Intervals {
    let mut events = Vec::with_capacity(blocks.len() * 2);
    for block in blocks {
        let said = block.said;
        events.push((u32::from(block.first), said, true));
        events.push((u32::from(block.last) + 1, said, false));
    }
    events.sort_unstable();
    // What is said here, in the order it decides, and by how many blocks: rows of one rule
    // may overlap.
    let mut said_here = BTreeMap::<Said, usize>::new();
    let mut intervals: Intervals = vec![(0, None)];
    for events in events.chunk_by(|a, b| a.0 == b.0) {
        for &(_, said, begins) in events {
            let blocks = said_here.entry(said).or_default();
            if begins {
                *blocks += 1;
            } else {
                *blocks = blocks.saturating_sub(1);
            }
            if *blocks == 0 {
                said_here.remove(&said);
            }
        }
        let Some(Ok(port)) = events.first().map(|e| u16::try_from(e.0)) else {
            break;
        };
        let now = said_here.first_key_value().map(|(said, _)| *said);
        match intervals.last_mut() {
            Some(last) if last.1 == now => {}
            Some(last) if last.0 == port => last.1 = now,
            _ => intervals.push((port, now)),
        }
    }
    intervals
}
