//! The table against a model without bounds, and its bounds under floods.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::ranges::{Clash, Ranges};
use super::*;
use crate::addr::Addr;
use crate::flow::key::Tuple;
use crate::hash::HashKey;
use crate::meta::Meta;
use crate::reason::DropReason;
use crate::route::Attach;
use crate::snapshot::{PeerIndex, PortIndex};
use crate::wire::fragment::Fragment;

const PORTS: usize = 3;
const VF: PortIndex = PortIndex(1);
const OUT: Attach = Attach::Port(PortIndex(2));

fn key(id: u32) -> Key {
    Key {
        src: Addr::v4([10, 0, 0, 1]),
        dst: Addr::v4([10, 0, 0, 2]),
        id,
        protocol: 17,
        from: Attach::Port(VF),
        born: 1,
    }
}

fn learned(port: u16) -> Learned {
    Learned {
        tuple: Tuple {
            src: Addr::v4([10, 0, 0, 1]),
            dst: Addr::v4([10, 0, 0, 2]),
            src_port: port,
            dst_port: 53,
            protocol: 17,
        },
        error: false,
        begins: false,
    }
}

fn waiting(frame: u32) -> Waiting<u32> {
    Waiting {
        frame,
        meta: Meta::default(),
        in_port: VF,
        from: Attach::Port(VF),
        to: Attach::Port(PortIndex(u16::MAX)),
        owner: None,
    }
}

fn piece(start: u16, end: u16, last: bool) -> Fragment {
    Fragment {
        id: 0,
        start,
        end,
        last,
    }
}

/// Where a frame got to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Passed,
    Lost(DropReason),
}

/// The table as the walk uses it, one fragment a burst.
struct Table {
    fragments: Fragments<u32>,
    fates: Vec<(u32, Fate)>,
}

impl Table {
    fn new() -> Self {
        Self {
            fragments: Fragments::new(PORTS, HashKey([7, 9])),
            fates: Vec::new(),
        }
    }

    fn arrive(
        &mut self,
        key: &Key,
        payer: Payer,
        piece: Fragment,
        frame: u32,
        allow: bool,
        now: Tick,
    ) {
        let fates = &mut self.fates;
        let mut gone = Vec::new();
        let lost = &mut |w: Waiting<u32>, why| gone.push((w.frame, Fate::Lost(why)));
        match self.fragments.arrive(key, payer, piece, now, lost) {
            Arrival::First(slot) if allow => {
                self.fragments.pass(slot, learned(1), OUT, lost).unwrap();
                fates.push((frame, Fate::Passed));
            }
            Arrival::First(slot) => {
                fates.push((frame, Fate::Lost(DropReason::PolicyEgress)));
                self.fragments.refuse(slot, lost);
            }
            Arrival::Follow(_, what) => {
                assert_eq!(what, learned(1));
                fates.push((frame, Fate::Passed));
            }
            Arrival::HandOver(owner) => panic!("nothing was handed to {owner}"),
            Arrival::Hold(slot) => self.fragments.hold(slot, waiting(frame), lost),
            Arrival::Drop(reason) => fates.push((frame, Fate::Lost(reason))),
        }
        fates.append(&mut gone);
        self.leave();
    }

    fn leave(&mut self) {
        while let Some(port) = self.fragments.ready_port() {
            let ready = self.fragments.next_ready().unwrap();
            assert_eq!((port, ready.to), (VF, OUT));
            self.fates.push((ready.frame, Fate::Passed));
        }
    }

    fn expire(&mut self, now: Tick) {
        let fates = &mut self.fates;
        self.fragments
            .expire(now, &mut |w, why| fates.push((w.frame, Fate::Lost(why))));
    }

