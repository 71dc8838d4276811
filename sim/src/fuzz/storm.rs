//! A storm of rekeys: all keys are renewed again and again, under traffic, on wires that lose,
//! reorder, double, delay and turn what they carry, while nodes are parted, agents start anew
//! and dataplanes die. What may not be: anything that oracles find, or a packet lost that the
//! wires and the dead didn't take.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde_json::json;
use sluice_dataplane_core::meta::proto;
use sluice_dataplane_core::tick::Tick;
use sluice_dataplane_core::wire;
use sluice_offload_api::model::{NodeName, Protocol, Verdict};

use super::draw::one;
use super::judge::{Failure, said};
use crate::dice::Dice;
use crate::fault::{Fault, Heal, Percent, Program, Span};
use crate::input::Manifests;
use crate::oracle::Oracles;
use crate::probe::{Family, Party, Probe, ProbePort};
use crate::sighting::{Sighting, Way};
use crate::world::{MARKER, World, WorldConfig};

/// Nodes, and pods on each.
const NODES: usize = 3;
const PODS: usize = 2;
/// Where questions go, and where they come from: one flow for each two pods and family.
const PORT: u16 = 8_080;
const FIRST_PORT: u16 = 40_000;
/// Packets that are sent at once.
const CASTS: usize = 6;
/// Turns of traffic between a key and its use.
const TURNS_MAX: usize = 3;
/// How long a turn takes, in nanoseconds: some of what is under way arrives.
const TURN_NS: u64 = 20_000;
/// How long until what was sent must have come, in nanoseconds.
const ARRIVE_NS: u64 = 100_000_000;
/// How long a dataplane stalls before the next rekey begins, in seconds.
const STALLED_S_MAX: usize = 30;
/// Pairs of SAs between two nodes when the next rekey begins, at most.
const PAIRS_MAX: usize = 4;
/// Rekeys until the weather may change.
const WEATHER: usize = 8;
/// Workers of each dataplane, at most: there are as many SAs a direction, or four.
const WORKERS_MAX: usize = 3;
/// Flows that a dataplane has room for.
const FLOWS_MAX: usize = 1 << 12;

/// What a storm came to. The same seed gives the same.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Storm {
    /// The seed.
    pub seed: u64,
    /// Times that all keys were renewed.
    pub rekeys: u64,
    /// Keys from one node to another that have taken another one's place, which is gone.
    pub keys_replaced: u64,
    /// Packets that were sent, without their answers.
    pub sent: u64,
    /// Of those, the ones that came.
    pub came: u64,
    /// Rekeys under which nothing could take a packet, so that each had to come.
    pub exact: u64,
    /// What was broken, how often.
    pub broken: BTreeMap<&'static str, u64>,
    /// Dropped frames by reason.
    pub drops: BTreeMap<String, u64>,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
}

/// Plays a storm of so many rekeys, then heals everything and asks for life.
///
/// # Errors
/// [`Failure`], also where the code panics.
pub fn storm(seed: u64, rekeys: u64) -> Result<Storm, Failure> {
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut storm = Raging::begin(seed)?;
        for _ in 0..rekeys {
            storm.rekey()?;
        }
        storm.calm_down()
    }));
    played.unwrap_or_else(|panic| Err(said(&*panic)))
}

fn failed(kind: &str, what: impl ToString) -> Failure {
    Failure {
        kind: kind.to_owned(),
        what: format!("{kind}: {}", what.to_string()),
    }
}

fn error(what: impl ToString) -> Failure {
    failed("error", what)
}

/// The epoch by which each node sends to each other one.
type Epochs = BTreeMap<(NodeName, NodeName), Option<u64>>;

struct Raging {
    dice: Dice,
    world: World,
    oracles: Oracles,
    told: Storm,
    /// Faults of the wires.
    broken: BTreeSet<&'static str>,
    dead: Option<String>,
    stalled: Option<String>,
    /// The agent that does nothing.
    resting: Option<String>,
    /// A dataplane has started anew while nodes were parted, and may have no keys with another.
    keyless: bool,
    /// Packets of this rekey, and how often each came.
    casts: BTreeMap<Vec<u8>, u64>,
}

fn node(number: usize) -> String {
    format!("node-{number}")
}

fn pod(number: usize) -> Party {
    Party::Pod {
        namespace: "n".to_owned(),
        name: format!("p{number}"),
    }
}

