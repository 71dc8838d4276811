//! What one peer's rows say of each destination port, as something to look up in at most
//! three reads however many rows there are.

use core::hint::select_unpredictable;
use std::collections::BTreeMap;

use crate::table::said::Said;

/// Intervals of a list that is searched from one end to the other, at most: their starts
/// are one cache line.
const LIST_MAX: usize = 32;
const PAGE: usize = 256;
/// Starts that are compared at once; lists are filled up to a multiple of it.
const LANES: usize = 8;
/// [`Half`] lines that differ before each high byte gets one of its own: with fewer, most of
/// them would say the same.
const HALVES_MIN: usize = PAGE / 2;

/// What is said of the ports of one high byte, in one read: `N` intervals, at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line<const STARTS: usize, const N: usize> {
    /// Low bytes at which intervals begin, in order; the first is 0, those too many are 255.
    starts: [u8; STARTS],
    /// By interval; those too many say what the last does.
    said: [Said; N],
}

/// Half a cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(32))]
struct Half(Line<8, 6>);

/// A cache line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
struct Whole(Line<16, 12>);

impl<const STARTS: usize, const N: usize> Line<STARTS, N> {
    /// None if there are too many.
    fn new(intervals: &[(u16, Said)]) -> Option<Self> {
        let mut line = Self {
            starts: [u8::MAX; STARTS],
            said: [intervals.last()?.1; N],
        };
        for (nth, (start, said)) in intervals.iter().enumerate() {
            *line.said.get_mut(nth)? = *said;
            line.starts[nth] = start.to_be_bytes()[1];
        }
        line.starts[0] = 0;
        Some(line)
    }

    #[inline]
    fn said(&self, low: u8) -> Said {
        // Without a branch: which one it is nobody could foretell.
        let begun: u8 = self.starts.iter().map(|it| u8::from(*it <= low)).sum();
        self.said[usize::from(begun).clamp(1, N) - 1]
    }
}

/// Rows that overlap, cut where any begins or ends: from a port up to the next one's, what
/// holds. The first starts at 0.
type Intervals = Vec<(u16, Said)>;

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
    /// By the port's high byte, in [`PortArena::halves`] from this index on.
    Halves(u32),
    /// By the port's high byte, in [`PortArena::maps`] which of the lines from an index on.
    Mapped {
        map: u32,
        lines: u32,
    },
    /// By the port's high byte, in [`PortArena::spans`] from this index on.
    Spans(u32),
}

/// Intervals in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct List {
    at: u32,
    /// How many, a multiple of [`LANES`]; [`WHOLE_PAGE`] if every port of a high byte has its own.
    count: u8,
}

const WHOLE_PAGE: u8 = u8::MAX;

/// The intervals of all [`Ports`] of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct PortArena {
    starts: Vec<u16>,
    said: Vec<Said>,
    halves: Vec<Half>,
    lines: Vec<Whole>,
    maps: Vec<[u8; PAGE]>,
    spans: Vec<List>,
}

impl PortArena {
    /// Takes one peer's rows in.
    pub(crate) fn add(&mut self, blocks: &[Block]) -> Ports {
        let intervals = cut(blocks);
        const NOTHING: Said = Said::NOTHING;
        match *intervals.as_slice() {
            [(_, said)] => one(0, u16::MAX, said),
            [(first, said), (end, NOTHING)] | [(_, NOTHING), (first, said), (end, NOTHING)] => {
                one(first, end - 1, said)
            }
            [(_, NOTHING), (first, said)] => one(first, u16::MAX, said),
            _ if intervals.len() <= LIST_MAX => Ports::List(self.list(&intervals)),
            _ => self.by_high_byte(&intervals),
        }
    }

    /// After the last [`Self::add`].
    pub(crate) fn finish(&mut self) {
        self.starts.shrink_to_fit();
        self.said.shrink_to_fit();
        self.halves.shrink_to_fit();
        self.lines.shrink_to_fit();
        self.maps.shrink_to_fit();
        self.spans.shrink_to_fit();
    }

