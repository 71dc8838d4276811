//! Two life cycles over a network that loses, doubles, reorders and breaks, workers that stand
//! still and processes that restart. Then it heals, and exactly one pair each way must remain.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crypto::esp::Spi;
use sluice_crypto::key::{Algorithm, Fingerprint};
use sluice_crypto::lifecycle::{
    ExporterSecret, Limits, Message, PeerConfig, SaAction, SaEvent, SaLifecycle, SessionId,
    SpiBlock, TimeMs, Timing,
};

const DRAIN_MS: u64 = 300;
/// Longest a data packet or a worker takes; the drain must cover both.
const DELAY_MS_MAX: u64 = 100;
/// Between reports of what SAs have opened.
const REPORT_MS: u64 = 100;
/// Longest that a worker stands still.
const STALL_MS_MAX: u64 = 4_000;
const HARD_MS: u64 = 6_000;
/// Of both ends of a session, from its number on.
const SPIS: u32 = 64;
const FIRST_SPI: u32 = 0x1_0000;
/// Longest that an exchange may take.
const ESTABLISH_MS_MAX: u64 = 1_500;
/// Longest that a message is under way: two exchanges.
const LATE_MS_MAX: u64 = 2 * ESTABLISH_MS_MAX;

struct Rng(u64);

impl Rng {
    fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// Something on its way to a node in one of its lives.
enum Due {
    Event(SaEvent),
    Data(Spi, Fingerprint),
    Dialled,
}

struct Inbound {
    key: Fingerprint,
    since: u64,
    packets: u64,
}

struct Node {
    machine: SaLifecycle,
    life: u64,
    inbound: BTreeMap<Spi, Inbound>,
    /// Those that went at their hard limit, whatever was still to come.
    ended: BTreeSet<Spi>,
    /// Data that waits for a worker that stands still.
    port: Vec<(Spi, Fingerprint)>,
    /// Until when it does.
    stalled_until: u64,
    report_at: u64,
    /// Until when what it has reported waits on its way.
    told_at: u64,
    /// By child: SPI, key, and the receiver's life that it was agreed with.
    outbound: BTreeMap<u8, (Spi, Fingerprint, u64)>,
    /// When the worker has done everything asked so far: it works in order.
    worker_free: u64,
}

struct World {
    rng: Rng,
    now: u64,
    nodes: [Node; 2],
    due: BTreeMap<(u64, u64), (usize, u64, Due)>,
    count: u64,
    /// The open sessions,
    sessions: BTreeSet<SessionId>,
    /// and the lives at both ends of each that there was.
    lives: BTreeMap<SessionId, [u64; 2]>,
    used: BTreeSet<(Fingerprint, usize)>,
    faulty: bool,
    met: Met,
    log: Vec<String>,
}

/// How often what it is about has happened.
#[derive(Default, Debug)]
struct Met {
    /// Both ends wanted new keys in the same moment.
    crossed: u32,
    /// The word that an end no longer sends by old keys was lost.
    deletes_lost: u32,
    /// A message came when its session was closed at one end.
    late: u32,
    /// An end restarted while another session was being opened.
    restarts_between: u32,
}

fn machine(at: usize, life: u64, seed: u64, now: u64) -> SaLifecycle {
    let ids = ["spiffe://test/node/a", "spiffe://test/node/b"];
    let config = PeerConfig {
        local: ids[at].to_owned(),
        peer: ids[1 - at].to_owned(),
        instance: life * 2 + at as u64 + 1000,
        jitter_seed: seed ^ life,
        lanes: if at == 0 { 1 } else { 1 + (seed % 3) as u8 },
        algorithms: Algorithm::ALL.to_vec(),
        esn: true,
        limits: Limits {
            soft_ms: 2_000,
            jitter_ms: 500,
            hard_ms: HARD_MS,
            ..Limits::default()
        },
        timing: Timing {
            establish_ms_max: ESTABLISH_MS_MAX,
            resend_ms: 200,
            ping_ms: 250,
            dead_ms: 1_000,
            drain_ms: DRAIN_MS,
            backoff_ms_min: 20,
            backoff_ms_max: 500,
        },
    };
    SaLifecycle::new(config, TimeMs(now)).expect("a sound configuration")
}

impl World {
    fn new(seed: u64) -> Self {
        let node = |at| Node {
            machine: machine(at, 1, seed, 0),
            life: 1,
            inbound: BTreeMap::new(),
            ended: BTreeSet::new(),
            port: Vec::new(),
            stalled_until: 0,
            report_at: 0,
            told_at: 0,
            outbound: BTreeMap::new(),
            worker_free: 0,
        };
        Self {
            rng: Rng(seed.wrapping_mul(0x9e37_79b9).wrapping_add(7)),
            now: 0,
            nodes: [node(0), node(1)],
            due: BTreeMap::new(),
            count: 0,
            sessions: BTreeSet::new(),
            lives: BTreeMap::new(),
            used: BTreeSet::new(),
            faulty: true,
            met: Met::default(),
            log: Vec::new(),
        }
    }