/// Nodes with pods, and nobody has a policy.
fn cluster() -> String {
    let mut objects = Vec::new();
    for at in 0..NODES {
        objects.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": node(at)},
        }));
        for number in at * PODS..(at + 1) * PODS {
            let host = number + 2;
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": format!("p{number}"), "namespace": "n"},
                "spec": {"nodeName": node(at)},
                "status": {"podIPs": [
                    {"ip": format!("10.1.{at}.{host}")}, {"ip": format!("fd01::{at}:{host}")},
                ]},
            }));
        }
    }
    let texts: Vec<_> = objects.iter().map(ToString::to_string).collect();
    texts.join("\n---\n")
}

impl Raging {
    fn begin(seed: u64) -> Result<Self, Failure> {
        let mut dice = Dice::new(seed, "storm");
        let workers = Dice::new(seed, "workers").within(1, WORKERS_MAX);
        let algorithms = sluice_crypto::key::Algorithm::ALL;
        let config = WorldConfig {
            seed,
            algorithm: one(&mut dice, &algorithms, WorldConfig::default().algorithm),
            esn: dice.chance(70),
            underlay: one(&mut dice, &[Family::Ipv4, Family::Ipv6], Family::Ipv4),
            udp_encap: dice.chance(30),
            flows_max: FLOWS_MAX,
            workers: u8::try_from(workers).unwrap_or(1),
            ..WorldConfig::default()
        };
        let manifests = Manifests::parse("storm.yaml", &cluster()).map_err(error)?;
        let world = World::boot(manifests.cluster, config).map_err(error)?;
        let told = Storm {
            seed,
            ..Storm::default()
        };
        let mut storm = Self {
            dice,
            world,
            oracles: Oracles::default(),
            told,
            broken: BTreeSet::new(),
            dead: None,
            stalled: None,
            resting: None,
            keyless: false,
            casts: BTreeMap::new(),
        };
        storm.must_live()?;
        Ok(storm)
    }

    /// Renews all keys once, with traffic before, between and behind.
    fn rekey(&mut self) -> Result<(), Failure> {
        if self.dice.below(WEATHER) == 0 {
            self.weather()?;
        }
        let before = self.lost();
        let started = self.programs()?;
        self.casts.clear();
        self.cast()?;
        let epochs = self.world.epochs();
        self.world.begin_rekey();
        for _ in 0..self.dice.below(TURNS_MAX + 1) {
            self.turn()?;
        }
        // Keys of some rekeys before may still be there.
        let pairs = self.dice.within(1, PAIRS_MAX);
        self.world.wait_for_keys(pairs);
        self.must_be_renewed(&epochs)?;
        self.turn()?;
        self.world.run_for(ARRIVE_NS);
        self.told.rekeys += 1;
        let seen = self.world.take_sightings();
        self.look(&seen)?;
        self.weigh(before, started)
    }

    /// Where nodes hear each other, nothing is lost and all dataplanes work, each key is another one
    /// now.
    fn must_be_renewed(&self, before: &Epochs) -> Result<(), Failure> {
        let broken = ["loss", "partition"];
        let hindered = broken.iter().any(|it| self.broken.contains(it));
        if hindered || self.dead.is_some() || self.stalled.is_some() {
            return Ok(());
        }
        let now = self.world.epochs();
        let old = before.iter().find(|(way, was)| {
            let now = now.get(way).copied().flatten();
            now.is_none() || now <= **was
        });
        match old {
            Some(((from, to), was)) => {
                let text = format!(
                    "rekey {}: {from} still sends to {to} by epoch {was:?}",
                    self.told.rekeys
                );
                Err(failed("rekey", text))
            }
            None => Ok(()),
        }
    }

    /// Packets, and some time: not enough for all of them to come.
    fn turn(&mut self) -> Result<(), Failure> {
        self.cast()?;
        self.world.run_for(TURN_NS);
        Ok(())
    }

    /// Sends some packets between pods of different nodes.
    fn cast(&mut self) -> Result<(), Failure> {
        let all = NODES * PODS;
        for _ in 0..CASTS {
            let from = self.dice.below(all);
            let to = (from + PODS + self.dice.below(all - PODS)) % all;
            if from / PODS == to / PODS {
                continue;
            }
            let family = one(&mut self.dice, &[Family::Ipv4, Family::Ipv6], Family::Ipv4);
            let flow = u16::try_from(from * all + to).unwrap_or(0);
            let probe = Probe {
                from: pod(from),
                to: pod(to),
                from_network: None,
                to_network: None,
                source_port: Some(FIRST_PORT + flow),
                protocol: Protocol::Udp,
                port: Some(ProbePort::Number(PORT)),
                family: Some(family),
                expect: None,
            };
            let number = format!(" {:08}", self.told.sent);
            let payload = [MARKER, number.as_bytes()].concat();
            self.world.cast(&probe, &payload).map_err(error)?;
            self.told.sent += 1;
            self.casts.insert(payload, 0);
        }
        Ok(())
    }