    fn by_high_byte(&mut self, intervals: &[(u16, Said)]) -> Ports {
        let pages: Vec<Intervals> = (0..=u8::MAX)
            .map(|high| {
                let [first, last] = [0, 255].map(|low| u16::from_be_bytes([high, low]));
                let from = intervals.partition_point(|i| i.0 <= first) - 1;
                let to = intervals.partition_point(|i| i.0 <= last);
                let mut here = intervals[from..to].to_vec();
                here[0].0 = first;
                here
            })
            .collect();
        let halves: Option<Vec<_>> = pages.iter().map(|page| Line::new(page).map(Half)).collect();
        let lines: Option<Vec<_>> = pages
            .iter()
            .map(|page| Line::new(page).map(Whole))
            .collect();
        match (halves, lines) {
            (Some(halves), _) if differing(&halves).0.len() >= HALVES_MIN => {
                let at = index(self.halves.len());
                self.halves.extend(halves);
                Ports::Halves(at)
            }
            (_, Some(lines)) => {
                let (differ, which) = differing(&lines);
                let (map, lines) = (index(self.maps.len()), index(self.lines.len()));
                self.lines.extend(differ);
                self.maps.push(which);
                Ports::Mapped { map, lines }
            }
            (_, None) => {
                let lists: Vec<_> = pages.iter().map(|page| self.list_or_page(page)).collect();
                let at = index(self.spans.len());
                self.spans.extend(lists);
                Ports::Spans(at)
            }
        }
    }

    fn list_or_page(&mut self, intervals: &[(u16, Said)]) -> List {
        match intervals.len() {
            few if few <= LIST_MAX => self.list(intervals),
            _ => self.page(intervals),
        }
    }

    fn list(&mut self, intervals: &[(u16, Said)]) -> List {
        let at = index(self.starts.len());
        // Those too many say what the last does: it goes on up to the last port.
        let last = (u16::MAX, intervals.last().map_or(Said::NOTHING, |it| it.1));
        let filled = intervals.len().next_multiple_of(LANES);
        let too_many = core::iter::repeat_n(&last, filled - intervals.len());
        for (start, said) in intervals.iter().chain(too_many) {
            self.starts.push(*start);
            self.said.push(*said);
        }
        let count = u8::try_from(filled).unwrap_or(WHOLE_PAGE);
        List { at, count }
    }

    fn page(&mut self, intervals: &[(u16, Said)]) -> List {
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
    pub(crate) fn said(&self, ports: Ports, port: u16) -> (Said, usize) {
        let [high, low] = port.to_be_bytes();
        let high = usize::from(high);
        match ports {
            Ports::One { first, last, said } => {
                let inside = (first <= port) & (port <= last);
                (select_unpredictable(inside, said, Said::NOTHING), 0)
            }
            Ports::List(list) => (self.in_list(list, port).unwrap_or(Said::NOTHING), 1),
            Ports::Halves(at) => {
                let line = self.halves.get(at as usize + high);
                (line.map_or(Said::NOTHING, |line| line.0.said(low)), 1)
            }
            Ports::Mapped { map, lines } => {
                let nth = self.maps.get(map as usize).map_or(0, |map| map[high]);
                let line = self.lines.get(lines as usize + usize::from(nth));
                (line.map_or(Said::NOTHING, |line| line.0.said(low)), 2)
            }
            Ports::Spans(at) => {
                let list = self.spans.get(at as usize + high);
                let said = list.and_then(|list| self.in_list(*list, port));
                (said.unwrap_or(Said::NOTHING), 2)
            }
        }
    }

    /// None beyond the table, where no list is.
    #[inline]
    fn in_list(&self, list: List, port: u16) -> Option<Said> {
        let at = list.at as usize;
        if list.count == WHOLE_PAGE {
            return self.said.get(at + usize::from(port & 0xff)).copied();
        }
        let (count, mut begun) = (usize::from(list.count), 0);
        // Some at a time and without a branch on them, as in a line.
        for starts in self.starts.get(at..at + count)?.as_chunks::<LANES>().0 {
            begun += starts.iter().map(|it| u16::from(*it <= port)).sum::<u16>();
        }
        let nth = usize::from(begun).clamp(1, count.max(1)) - 1;
        self.said.get(at + nth).copied()
    }
}

const fn one(first: u16, last: u16, said: Said) -> Ports {
    Ports::One { first, last, said }
}

/// Those that differ, and which of them each of the 256 is.
fn differing<T: Copy + PartialEq>(all: &[T]) -> (Vec<T>, [u8; PAGE]) {
    let (mut differ, mut which) = (Vec::new(), [0; PAGE]);
    for (which, it) in which.iter_mut().zip(all) {
        let at = differ.iter().position(|other| other == it);
        let at = at.unwrap_or_else(|| {
            differ.push(*it);
            differ.len() - 1
        });
        // There are 256: the last of them is 255.
        *which = u8::try_from(at).unwrap_or(u8::MAX);
    }
    (differ, which)
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
    let mut intervals: Intervals = vec![(0, Said::NOTHING)];
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
        let first = said_here.first_key_value();
        let now = first.map_or(Said::NOTHING, |(said, _)| *said);
        match intervals.last_mut() {
            Some(last) if last.1 == now => {}
            Some(last) if last.0 == port => last.1 = now,
            _ => intervals.push((port, now)),
        }
    }
    intervals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::policy::Action;

