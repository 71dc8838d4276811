//! Watches a run and writes its timeline down.

use std::collections::BTreeMap;

use sluice_dataplane_core::reason::DropReason;

use super::faults;
use super::flows::{Names, Traffic, traffic};
use super::model::{
    Answer, Drop, FailedCheck, FreshKey, InForce, PodSpan, ReasonText, StepSpan, TALKS_MAX, Talk,
    Timeline,
};
use crate::happening::{Happened, Happening};
use crate::input::Scenario;
use crate::probe::{Probe, ProbePort};
use crate::record::{self, RunRecord, StepRecord};
use crate::report::{Binding, DropCount};
use crate::sighting::Sighting;
use crate::verify::ProbeOutcome;
use crate::world::World;

/// Node, port and reason.
type Counter = (String, String, String);

/// Watches a run.
#[derive(Debug)]
pub struct Recorder {
    timeline: Timeline,
    names: Names,
    /// The step that is under way.
    step: usize,
    /// When it began, and how many checks had failed by then.
    began: (u64, usize),
    /// When the world was looked at last.
    looked_ns: u64,
    drops: BTreeMap<Counter, u64>,
    /// Pods that are there, and since when.
    here: Vec<PodSpan>,
}

impl Recorder {
    /// Of a world that has just booted.
    #[must_use]
    pub fn new(world: &mut World, scenario: &Scenario) -> Self {
        let nodes = world.cluster().nodes.keys().map(ToString::to_string);
        let mut recorder = Self {
            timeline: Timeline {
                scenario: scenario.name.clone(),
                description: words(&scenario.description),
                nodes: nodes.collect(),
                ..Timeline::default()
            },
            names: Names::default(),
            step: 0,
            began: (0, 0),
            looked_ns: 0,
            drops: BTreeMap::new(),
            here: Vec::new(),
        };
        recorder.look(world, None);
        recorder
    }

    /// A step begins, before anything of it is done.
    pub fn begin(&mut self, world: &World, step: usize, failed_checks: &[record::FailedCheck]) {
        self.step = step;
        self.began = (world.now().0, failed_checks.len());
    }

    /// Frames were seen, and nobody asked a question with them.
    pub fn seen(&mut self, world: &mut World, sightings: &[Sighting]) {
        for flow in traffic(sightings, &self.names) {
            self.talk(Self::unasked(self.step, flow));
        }
        self.look(world, None);
    }

    /// A question was asked, at that time.
    pub fn asked(
        &mut self,
        world: &mut World,
        from_ns: u64,
        probe: &Probe,
        outcome: &ProbeOutcome,
        sightings: &[Sighting],
    ) {
        let mut talk = Talk {
            step: self.step,
            from_ns,
            to_ns: world.now().0,
            from: outcome.from.clone(),
            to: outcome.to.clone(),
            what: asked(probe),
            sent: 0,
            delivered: 0,
            probe: Some(Answer {
                verdict: outcome.verdict,
                at: outcome.at,
                rule: outcome.rule.clone(),
                encrypted: outcome.encrypted,
                ok: outcome.ok,
                wrong: outcome
                    .disagreements
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
            }),
        };
        let mut others = Vec::new();
        for flow in traffic(sightings, &self.names) {
            // What nodes and their hostNetwork pods send has the node's address.
            let mine = flow.from == talk.from || flow.to == talk.to;
            if mine {
                talk.sent += flow.sent;
                talk.delivered += flow.delivered;
            } else {
                others.push(flow);
            }
        }
        let place = self.talk(talk);
        for flow in others {
            self.talk(Self::unasked(self.step, flow));
        }
        self.look(world, place);
    }

    fn unasked(step: usize, flow: Traffic) -> Talk {
        let Traffic {
            first,
            last,
            from,
            to,
            what,
            sent,
            delivered,
        } = flow;
        Talk {
            step,
            from_ns: first.0,
            to_ns: last.0,
            from,
            to,
            what,
            sent,
            delivered,
            probe: None,
        }
    }

    fn talk(&mut self, talk: Talk) -> Option<usize> {
        if self.timeline.talks.len() >= TALKS_MAX {
            self.timeline.talks_left_out += 1;
            return None;
        }
        self.timeline.talks.push(talk);
        Some(self.timeline.talks.len() - 1)
    }

    /// A step is over.
    pub fn end(
        &mut self,
        world: &mut World,
        line: u32,
        record: &StepRecord,
        failed_checks: &[record::FailedCheck],
    ) {
        self.look(world, None);
        let (from_ns, before) = self.began;
        let step = Some(self.step);
        self.failed(world, step, failed_checks.get(before..).unwrap_or_default());
        self.timeline.steps.push(StepSpan {
            verb: record.verb,
            about: record.about.clone(),
            line,
            ok: record.ok,
            probes: record.probes,
            work: record.work.iter().map(ToString::to_string).collect(),
            from_ns,
            to_ns: world.now().0,
        });
        self.began = (world.now().0, failed_checks.len());
    }