    fn fates(&mut self) -> Vec<(u32, Fate)> {
        core::mem::take(&mut self.fates)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Gathering,
    Passed,
    Refused(DropReason),
}

struct ModelDatagram {
    came: Tick,
    known: Known,
    ranges: Ranges,
    waiting: Vec<u32>,
}

/// The same with as much memory as it likes.
#[derive(Default)]
struct Model {
    datagrams: BTreeMap<u32, ModelDatagram>,
    fates: Vec<(u32, Fate)>,
}

impl Model {
    fn expire(&mut self, now: Tick) {
        let fates = &mut self.fates;
        self.datagrams.retain(|_, datagram| {
            let over = datagram.came + LIFETIME_NS <= now;
            if over {
                let lost = |&f: &u32| (f, Fate::Lost(DropReason::FragmentNoFirst));
                fates.extend(datagram.waiting.iter().map(lost));
            }
            !over
        });
    }

    fn arrive(&mut self, id: u32, piece: Fragment, frame: u32, allow: bool, now: Tick) {
        self.expire(now);
        let datagram = self.datagrams.entry(id).or_insert(ModelDatagram {
            came: now,
            known: Known::Gathering,
            ranges: Ranges::EMPTY,
            waiting: Vec::new(),
        });
        let added = datagram.ranges.add(piece);
        let fate = match (datagram.known, added) {
            (Known::Refused(reason), _) => Some(Fate::Lost(reason)),
            (_, Err(Clash::Duplicate)) => Some(Fate::Lost(DropReason::FragmentDuplicate)),
            (_, Err(_)) => {
                datagram.known = Known::Refused(DropReason::FragmentOverlap);
                Some(Fate::Lost(DropReason::FragmentOverlap))
            }
            (Known::Passed, Ok(())) => Some(Fate::Passed),
            (Known::Gathering, Ok(())) if piece.start != 0 => None,
            (Known::Gathering, Ok(())) if allow => {
                datagram.known = Known::Passed;
                Some(Fate::Passed)
            }
            (Known::Gathering, Ok(())) => {
                datagram.known = Known::Refused(DropReason::FragmentRefused);
                Some(Fate::Lost(DropReason::PolicyEgress))
            }
        };
        match fate {
            Some(fate) => self.fates.push((frame, fate)),
            None => datagram.waiting.push(frame),
        }
        let then = match datagram.known {
            Known::Gathering => return,
            Known::Passed => Fate::Passed,
            Known::Refused(reason) => Fate::Lost(reason),
        };
        self.fates
            .extend(datagram.waiting.drain(..).map(|f| (f, then)));
        let clashed = datagram.known == Known::Refused(DropReason::FragmentOverlap);
        if datagram.ranges.is_complete() && !clashed {
            self.datagrams.remove(&id);
        }
    }
}

#[derive(Clone, Debug)]
struct Op {
    id: u32,
    piece: Fragment,
    allow: bool,
    later_ms: u64,
}

fn op() -> impl Strategy<Value = Op> {
    let place = (0u16..5, 1u16..3, prop::bool::weighted(0.2));
    (0u32..4, place, prop::bool::weighted(0.7), 0u64..800).prop_map(
        |(id, (start, len, last), allow, later_ms)| Op {
            id,
            piece: piece(start * 8, (start + len) * 8, last),
            allow,
            later_ms,
        },
    )
}

proptest! {
    #[test]
    fn the_table_equals_a_model_without_bounds(ops in prop::collection::vec(op(), 0..80)) {
        let (mut table, mut model, mut now) = (Table::new(), Model::default(), Tick(1));
        for (frame, op) in (0u32..).zip(&ops) {
            // A single whole packet is no fragment.
            if op.piece.start == 0 && op.piece.last {
                continue;
            }
            now = now + op.later_ms * Tick::MS;
            table.expire(now);
            table.arrive(&key(op.id), Payer::Sender(VF), op.piece, frame, op.allow, now);
            model.arrive(op.id, op.piece, frame, op.allow, now);
            let sorted = |mut fates: Vec<(u32, Fate)>| {
                fates.sort_by_key(|f| f.0);
                fates
            };
            let wanted = core::mem::take(&mut model.fates);
            prop_assert_eq!(sorted(table.fates()), sorted(wanted));
            prop_assert_eq!(table.fragments.len(), model.datagrams.len());
        }
    }
}

/// A small stream of numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn no_flood_passes_a_bound_or_loses_a_frame_without_a_reason() {
    let (mut table, mut random, mut now) = (Table::new(), Numbers(88), Tick(0));
    let mut inside = BTreeSet::new();
    for frame in 0..200_000u32 {
        now = now + random.below(Tick::MS / 4);
        let payer = match random.below(4) {
            0 => Payer::Sender(PortIndex(u16::try_from(random.below(5)).unwrap())),
            1 => Payer::Receiver(PortIndex(u16::try_from(random.below(3)).unwrap())),
            _ => Payer::Peer(PeerIndex(u16::try_from(random.below(300)).unwrap())),
        };
        let id = u32::try_from(random.below(5000)).unwrap();
        let start = u16::try_from(random.below(4)).unwrap() * 8;
        table.arrive(
            &key(id),
            payer,
            piece(start, start + 8, start == 24),
            frame,
            random.below(3) > 0,
            now,
        );
        if frame % 3 == 0 {
            table.expire(now);
        }
        inside.insert(frame);
        for (frame, _) in table.fates() {
            assert!(inside.remove(&frame), "{frame} has two fates");
        }
        assert!(inside.len() <= WAITING_MAX);
        assert!(table.fragments.len() <= DATAGRAMS_MAX);
    }
    assert!(inside.len() > WAITING_MAX / 4, "the flood was one");
    for _ in 0..=DATAGRAMS_MAX / EXPIRE_MAX {
        table.expire(now + LIFETIME_NS);
    }
    assert_eq!(table.fates().len(), inside.len());
    assert!(table.fragments.is_empty());
}