    fn blocks(of: impl Iterator<Item = (u16, u16)>) -> Vec<Block> {
        let rules = of.zip(0..);
        let actions = [Action::Allow, Action::Deny, Action::Pass];
        rules
            .map(|((first, last), rule)| Block {
                first,
                last,
                said: Said::new(rule, actions[rule as usize % 3]),
            })
            .collect()
    }

    /// Holds ports against the blocks one by one; how they are kept, and the most reads.
    fn kept(blocks: &[Block]) -> (Ports, usize) {
        let mut arena = PortArena::default();
        // Somebody else's before and behind it.
        arena.add(&[blocks, blocks].concat());
        let ports = arena.add(blocks);
        arena.add(&blocks[..blocks.len() / 2]);
        arena.finish();
        let mut most = 0;
        let edges = blocks.iter().flat_map(|it| {
            let (first, last) = (it.first, it.last);
            [first.wrapping_sub(1), first, last, last.wrapping_add(1)]
        });
        for port in edges.chain((0..=u16::MAX).step_by(251)) {
            let there = |it: &&Block| it.first <= port && port <= it.last;
            let want = blocks.iter().filter(there).map(|it| it.said).min();
            let want = want.unwrap_or(Said::NOTHING);
            let (got, reads) = arena.said(ports, port);
            assert_eq!(got, want, "{port}");
            most = most.max(reads);
        }
        (ports, most)
    }

    #[test]
    fn each_way_to_keep_ports_says_what_the_rows_say() {
        let few = blocks((1..9).map(|n| (n * 1_000, n * 1_000 + n)));
        assert!(matches!(kept(&few), (Ports::List(_), 1)));
        // Two in each high byte, the last of them up to its end.
        let all_over = blocks((0..512).map(|n| (n * 128 + 3, n * 128 + 3 + n % 2 * 124)));
        assert!(matches!(kept(&all_over), (Ports::Halves(_), 1)));
        let half = blocks((0..40).map(|n| (n * 700, n * 700 + 99)));
        assert!(matches!(kept(&half), (Ports::Mapped { .. }, 2)));
        // As many in a line as it holds, and then one more.
        let full = |each: u16| {
            let of = move |n: u16| {
                (0..each).map(move |m| (n << 8 | (m * 20 + 20), n << 8 | (m * 20 + 29)))
            };
            blocks((0..256).flat_map(of))
        };
        assert!(matches!(kept(&full(2)), (Ports::Halves(_), 1)));
        assert!(matches!(kept(&full(3)), (Ports::Mapped { .. }, 2)));
        assert!(matches!(kept(&full(5)), (Ports::Mapped { .. }, 2)));
        assert!(matches!(kept(&full(6)), (Ports::Spans(_), 2)));
        let each_port = blocks((0x2a00..0x3000).map(|n| (n, n)));
        assert!(matches!(kept(&each_port), (Ports::Spans(_), 2)));
    }
}