    fn failed(&mut self, world: &World, step: Option<usize>, checks: &[record::FailedCheck]) {
        let at_ns = world.now().0;
        self.timeline
            .failures
            .extend(checks.iter().map(|what| FailedCheck {
                at_ns,
                step,
                what: what.to_string(),
            }));
    }

    /// The run is over: its timeline.
    #[must_use]
    pub fn finish(mut self, world: &mut World, record: &RunRecord) -> Timeline {
        self.look(world, None);
        let late = record.failed_checks.get(self.began.1..).unwrap_or_default();
        self.failed(world, None, late);
        let mut timeline = self.timeline;
        timeline.pods.append(&mut self.here);
        timeline.pods.sort_by(|a, b| {
            let key = |it: &PodSpan| (it.node.clone(), it.pod.clone(), it.from_ns);
            key(a).cmp(&key(b))
        });
        timeline.seed = record.config.seed;
        timeline.ok = record.ok;
        timeline.end_ns = world.now().0;
        timeline.faults = faults::spans(&timeline.steps, &timeline.nodes);
        let told = |name: &str| timeline.drops.iter().any(|it| it.reason == name);
        let known = DropReason::ALL.iter().filter(|it| told(it.name()));
        timeline.reasons = known
            .map(|it| ReasonText {
                name: it.name(),
                text: words(it.about()),
            })
            .collect();
        timeline
    }

    /// Looks at counters, pods, generations and keys.
    fn look(&mut self, world: &mut World, talk: Option<usize>) {
        let happenings = world.take_happenings();
        let changed = happenings
            .iter()
            .any(|it| matches!(it.what, Happened::InForce(_)));
        if changed || self.looked_ns == 0 {
            self.names = Names::new(world.cluster());
            self.pods(world);
        }
        happenings.into_iter().for_each(|it| self.happened(it));
        self.dropped(world, talk);
        self.looked_ns = world.now().0;
    }

    fn happened(&mut self, happening: Happening) {
        let Happening { at, node, what } = happening;
        let (at_ns, node) = (at.0, node.0);
        let mut key = |peer: String, way: &'static str, spi: u32| {
            self.timeline.keys.push(FreshKey {
                at_ns,
                node: node.clone(),
                peer,
                way,
                spi: format!("0x{spi:08x}"),
            });
        };
        match what {
            Happened::Receives { from, spi } => key(from.0, "receive", spi),
            Happened::Sends { to, spi } => key(to.0, "send", spi),
            Happened::InForce(generation) => self.timeline.generations.push(InForce {
                at_ns,
                node,
                generation: generation.0,
            }),
        }
    }

    fn pods(&mut self, world: &World) {
        let now_ns = world.now().0;
        let bindings = world.bindings();
        let same = |it: &PodSpan, b: &Binding| {
            (&it.node, &it.pod, &it.vf, &it.ips) == (&b.node, &b.pod, &b.vf, &b.ips)
        };
        let (stay, gone): (Vec<_>, Vec<_>) = core::mem::take(&mut self.here)
            .into_iter()
            .partition(|it| bindings.iter().any(|b| same(it, b)));
        self.here = stay;
        self.timeline
            .pods
            .extend(gone.into_iter().map(|it| PodSpan {
                to_ns: Some(now_ns),
                ..it
            }));
        for binding in bindings {
            if self.here.iter().any(|it| same(it, &binding)) {
                continue;
            }
            let Binding {
                node, pod, vf, ips, ..
            } = binding;
            // Those of the beginning were there before the clock was looked at.
            let from_ns = if self.looked_ns == 0 { 0 } else { now_ns };
            self.here.push(PodSpan {
                node,
                pod,
                vf,
                ips,
                from_ns,
                to_ns: None,
            });
        }
    }

    fn dropped(&mut self, world: &World, talk: Option<usize>) {
        for count in world.drops() {
            let DropCount {
                node,
                port,
                reason,
                frames,
            } = count;
            let counter = (node.clone(), port.clone(), reason.clone());
            let before = self.drops.insert(counter, frames).unwrap_or(0);
            if frames <= before {
                continue;
            }
            let behind = self.here.iter().find(|it| it.node == node && it.vf == port);
            self.timeline.drops.push(Drop {
                step: self.step,
                from_ns: self.looked_ns,
                to_ns: world.now().0,
                pod: behind.map(|it| it.pod.clone()),
                node,
                port,
                reason,
                frames: frames - before,
                talk,
            });
        }
    }
}

/// Its protocol and port.
fn asked(probe: &Probe) -> String {
    let protocol = format!("{:?}", probe.protocol).to_uppercase();
    match &probe.port {
        None => protocol,
        Some(ProbePort::Number(number)) => format!("{protocol} {number}"),
        Some(ProbePort::Name(name)) => format!("{protocol} {name}"),
    }
}

/// A text on one line.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