    fn later(&mut self, at: usize, delay: u64, due: Due) {
        self.count += 1;
        let life = self.nodes[at].life;
        self.due
            .insert((self.now + delay, self.count), (at, life, due));
    }

    fn delay(&mut self) -> u64 {
        let max = match self.rng.below(100) {
            _ if !self.faulty => 30,
            0 => LATE_MS_MAX,
            1..=5 => 900,
            _ => 30,
        };
        1 + self.rng.below(max)
    }

    /// One step in time. Whether anything happened.
    fn step(&mut self, seed: u64) {
        let deadline = self
            .nodes
            .iter()
            .filter_map(|n| n.machine.next_deadline())
            .min();
        let next = self.due.keys().next().map(|k| k.0);
        let next = [deadline.map(|d| d.0), next, Some(self.now + 50)]
            .into_iter()
            .flatten()
            .min();
        self.now = self.now.max(next.expect("a bound"));
        while let Some(entry) = self.due.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (at, life, due) = entry.remove();
            if self.nodes[at].life == life {
                self.happen(at, due);
            }
        }
        for at in 0..2 {
            self.nodes[at].machine.on_deadline(TimeMs(self.now));
            self.act(at);
            self.report(at);
        }
        if self.faulty {
            self.break_something(seed);
        }
        self.check();
        self.send_data();
    }

    fn happen(&mut self, at: usize, due: Due) {
        match due {
            Due::Event(event) => {
                if let SaEvent::Received { session, .. } = &event
                    && !self.sessions.contains(session)
                {
                    // What was read before it closed may still wait for who reads it.
                    if !self.faulty || self.rng.percent(50) {
                        return;
                    }
                    self.met.late += 1;
                }
                self.nodes[at].machine.on_event(event, TimeMs(self.now));
            }
            Due::Data(spi, key) if self.now < self.nodes[at].stalled_until => {
                self.nodes[at].port.push((spi, key));
            }
            Due::Data(spi, key) => self.receive(at, spi, key),
            Due::Dialled => self.dialled(),
        }
        self.act(at);
    }

    fn receive(&mut self, at: usize, spi: Spi, key: Fingerprint) {
        let node = &mut self.nodes[at];
        if let Some(inbound) = node.inbound.get_mut(&spi).filter(|it| it.key == key) {
            inbound.packets += 1;
            return;
        }
        let ended = node.ended.contains(&spi);
        assert!(ended, "a packet for {spi} was lost\n{}", self.tail());
    }

    /// A worker that runs says what it has opened, and then takes what waits at its port. Who
    /// hears it has other things to do, maybe.
    fn report(&mut self, at: usize) {
        let delay = if self.faulty && self.rng.percent(20) {
            self.rng.below(3_000)
        } else {
            0
        };
        let node = &mut self.nodes[at];
        if self.now < node.stalled_until || self.now < node.report_at {
            return;
        }
        let asked = TimeMs(node.report_at);
        node.report_at = self.now + REPORT_MS;
        node.told_at = node.told_at.max(self.now + delay);
        let told_at = node.told_at;
        let counts = node.inbound.iter().map(|(spi, it)| (*spi, it.packets));
        let counts: Vec<_> = counts.collect();
        let waiting = std::mem::take(&mut node.port);
        for (spi, packets) in counts {
            let used = SaEvent::InboundUsed {
                spi,
                packets,
                asked,
            };
            self.later(at, told_at - self.now, Due::Event(used));
        }
        for (spi, key) in waiting {
            self.receive(at, spi, key);
        }
    }

