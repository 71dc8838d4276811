//! How long a verdict takes, by rules, identities and headers.

use std::hint::black_box;
use std::time::Duration;

use anyhow::ensure;
use sluice_dataplane_core::expect::expect;
use sluice_dataplane_core::judge::{Told, judge, judge_between};
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::port::BURST_MAX;
use sluice_dataplane_core::snapshot::Snapshot;
use sluice_dataplane_core::table::policy::{Direction, PolicyTable, Transport};

use crate::policy::report::{Case, Place};
use crate::policy::rules::{FALLBACK, Header, Keys, Rule, RuleSet, address};
use crate::timing::{Pair, timed};

/// Rules and identities that are measured; the first pair is what the others are compared
/// with.
pub const SIZES: [(u32, u32); 15] = [
    (10, 1),
    (10, 100),
    (10, 65_535),
    (100, 1),
    (100, 100),
    (100, 65_535),
    (1_000, 1),
    (1_000, 100),
    (1_000, 65_535),
    (10_000, 1),
    (10_000, 100),
    (10_000, 65_535),
    (100_000, 1),
    (100_000, 100),
    (100_000, 65_535),
];

/// Lookups that are timed together.
const CHUNK: usize = 256;

/// Something that knows a rule set.
pub trait Contender {
    /// Whether each of the headers may pass.
    fn verdicts(&mut self, headers: &[Header]) -> Vec<bool>;

    /// Looks up `count` of the headers from the `at`th on, round and round.
    fn pass(&mut self, headers: &[Header], at: usize, count: usize);
}

/// The headers of one pass.
fn some(headers: &[Header], at: usize, count: usize) -> impl Iterator<Item = &Header> {
    let at = at % headers.len();
    headers[at..]
        .iter()
        .chain(headers.iter().cycle())
        .take(count)
}

/// Addresses to identities to a verdict, as the walk asks on flows' first packets: a burst of
/// them at once.
pub struct Ours(Snapshot);

impl Ours {
    /// With a rule set.
    #[must_use]
    pub fn new(set: &RuleSet) -> Self {
        Self(set.snapshot())
    }
}

impl Contender for Ours {
    fn verdicts(&mut self, headers: &[Header]) -> Vec<bool> {
        let may = |header: &Header| judge(&self.0, &header.tuple()).is_ok();
        headers.iter().map(may).collect()
    }

    fn pass(&mut self, headers: &[Header], at: usize, count: usize) {
        let mut left = some(headers, at, count);
        let mut burst = [Header::default().tuple(); BURST_MAX];
        loop {
            let mut len = 0;
            for (to, header) in burst.iter_mut().zip(&mut left) {
                *to = header.tuple();
                len += 1;
            }
            if len == 0 {
                return;
            }
            let snapshot = black_box(&self.0);
            let owners = expect(snapshot, burst[..len].iter().copied());
            for (tuple, owners) in burst[..len].iter().zip(owners) {
                let judged = judge_between(snapshot, tuple, owners, &Told::NOTHING);
                let _ = black_box(judged);
            }
        }
    }
}

/// The policy's table alone, by identity.
pub struct OursTable(PolicyTable);

impl OursTable {
    /// With a rule set.
    #[must_use]
    pub fn new(set: &RuleSet) -> Self {
        Self(set.table())
    }

    #[inline]
    fn may(&self, header: &Header) -> bool {
        let transport = match header.protocol {
            proto::TCP => Transport::Tcp,
            _ => Transport::Udp,
        };
        let peer = RuleSet::identity_of(header.src);
        let judged = self
            .0
            .judge(Direction::Ingress, peer, Some(transport), header.port);
        judged.allow
    }
}

impl Contender for OursTable {
    fn verdicts(&mut self, headers: &[Header]) -> Vec<bool> {
        headers.iter().map(|header| self.may(header)).collect()
    }

    fn pass(&mut self, headers: &[Header], at: usize, count: usize) {
        for header in some(headers, at, count) {
            black_box(black_box(&*self).may(header));
        }
    }
}

/// A list from the top, the first match decides: what iptables does.
pub struct Linear(Vec<Line>);

/// Sixteen bytes: four lines of the list in one of the cache.
struct Line {
    src: [u8; 4],
    first: u16,
    last: u16,
    protocol: u8,
    allow: bool,
}

impl From<&Rule> for Line {
    fn from(rule: &Rule) -> Self {
        let (first, last) = rule.ports().into_inner();
        Self {
            src: address(rule.identity),
            first,
            last,
            protocol: rule.protocol,
            allow: rule.allow,
        }
    }
}