    /// Heals the wires, and breaks something else of them, or nothing.
    fn weather(&mut self) -> Result<(), Failure> {
        if !self.broken.is_empty() {
            self.world.heal(&Heal::All).map_err(error)?;
            self.broken.clear();
            (self.stalled, self.resting) = (None, None);
            self.keyless = false;
        }
        let kinds = [
            "loss",
            "duplication",
            "reordering",
            "corruption",
            "delay",
            "partition",
        ];
        for _ in 0..self.dice.below(4) {
            let kind = one(&mut self.dice, &kinds, "loss");
            let percent = u8::try_from(self.dice.within(5, 60)).unwrap_or(5);
            let percent = Percent::new(percent);
            let fault = match kind {
                "duplication" => Fault::Duplication(percent),
                "reordering" => Fault::Reordering(percent),
                "corruption" => Fault::Corruption(percent),
                // Less than a rekey waits for what is under way.
                "delay" => Fault::Delay(Span { ns: 3_000_000 }),
                "partition" => {
                    let a = self.dice.below(NODES);
                    let b = (a + 1 + self.dice.below(NODES - 1)) % NODES;
                    Fault::Partition([node(a), node(b)])
                }
                _ => Fault::Loss(percent),
            };
            self.world.fault(&fault).map_err(error)?;
            self.broken.insert(kind);
            *self.told.broken.entry(kind).or_default() += 1;
        }
        Ok(())
    }

    /// Stalls agents and starts them anew, kills dataplanes and starts them. Whether one was dead or is.
    fn programs(&mut self) -> Result<bool, Failure> {
        if let Some(node) = self.dead.take() {
            let program = Program::Dataplane(node);
            self.world.restart(&program).map_err(error)?;
            self.keyless = self.broken.contains("partition");
            return Ok(true);
        }
        if let Some(node) = self.stalled.take() {
            let program = Program::Dataplane(node);
            self.world.heal(&Heal::Stalled(program)).map_err(error)?;
            return Ok(false);
        }
        if let Some(node) = self.resting.take() {
            let program = Program::Agent(node);
            self.world.heal(&Heal::Stalled(program)).map_err(error)?;
        }
        let node = node(self.dice.below(NODES));
        let what = match self.dice.below(12) {
            0 | 1 => {
                let program = Program::Agent(node);
                self.world.restart(&program).map_err(error)?;
                "agent started anew"
            }
            2 => {
                let program = Program::Dataplane(node.clone());
                self.world.kill(&program).map_err(error)?;
                self.dead = Some(node);
                "dataplane killed"
            }
            3 => {
                let program = Program::Dataplane(node.clone());
                let fault = Fault::Stalled(program);
                self.world.fault(&fault).map_err(error)?;
                self.stalled = Some(node);
                // Some for so long that their peers take them for dead.
                let seconds = u64::try_from(self.dice.below(STALLED_S_MAX)).unwrap_or(0);
                self.world.run_for(seconds * Tick::SECOND);
                "dataplane stalled"
            }
            4 => {
                let program = Program::Agent(node.clone());
                let fault = Fault::Stalled(program);
                self.world.fault(&fault).map_err(error)?;
                self.resting = Some(node);
                "agent stalled"
            }
            _ => return Ok(false),
        };
        *self.told.broken.entry(what).or_default() += 1;
        Ok(self.dead.is_some())
    }

    /// Shows the oracles what was seen, and counts which packets came.
    fn look(&mut self, seen: &[Sighting]) -> Result<(), Failure> {
        for it in seen.iter().filter(|it| it.way == Way::Delivered) {
            if let Some(came) = question(it).and_then(|it| self.casts.get_mut(it)) {
                self.told.came += u64::from(*came == 0);
                *came += 1;
            }
        }
        match self.oracles.look(&self.world, seen).first() {
            Some(breach) => Err(failed(breach.oracle, breach)),
            None => Ok(()),
        }
    }