    fn dialled(&mut self) {
        if self.faulty && self.rng.percent(15) {
            self.nodes[0]
                .machine
                .on_event(SaEvent::DialFailed, TimeMs(self.now));
            return;
        }
        self.count += 1;
        let session = SessionId(self.count);
        self.sessions.insert(session);
        let lives = self.nodes.each_ref().map(|it| it.life);
        self.lives.insert(session, lives);
        for at in 0..2 {
            let mut bytes = [0; ExporterSecret::LEN];
            bytes[..8].copy_from_slice(&session.0.to_be_bytes());
            let secret = ExporterSecret::take_from(&mut bytes);
            let base = u32::try_from(session.0).expect("short") * SPIS + FIRST_SPI;
            let receive = SpiBlock::new(base + 32 * at as u32).expect("not reserved");
            let up = SaEvent::SessionUp {
                session,
                secret,
                receive,
            };
            let delay = if at == 0 { 0 } else { self.delay() };
            self.later(at, delay, Due::Event(up));
        }
    }

    fn act(&mut self, at: usize) {
        while let Some(action) = self.nodes[at].machine.next_action() {
            self.log.push(format!("{} node {at}: {action:?}", self.now));
            let free = self.nodes[at].worker_free.max(self.now) + 1 + self.rng.below(10);
            match action {
                SaAction::Dial => {
                    let delay = self.delay();
                    self.later(at, delay, Due::Dialled);
                }
                SaAction::Send(session, message) => self.carry(at, session, &message),
                SaAction::Close(session, _) => {
                    self.sessions.remove(&session);
                    let delay = self.delay();
                    self.later(1 - at, delay, Due::Event(SaEvent::SessionDown { session }));
                }
                SaAction::InstallInbound(sa) => {
                    let (spi, since) = (sa.spi, self.now);
                    let inbound = Inbound {
                        key: sa.key.fingerprint(),
                        since,
                        packets: 0,
                    };
                    let fresh = self.nodes[at].inbound.insert(spi, inbound).is_none();
                    assert!(fresh, "{spi} was installed twice");
                    self.nodes[at].worker_free = free;
                    let event = SaEvent::InboundInstalled(spi);
                    self.later(at, free - self.now, Due::Event(event));
                }
                SaAction::InstallOutbound(sa) => {
                    let print = sa.key.fingerprint();
                    let fresh = self.used.insert((print, 0));
                    assert!(fresh, "key {print} seals twice\n{}", self.tail());
                    let session = u64::from((sa.spi.0 - FIRST_SPI) / SPIS);
                    let life = self.lives[&SessionId(session)][1 - at];
                    self.nodes[at]
                        .outbound
                        .insert(sa.child, (sa.spi, print, life));
                    self.nodes[at].worker_free = free;
                    let event = SaEvent::OutboundInstalled(sa.spi);
                    self.later(at, free - self.now, Due::Event(event));
                }
                SaAction::RetireInbound(spi) => {
                    let gone = self.nodes[at].inbound.remove(&spi);
                    if gone.is_some_and(|it| it.since + HARD_MS <= self.now) {
                        self.nodes[at].ended.insert(spi);
                    }
                }
                SaAction::RetireOutbound(spi) => {
                    self.nodes[at].outbound.retain(|_, sa| sa.0 != spi);
                }
                SaAction::Established(..) => {}
            }
        }
    }