impl Linear {
    /// With a rule set.
    #[must_use]
    pub fn new(set: &RuleSet) -> Self {
        Self(set.rules.iter().map(Line::from).collect())
    }

    fn may(&self, header: &Header) -> bool {
        let found = self.0.iter().find(|line| {
            line.src == header.src
                && line.protocol == header.protocol
                && (line.first..=line.last).contains(&header.port)
        });
        found.map_or(FALLBACK, |line| line.allow)
    }
}

impl Contender for Linear {
    fn verdicts(&mut self, headers: &[Header]) -> Vec<bool> {
        headers.iter().map(|header| self.may(header)).collect()
    }

    fn pass(&mut self, headers: &[Header], at: usize, count: usize) {
        for header in some(headers, at, count) {
            black_box(black_box(&*self).may(header));
        }
    }
}

/// Headers on which all must agree before any is measured.
const AGREE: usize = 512;

/// Measures one way to look up, beside itself with the smallest rule set.
fn measure(
    case: Place,
    share: Duration,
    small: (&mut dyn Contender, &[Header]),
    large: (&mut dyn Contender, &[Header]),
) -> Case {
    // A list's lookup can take a tenth of a millisecond: a pass is shorter than a slice of
    // the scheduler's all the same.
    let count = if case.peer == "linear" && case.rules > 1_000 {
        8
    } else {
        CHUNK
    };
    let run = |(contender, headers): (&mut dyn Contender, &[Header]), at: &mut usize, count| {
        *at += count;
        timed(|| contender.pass(headers, *at, count))
    };
    let (mut at_small, mut at_large) = (0, 0);
    let pair = Pair::measure(
        share,
        (CHUNK, || {
            run((&mut *small.0, small.1), &mut at_small, CHUNK)
        }),
        (count, || {
            run((&mut *large.0, large.1), &mut at_large, count)
        }),
    );
    let target = case.peer.starts_with("sluice").then(|| case.keys_target());
    Case::lookup(case, pair.large).beside(pair, target)
}

/// All contenders on all sizes. One that can't take the rules says why in its case.
///
/// # Errors
/// Two that disagree about a header.
pub fn run(
    sizes: &[(u32, u32)],
    share: Duration,
    mut progress: impl FnMut(&str),
) -> anyhow::Result<Vec<Case>> {
    let mut all = Vec::new();
    for keys in Keys::ALL {
        let small = RuleSet::new(SIZES[0].0, SIZES[0].1, keys.lengths());
        let small_headers = small.headers(keys);
        for &(rules, identities) in sizes {
            progress(&format!(
                "lookup: {} headers, {rules} rules, {identities} identities",
                keys.name()
            ));
            let set = RuleSet::new(rules, identities, keys.lengths());
            let headers = set.headers(keys);
            let asked = &headers[..headers.len().min(AGREE)];
            let expected = Linear::new(&set).verdicts(asked);
            for (peer, make) in CONTENDERS {
                let case = Place {
                    peer,
                    keys,
                    rules,
                    identities,
                };
                let made =
                    make(&set, &headers).and_then(|l| Ok((l, make(&small, &small_headers)?)));
                let (mut large, mut smaller) = match made {
                    Ok(both) => both,
                    Err(error) => {
                        all.push(Case::unmeasured_lookup(case, format!("{error:#}")));
                        continue;
                    }
                };
                let said = large.verdicts(asked);
                let first = asked.iter().zip(said.iter().zip(&expected));
                let mut wrong = first.filter(|(_, (said, expected))| said != expected);
                if let Some((header, _)) = wrong.next() {
                    ensure!(false, "{peer} disagrees about {header:?}");
                }
                all.push(measure(
                    case,
                    share,
                    (smaller.as_mut(), &small_headers),
                    (large.as_mut(), &headers),
                ));
            }
        }
    }
    Ok(all)
}

type Make = fn(&RuleSet, &[Header]) -> anyhow::Result<Box<dyn Contender>>;

const CONTENDERS: &[(&str, Make)] = &[
    ("sluice", |set, _| Ok(Box::new(Ours::new(set)))),
    ("sluice-table", |set, _| Ok(Box::new(OursTable::new(set)))),
    ("linear", |set, _| Ok(Box::new(Linear::new(set)))),
    #[cfg(feature = "dpdk")]
    ("acl", |set, headers| {
        Ok(Box::new(crate::policy::acl::Classifier::new(set, headers)?))
    }),
];