#[test]
fn a_flood_of_firsts_leaves_every_payer_its_fair_share() {
    let mut table = Table::new();
    let quiet = Payer::Peer(PeerIndex(9));
    // 201 payers, 10 datagrams for each of them and some more.
    for n in 0..10 {
        table.arrive(&key(n), quiet, piece(0, 8, false), n, true, Tick(0));
    }
    for n in 1000..60_000 {
        let payer = Payer::Peer(PeerIndex(u16::try_from(n % 200).unwrap() + 10));
        let allow = n % 2 == 0;
        table.arrive(&key(n), payer, piece(0, 8, false), n, allow, Tick(1));
    }
    assert_eq!(table.fragments.len(), DATAGRAMS_MAX);
    table.fates();
    for n in 0..10 {
        table.arrive(&key(n), quiet, piece(8, 16, true), n, true, Tick(2));
    }
    assert_eq!(
        table.fates(),
        (0..10).map(|n| (n, Fate::Passed)).collect::<Vec<_>>()
    );
}

#[test]
fn a_payer_that_comes_late_finds_a_place_among_floods() {
    let late = Payer::Receiver(VF);
    let flood = |n: u32| Payer::Peer(PeerIndex(u16::try_from(n % 30).unwrap()));
    // Every place for a datagram is taken.
    let mut table = Table::new();
    for n in 1000..5000 {
        table.arrive(&key(n), flood(n), piece(0, 8, false), n, true, Tick(0));
    }
    assert_eq!(table.fragments.len(), DATAGRAMS_MAX);
    table.fates();
    table.arrive(&key(1), late, piece(0, 8, false), 1, true, Tick(1));
    table.arrive(&key(1), late, piece(8, 16, true), 2, true, Tick(1));
    assert_eq!(table.fates(), [(1, Fate::Passed), (2, Fate::Passed)]);
    // Every place for a frame is taken.
    let mut table = Table::new();
    for n in 1000..5000 {
        table.arrive(&key(n), flood(n), piece(8, 16, false), n, true, Tick(0));
    }
    assert_eq!(table.fates().len(), 4000 - WAITING_MAX);
    table.arrive(&key(1), late, piece(8, 16, true), 2, true, Tick(1));
    let gone = table.fates();
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].1, Fate::Lost(DropReason::FragmentTableFull));
    table.arrive(&key(1), late, piece(0, 8, false), 1, true, Tick(1));
    assert_eq!(table.fates(), [(1, Fate::Passed), (2, Fate::Passed)]);
}