    fn carry(&mut self, at: usize, session: SessionId, message: &Message) {
        if self.faulty && self.rng.percent(10) {
            self.met.deletes_lost += u32::from(matches!(message, Message::Delete { .. }));
            return;
        }
        let copies = if self.faulty && self.rng.percent(10) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let delay = self.delay();
            let event = SaEvent::Received {
                session,
                message: message.clone(),
            };
            self.later(1 - at, delay, Due::Event(event));
        }
    }

    fn break_something(&mut self, seed: u64) {
        if self.rng.percent(1)
            && let Some(session) = self.sessions.last().copied()
        {
            self.sessions.remove(&session);
            self.log.push(format!("{} {session:?} breaks", self.now));
            for at in 0..2 {
                let delay = self.delay();
                self.later(at, delay, Due::Event(SaEvent::SessionDown { session }));
            }
        }
        if self.rng.below(400) == 0 {
            let at = usize::try_from(self.rng.below(2)).expect("0 or 1");
            self.restart(at, seed);
        }
        if self.rng.below(200) == 0 {
            let at = usize::try_from(self.rng.below(2)).expect("0 or 1");
            let until = self.now + self.rng.below(STALL_MS_MAX);
            self.log
                .push(format!("{} node {at} stalls until {until}", self.now));
            self.nodes[at].stalled_until = until;
        }
        if self.rng.below(100) == 0 {
            let both = [0, 1];
            let who = [&both[..1], &both[1..], &both][self.rng.below(3) as usize];
            self.met.crossed += u32::from(who.len() == 2 && !self.sessions.is_empty());
            for at in who {
                self.nodes[*at]
                    .machine
                    .on_event(SaEvent::RekeyWanted, TimeMs(self.now));
            }
            who.iter().for_each(|at| self.act(*at));
        }
    }

    fn restart(&mut self, at: usize, seed: u64) {
        let life = self.nodes[at].life + 1;
        self.met.restarts_between += u32::from(self.sessions.len() > 1);
        self.log.push(format!("{} node {at} restarts", self.now));
        self.nodes[at] = Node {
            machine: machine(at, life, seed, self.now),
            life,
            inbound: BTreeMap::new(),
            ended: BTreeSet::new(),
            port: Vec::new(),
            stalled_until: 0,
            report_at: self.now,
            told_at: self.now,
            outbound: BTreeMap::new(),
            worker_free: self.now,
        };
        let sessions: Vec<_> = std::mem::take(&mut self.sessions).into_iter().collect();
        for session in sessions {
            let delay = self.delay();
            self.later(1 - at, delay, Due::Event(SaEvent::SessionDown { session }));
        }
    }

    /// Whoever may send is heard, unless the receiver lost everything in a restart.
    fn check(&self) {
        for at in 0..2 {
            let peer = &self.nodes[1 - at];
            for (spi, key, life) in self.nodes[at].outbound.values() {
                if *life == peer.life {
                    let got = peer.inbound.get(spi).map(|it| &it.key);
                    assert_eq!(got, Some(key), "node {at} sends by {spi}\n{}", self.tail());
                }
            }
        }
    }

    fn send_data(&mut self) {
        for at in 0..2 {
            let sas: Vec<_> = self.nodes[at].outbound.values().copied().collect();
            for (spi, key, life) in sas {
                if life == self.nodes[1 - at].life {
                    let delay = self.rng.below(DELAY_MS_MAX);
                    self.later(1 - at, delay, Due::Data(spi, key));
                }
            }
        }
    }

    fn is_settled(&self) -> bool {
        let [a, b] = self.nodes.each_ref().map(|n| n.machine.summary());
        a.session.is_some()
            && a.session == b.session
            && a.sending.is_some()
            && a.sending == b.sending
            && a.receiving == b.receiving
            && a.receiving.len() == 1
            && self
                .nodes
                .iter()
                .all(|n| n.inbound.len() == n.outbound.len())
    }

    fn tail(&self) -> String {
        let from = self.log.len().saturating_sub(60);
        self.log[from..].join("\n")
    }
}

fn run(seed: u64, faulty_ms: u64) -> Met {
    let mut world = World::new(seed);
    while world.now < faulty_ms {
        world.step(seed);
    }
    world.faulty = false;
    // The longest wait there can be: a dead session noticed, the longest backoff, an exchange,
    // a drain; and a rekey may just have begun.
    let stall = STALL_MS_MAX + 3 * REPORT_MS;
    let bound = world.now
        + LATE_MS_MAX
        + 1_000
        + 2 * ESTABLISH_MS_MAX
        + 2 * 500
        + HARD_MS
        + DRAIN_MS
        + stall;
    while !world.is_settled() {
        let states = world.nodes.each_ref().map(|n| n.machine.summary());
        assert!(
            world.now < bound,
            "seed {seed}: not settled: {states:?}\n{}",
            world.tail()
        );
        world.step(seed);
    }
    world.met
}

#[test]
fn over_a_faulty_network_no_key_repeats_nothing_is_lost_and_one_pair_remains() {
    let mut all = Met::default();
    for seed in 0..500 {
        let met = run(seed, 10_000);
        all.crossed += met.crossed;
        all.deletes_lost += met.deletes_lost;
        all.late += met.late;
        all.restarts_between += met.restarts_between;
    }
    let least = all.crossed.min(all.deletes_lost).min(all.late);
    assert!(least.min(all.restarts_between) >= 100, "{all:?}");
}

#[test]
fn without_faults_every_rekey_follows_in_time_and_no_sending_gap_is_left() {
    let mut world = World::new(1);
    world.faulty = false;
    while !world.is_settled() {
        world.step(1);
        assert!(world.now < 1_000, "{}", world.tail());
    }
    while world.now < 60_000 {
        world.step(1);
        assert!(
            world.nodes.iter().all(|n| !n.outbound.is_empty()),
            "{}",
            world.tail()
        );
    }
    let epochs = world.nodes[0].machine.summary().sending.expect("in force");
    assert!((29..=42).contains(&epochs), "{epochs} epochs in a minute");
}