    /// Holds what came against what was sent: under wires that only double, delay or reorder
    /// each packet came, once; and only a turned bit or a dead end makes a packet one of no
    /// key, of a key too many, or of a window that has gone on.
    fn weigh(&mut self, before: [u64; 4], a_node_was_dead: bool) -> Result<(), Failure> {
        let taken = self.world.drops();
        if self.broken.contains("corruption") || a_node_was_dead {
            return Ok(());
        }
        // Of no key, or of one that is gone: of these two alone may a keyless one's packets be.
        let told = if self.keyless { 2 } else { 0 };
        if self.lost().iter().skip(told).ne(before.iter().skip(told)) {
            let drops: Vec<_> = taken.iter().map(|it| format!("{it:?}")).collect();
            let text = format!(
                "rekey {}: packets were dropped for their keys: {before:?} and now {:?} for \
                 {LOST:?}; all drops: {}",
                self.told.rekeys,
                self.lost(),
                drops.join(", ")
            );
            return Err(failed("loss", text));
        }
        let swallow = ["loss", "partition"];
        if self.stalled.is_some() || swallow.iter().any(|it| self.broken.contains(it)) {
            return Ok(());
        }
        self.told.exact += 1;
        match self.casts.iter().find(|it| *it.1 != 1) {
            Some((payload, came)) => {
                let text = String::from_utf8_lossy(payload);
                let rekey = self.told.rekeys;
                let broken = &self.broken;
                Err(failed(
                    "loss",
                    format!("rekey {rekey}: packet `{text}` came {came} times; broken: {broken:?}"),
                ))
            }
            None => Ok(()),
        }
    }

    /// Frames that were dropped for the reasons of [`LOST`].
    fn lost(&self) -> [u64; 4] {
        let drops = self.world.drops();
        LOST.map(|reason| {
            let these = drops.iter().filter(|it| it.reason == reason);
            these.map(|it| it.frames).sum()
        })
    }

    /// Everything is whole again, and everyone speaks to everyone.
    fn calm_down(mut self) -> Result<Storm, Failure> {
        if let Some(node) = self.dead.take() {
            let program = Program::Dataplane(node);
            self.world.restart(&program).map_err(error)?;
        }
        (self.stalled, self.resting) = (None, None);
        self.world.heal(&Heal::All).map_err(error)?;
        self.world.rekey().map_err(error)?;
        self.must_live()?;
        if let Some(wrong) = self.world.unsettled().first() {
            return Err(failed("settled", wrong));
        }
        self.told.keys_replaced = self.world.keys_replaced();
        self.told.virtual_ms = self.world.now().0 / 1_000_000;
        for drop in self.world.drops() {
            *self.told.drops.entry(drop.reason).or_default() += drop.frames;
        }
        Ok(self.told)
    }

    fn must_live(&mut self) -> Result<(), Failure> {
        let all = NODES * PODS;
        for (from, to) in (0..all).flat_map(|from| (0..all).map(move |to| (from, to))) {
            if from == to {
                continue;
            }
            let probe = Probe {
                from: pod(from),
                to: pod(to),
                from_network: None,
                to_network: None,
                source_port: None,
                protocol: Protocol::Tcp,
                port: Some(ProbePort::Number(PORT)),
                family: Some(if (from + to) % 2 == 0 {
                    Family::Ipv4
                } else {
                    Family::Ipv6
                }),
                expect: None,
            };
            let seen = self.world.probe(&probe).map_err(error)?;
            if seen.verdict != Verdict::Allow {
                let text = format!("{} to {} is not answered", pod(from), pod(to));
                return Err(failed("life", text));
            }
        }
        let seen = self.world.take_sightings();
        self.look(&seen)
    }
}

/// Why packets are dropped that a rekey has lost.
const LOST: [&str; 4] = ["no-sa", "unknown-spi", "esp-stale", "sa-exhausted"];

/// The payload of a question that comes to whom it is for.
fn question(seen: &Sighting) -> Option<&[u8]> {
    let meta = wire::parse(&seen.frame).ok()?;
    let is_question = meta.protocol == proto::UDP && meta.dst_port == PORT;
    let whose = seen.who.as_ref()?;
    let is_for = is_question && whose.mac == meta.eth_dst;
    let payload = usize::from(meta.l4_off) + 8..usize::from(meta.l3_end);
    seen.frame.get(payload).filter(|_| is_for)
}