#[test]
fn one_payer_alone_keeps_to_its_share() {
    let payer = Payer::Sender(VF);
    let mut table = Table::new();
    for n in 0..1000 {
        table.arrive(&key(n), payer, piece(0, 8, false), n, n % 2 == 0, Tick(0));
    }
    assert_eq!(table.fragments.len(), DATAGRAMS_PER_SHARE_MAX);
    table.fates();
    // Two frames of each datagram: the oldest datagrams give way, whole.
    let mut table = Table::new();
    for n in 0..1000 {
        let start = u16::try_from(n % 2 + 1).unwrap() * 8;
        table.arrive(
            &key(n / 2),
            payer,
            piece(start, start + 8, false),
            n,
            true,
            Tick(0),
        );
    }
    let gone: Vec<u32> = table.fates().into_iter().map(|(frame, _)| frame).collect();
    let kept = u32::try_from(WAITING_PER_SHARE_MAX).unwrap();
    assert_eq!(gone, (0..1000 - kept).collect::<Vec<_>>());
    assert_eq!(table.fragments.len(), WAITING_PER_SHARE_MAX / 2);
}

#[test]
fn a_datagram_whose_time_is_over_is_not_found_though_nobody_ended_it_yet() {
    let (payer, over) = (Payer::Sender(VF), Tick(LIFETIME_NS));
    let mut table = Table::new();
    table.arrive(&key(1), payer, piece(0, 8, false), 0, true, Tick(0));
    table.arrive(&key(2), payer, piece(8, 16, true), 1, true, Tick(0));
    table.fates();
    table.arrive(&key(1), payer, piece(8, 16, true), 2, true, over);
    assert_eq!(table.fates(), [], "it waits for another first");
    table.arrive(&key(2), payer, piece(0, 8, false), 3, true, over);
    let lost = Fate::Lost(DropReason::FragmentNoFirst);
    let fates: BTreeMap<_, _> = table.fates().into_iter().collect();
    assert_eq!(fates, [(1, lost), (3, Fate::Passed)].into());
}

#[test]
fn datagrams_that_meet_in_one_bucket_give_way_to_newer_ones() {
    let payer = |n: usize| Payer::Peer(PeerIndex(u16::try_from(n).unwrap()));
    let mut table = Table::new();
    let home = table.fragments.bucket(&key(0));
    let crowd: Vec<u32> = (0..)
        .filter(|&id| table.fragments.bucket(&key(id)) == home)
        .take(40)
        .collect();
    for (n, &id) in crowd.iter().enumerate() {
        table.arrive(&key(id), payer(n), piece(8, 16, true), id, true, Tick(0));
    }
    let gone: Vec<u32> = table.fates().into_iter().map(|(frame, _)| frame).collect();
    assert_eq!(gone, crowd[..8]);
    for (n, &id) in crowd.iter().enumerate().skip(8) {
        table.arrive(&key(id), payer(n), piece(0, 8, false), id, true, Tick(0));
    }
    assert_eq!(table.fates().len(), 2 * 32);
}

#[test]
fn a_place_used_anew_is_not_the_old_datagrams() {
    let mut fragments = Fragments::<u32>::new(PORTS, HashKey([7, 9]));
    let lost = &mut |w: Waiting<u32>, why| panic!("{} is lost: {why:?}", w.frame);
    let payer = Payer::Sender(VF);
    let first = piece(0, 8, false);
    let Arrival::First(old) = fragments.arrive(&key(1), payer, first, Tick(0), lost) else {
        panic!("not a first");
    };
    let later = Tick(LIFETIME_NS);
    fragments.expire(later, lost);
    let Arrival::First(new) = fragments.arrive(&key(2), payer, first, later, lost) else {
        panic!("not a first");
    };
    // What became of the old one is not what became of the new one.
    fragments.refuse(old, lost);
    fragments.pass(new, learned(1), OUT, lost).unwrap();
    let next = fragments.arrive(&key(2), payer, piece(8, 16, true), later, lost);
    assert_eq!(next, Arrival::Follow(new, learned(1)));
}
