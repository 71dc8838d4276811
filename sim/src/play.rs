//! Playing a scenario: its steps against a world, one after the other.

use std::collections::BTreeMap;

use sluice_host_agent::cluster::Cluster;
use sluice_offload_api::model::Verdict;

use crate::changing::{Templates, patch, take_away};
use crate::fault::Span;
use crate::input::{
    Action, Attack, Expect, InputError, Matrix, PROBES_MAX, Place, PlacedProbe, Scenario, Spoof,
    Step,
};
use crate::links::Links;
use crate::oracle::Oracles;
use crate::output::{Progress, Recorder, Timeline};
use crate::probe::{Family, Party, Probe, ProbePort};
use crate::record::{
    ClusterRecord, ConfigRecord, DropRecord, FailedCheck, RunRecord, StepRecord, SteppedOutcome,
    WireRecord,
};
use crate::sighting::Sighting;
use crate::verify::{self, must_encrypt};
use crate::workload::{Change, Job, JobRecord, Meanwhile};
use crate::world::{AgentError, NodeError, World, WorldError};

/// A scenario that was played.
#[derive(Debug)]
pub struct Played {
    /// The world as it is at the end.
    pub world: World,
    /// The record.
    pub record: RunRecord,
}

/// Plays a scenario to its end. Checks that fail are recorded and the play goes on.
///
/// # Errors
/// [`InputError`] if a step can't be done.
pub fn play(scenario: &Scenario, progress: &mut Progress) -> Result<Played, InputError> {
    let (world, cluster) = boot(scenario)?;
    let (played, _) = Player::new(world, None, None, progress).play(scenario, cluster)?;
    Ok(played)
}

/// The same, with its timeline.
///
/// # Errors
/// [`InputError`] if a step can't be done.
pub fn play_on_record(
    scenario: &Scenario,
    progress: &mut Progress,
) -> Result<(Played, Timeline), InputError> {
    play_and_capture(scenario, None, progress)
}

/// The same, with what each link had, if there are links to note it on.
///
/// # Errors
/// [`InputError`] if a step can't be done.
pub fn play_and_capture(
    scenario: &Scenario,
    links: Option<&mut Links>,
    progress: &mut Progress,
) -> Result<(Played, Timeline), InputError> {
    let (mut world, cluster) = boot(scenario)?;
    let recorder = Recorder::new(&mut world, scenario);
    let player = Player::new(world, Some(recorder), links, progress);
    let (mut played, recorder) = player.play(scenario, cluster)?;
    let timeline = recorder.map(|it| it.finish(&mut played.world, &played.record));
    Ok((played, timeline.unwrap_or_default()))
}

fn boot(scenario: &Scenario) -> Result<(World, Cluster), InputError> {
    let cluster = scenario.manifests.cluster.clone();
    let world = World::boot(cluster.clone(), scenario.config.clone());
    let world = world.map_err(|error| unbootable(scenario, error))?;
    Ok((world, cluster))
}

/// A choice of VFs that can't be is a fault of the scenario, all else one of the manifests.
fn unbootable(scenario: &Scenario, error: WorldError) -> InputError {
    match (&scenario.vfs_place, &error) {
        (Some(place), WorldError::Node(NodeError::Agent(AgentError::Vf { .. }))) => {
            place.fault(error)
        }
        _ => error.into(),
    }
}

struct Player<'a> {
    world: World,
    templates: Templates,
    oracles: Oracles,
    results: Vec<SteppedOutcome>,
    /// Allowed probes between nodes that weren't encrypted.
    cleartext: usize,
    failed_checks: Vec<FailedCheck>,
    progress: &'a mut Progress,
    /// What came of the jobs of the step that is under way.
    work: Vec<JobRecord>,
    /// Who writes a timeline, if anyone does.
    recorder: Option<Recorder>,
    /// What each link had, if anyone wants to know.
    links: Option<&'a mut Links>,
}

impl<'a> Player<'a> {
    fn new(
        world: World,
        recorder: Option<Recorder>,
        links: Option<&'a mut Links>,
        progress: &'a mut Progress,
    ) -> Self {
        Self {
            world,
            templates: Templates::default(),
            oracles: Oracles::default(),
            results: Vec::new(),
            cleartext: 0,
            failed_checks: Vec::new(),
            progress,
            work: Vec::new(),
            recorder,
            links,
        }
    }

    fn play(
        mut self,
        scenario: &Scenario,
        mut cluster: Cluster,
    ) -> Result<(Played, Option<Recorder>), InputError> {
        self.templates.learn(&scenario.manifests.templates);
        let mut steps = Vec::new();
        for (index, step) in scenario.steps.iter().enumerate() {
            steps.push(self.step(index, step, &mut cluster)?);
        }
        self.always();
        if let Some(links) = &mut self.links {
            links.see(&self.world.take_sightings());
        }
        let recorder = self.recorder.take();
        Ok((self.finish(scenario, steps), recorder))
    }

    fn step(
        &mut self,
        index: usize,
        step: &Step,
        cluster: &mut Cluster,
    ) -> Result<StepRecord, InputError> {
        let (probes_before, checks_before) = (self.results.len(), self.failed_checks.len());
        if let Some(recorder) = &mut self.recorder {
            recorder.begin(&self.world, index, &self.failed_checks);
        }
        let (verb, about) = self.act(index, step, cluster)?;
        self.watch(index, &step.place);
        let asked = self.results.get(probes_before..).unwrap_or_default();
        let ok = asked.iter().all(|it| it.outcome.ok) && self.failed_checks.len() == checks_before;
        let record = StepRecord {
            verb,
            about,
            probes: asked.len(),
            work: core::mem::take(&mut self.work),
            ok,
        };
        if let Some(recorder) = &mut self.recorder {
            let line = step.place.line();
            recorder.end(&mut self.world, line, &record, &self.failed_checks);
        }
        Ok(record)
    }

    fn act(
        &mut self,
        index: usize,
        step: &Step,
        cluster: &mut Cluster,
    ) -> Result<(&'static str, String), InputError> {
        let place = &step.place;
        match &step.action {
            Action::Apply { path, manifests } => {
                manifests.put_over(cluster);
                self.templates.learn(&manifests.templates);
                self.change(cluster, place)?;
                Ok(("apply", path.clone()))
            }
            Action::Delete(delete) => {
                let about = take_away(cluster, delete, place)?;
                self.change(cluster, place)?;
                Ok(("delete", about))
            }
            Action::Patch(change) => {
                let about = patch(cluster, change, place)?;
                self.change(cluster, place)?;
                Ok(("patch", about))
            }
            Action::Scale(scale) => {
                let about = self.templates.scale(cluster, scale, place)?;
                self.change(cluster, place)?;
                Ok(("scale", about))
            }
            Action::Probe(probe) => {
                self.ask(index, core::slice::from_ref(probe))?;
                Ok(("probe", String::new()))
            }
            Action::Probes { path, probes } => {
                self.ask(index, probes)?;
                Ok(("probes", path.clone()))
            }
            Action::Matrix(matrix) => {
                let probes = pairs(self.world.cluster(), matrix, place)?;
                self.ask(index, &probes)?;
                Ok(("matrix", describe(matrix)))
            }
            Action::Wait { ns } => {
                self.world.run_for(*ns);
                Ok(("wait", format!("{ns} ns")))
            }
            Action::Rekey { times } => {
                for _ in 0..*times {
                    self.world.rekey().map_err(|error| place.fault(error))?;
                }
                Ok(("rekey", rekeyed(*times)))
            }
            Action::Fault(fault) => {
                let broken = self.world.fault(fault);
                broken.map_err(|error| place.fault(error))?;
                Ok(("fault", fault.to_string()))
            }
            Action::Heal(heal) => {
                let healed = self.world.heal(heal);
                healed.map_err(|error| place.fault(error))?;
                Ok(("heal", heal.to_string()))
            }
            Action::Kill(program) => {
                let killed = self.world.kill(program);
                killed.map_err(|error| place.fault(error))?;
                Ok(("kill", program.to_string()))
            }
            Action::Restart(program) => {
                let started = self.world.restart(program);
                started.map_err(|error| place.fault(error))?;
                Ok(("restart", program.to_string()))
            }
            Action::Replace(node) => {
                let replaced = self.world.replace(node);
                replaced.map_err(|error| place.fault(error))?;
                Ok(("replace", node.clone()))
            }
            Action::Attack(attack) => Ok(("attack", self.attack(index, attack, place)?)),
            Action::Spoof(spoof) => Ok(("spoof", self.spoof(spoof, place)?)),
            Action::Send(send) => {
                let sent = self.world.send(send);
                sent.map_err(|error| place.fault(error))?;
                let (probe, size) = (&send.probe, send.size);
                Ok((
                    "send",
                    format!("{size} bytes from {} to {}", probe.from, probe.to),
                ))
            }
            Action::Replay { frames } => {
                let frames = self.world.replay(*frames);
                Ok(("replay", format!("{frames} frames")))
            }
            Action::Workload(jobs) => {
                let changes = changes(jobs, cluster, place)?;
                let line = place.line();
                let (oracles, failed) = (&mut self.oracles, &mut self.failed_checks);
                let (recorder, links) = (&mut self.recorder, &mut self.links);
                let work = self.world.work_under(jobs, changes, &mut |world| {
                    let sightings = world.take_sightings();
                    let breaches = oracles.look(world, &sightings);
                    if let Some(links) = links {
                        links.see(&sightings);
                    }
                    failed.extend(breaches.iter().map(|it| found(index, line, it)));
                    if let Some(recorder) = recorder {
                        recorder.seen(world, &sightings);
                    }
                });
                self.work = work.map_err(|error| place.fault(error))?;
                let wrong = self.work.iter().filter(|it| !it.ok);
                let told = wrong.map(|it| FailedCheck {
                    asked: it.asked,
                    ..found(index, line, it)
                });
                self.failed_checks.extend(told);
                let kinds: Vec<_> = self.work.iter().map(|it| it.kind).collect();
                Ok(("workload", kinds.join(", ")))
            }
            Action::Expect(expect) => {
                self.expect(index, expect, place)?;
                Ok(("expect", describe_expect(expect)))
            }
        }
    }

    /// Lets the oracles look at what went by, and the recorder.
    fn watch(&mut self, step: usize, place: &Place) {
        let sightings = self.look(step, place);
        if let Some(recorder) = &mut self.recorder {
            recorder.seen(&mut self.world, &sightings);
        }
    }

    /// Lets the oracles look at what went by; what it was.
    fn look(&mut self, step: usize, place: &Place) -> Vec<Sighting> {
        let line = place.line();
        let sightings = self.world.take_sightings();
        let breaches = self.oracles.look(&self.world, &sightings);
        let told = breaches.iter().map(|it| found(step, line, it));
        self.failed_checks.extend(told);
        if let Some(links) = &mut self.links {
            links.see(&sightings);
        }
        sightings
    }

    fn spoof(&mut self, spoof: &Spoof, place: &Place) -> Result<String, InputError> {
        let Spoof { probe, address_of } = spoof;
        let family = match address_of {
            Party::Outside(ip) => Family::of(*ip),
            _ => probe.family.unwrap_or(Family::Ipv4),
        };
        let address = self.world.address(address_of, family);
        let address = address.map_err(|error| place.fault(error))?;
        let sent = self.world.spoof(probe, address);
        sent.map_err(|error| place.fault(error))?;
        Ok(format!("{} as {address_of} to {}", probe.from, probe.to))
    }

    fn change(&mut self, cluster: &Cluster, place: &Place) -> Result<(), InputError> {
        self.world
            .apply(cluster.clone())
            .map_err(|error| place.fault(error))
    }

    fn ask(&mut self, step: usize, probes: &[PlacedProbe]) -> Result<(), InputError> {
        probes
            .iter()
            .try_for_each(|asked| verify::check(&self.world, asked))?;
        self.progress.begin(probes.len());
        for asked in probes {
            let began_ns = self.world.now().0;
            let outcome = verify::ask(&mut self.world, asked)?;
            let across = must_encrypt(self.world.cluster(), &asked.probe).is_some();
            if across && outcome.verdict == Verdict::Allow && !outcome.encrypted {
                self.cleartext += 1;
            }
            let sightings = self.look(step, &asked.place);
            if let Some(recorder) = &mut self.recorder {
                let probe = &asked.probe;
                recorder.asked(&mut self.world, began_ns, probe, &outcome, &sightings);
            }
            self.results.push(SteppedOutcome { step, outcome });
            self.progress.advance();
        }
        self.progress.end();
        Ok(())
    }

    fn attack(
        &mut self,
        step: usize,
        attack: &Attack,
        place: &Place,
    ) -> Result<String, InputError> {
        let (about, passed) = self
            .world
            .attack(attack)
            .map_err(|error| place.fault(error))?;
        if passed > 0 {
            let text = format!("{passed} frames of the attack came to somebody");
            self.failed_checks.push(found(step, place.line(), &text));
        }
        Ok(about)
    }

    fn expect(&mut self, step: usize, expect: &Expect, place: &Place) -> Result<(), InputError> {
        let line = place.line();
        if let Some(ns) = expect.settled_within_ns {
            let unsettled = self.world.settle_within(ns);
            let said = unsettled
                .iter()
                .map(|it| asked(step, line, &format!("settled: {it}")));
            self.failed_checks.extend(said);
        }
        let node = expect.node.as_deref();
        if let Some(node) = node.filter(|it| !self.world.has_node(it)) {
            return Err(place.fault(format!("there is no node {node}")));
        }
        let mut failed = |what: String| self.failed_checks.push(asked(step, line, &what));
        let drops = self.world.drops();
        for (reason, count) in &expect.drops {
            let frames: u64 = drops
                .iter()
                .filter(|d| d.reason == *reason && node.is_none_or(|node| d.node == node))
                .map(|d| d.frames)
                .sum();
            if !count.is(frames) {
                failed(format!(
                    "{frames} frames were dropped for {reason}, {count} expected"
                ));
            }
        }
        let marks = self.world.marks();
        for (mark, count) in &expect.marks {
            let times = marks.get(mark).copied().unwrap_or(0);
            if !count.is(times) {
                failed(format!(
                    "{mark} took effect {times} times, {count} expected"
                ));
            }
        }
        let answers = [Verdict::Allow, Verdict::Deny].map(|verdict| {
            let all = self.results.iter();
            all.filter(|it| it.outcome.verdict == verdict).count()
        });
        let wanted = [expect.answers.allow, expect.answers.deny];
        for (what, (number, wanted)) in ["allowed", "denied"]
            .into_iter()
            .zip(answers.into_iter().zip(wanted))
        {
            let number = u64::try_from(number).unwrap_or(u64::MAX);
            if let Some(count) = wanted.filter(|it| !it.is(number)) {
                failed(format!("{number} probes were {what}, {count} expected"));
            }
        }
        if expect.encrypted && self.cleartext > 0 {
            let count = self.cleartext;
            failed(format!(
                "{count} allowed probes between nodes were not encrypted"
            ));
        }
        let found = self.world.wire_proof().marker_bytes_in_clear;
        if let Some(most) = expect.cleartext_bytes.filter(|most| found > *most) {
            failed(format!(
                "{found} bytes of the payload marker in clear, at most {most} expected"
            ));
        }
        Ok(())
    }

    /// What holds of every run, asked for or not.
    fn always(&mut self) {
        if self.world.is_whole() {
            // A rekey may have begun just now.
            self.world.wait_for_keys(1);
            let unsettled = self.world.unsettled();
            let unsettled = unsettled.iter().map(|it| FailedCheck {
                step: None,
                line: None,
                asked: false,
                what: format!("settled: {it}"),
            });
            self.failed_checks.extend(unsettled);
        }
    }

    fn finish(self, scenario: &Scenario, steps: Vec<StepRecord>) -> Played {
        let Self {
            world,
            results,
            failed_checks,
            ..
        } = self;
        let mismatches = results.iter().filter(|it| !it.outcome.ok).count();
        let record = RunRecord {
            scenario: scenario.name.clone(),
            config: ConfigRecord::from(&scenario.config),
            ok: mismatches == 0 && failed_checks.is_empty(),
            steps,
            results,
            mismatches,
            failed_checks,
            cluster: ClusterRecord::of(&world),
            wire: WireRecord::of(&world),
            drops: DropRecord::all_of(&world),
            unaccounted: unaccounted(&world),
            marks: marks(&world),
            time_ns: world.now().0,
        };
        Played { world, record }
    }
}

/// A check of what must hold of every run.
fn found(step: usize, line: u32, what: &impl ToString) -> FailedCheck {
    FailedCheck {
        step: Some(step),
        line: Some(line),
        asked: false,
        what: what.to_string(),
    }
}

/// A check that a step asks for.
fn asked(step: usize, line: u32, what: &impl ToString) -> FailedCheck {
    FailedCheck {
        asked: true,
        ..found(step, line, what)
    }
}

/// What happens meanwhile in a workload, and when: the objects after each change.
fn changes(
    jobs: &[Job],
    cluster: &mut Cluster,
    place: &Place,
) -> Result<Vec<(u64, Meanwhile)>, InputError> {
    let changes = jobs.iter().filter_map(|it| match it {
        Job::Change { at_ns, change } => Some((*at_ns, change)),
        _ => None,
    });
    let mut changes: Vec<_> = changes.collect();
    changes.sort_by_key(|it| it.0);
    let mut states = Vec::new();
    for (at_ns, change) in changes {
        match &**change {
            Change::Apply(manifests) => manifests.put_over(cluster),
            Change::Delete(delete) => {
                take_away(cluster, delete, place)?;
            }
            Change::Restart(program) => {
                states.push((at_ns, Meanwhile::Restart(program.clone())));
                continue;
            }
        }
        states.push((at_ns, Meanwhile::Objects(cluster.clone())));
    }
    Ok(states)
}

fn unaccounted(world: &World) -> u64 {
    u64::try_from(world.unaccounted()).unwrap_or(u64::MAX)
}

fn marks(world: &World) -> BTreeMap<String, u64> {
    let marks = world.marks().into_iter();
    marks
        .map(|(mark, count)| (mark.to_owned(), count))
        .collect()
}

fn rekeyed(times: u32) -> String {
    match times {
        1 => "all nodes, fresh keys".to_owned(),
        times => format!("all nodes, fresh keys {times} times"),
    }
}

/// The probes of a matrix: from every pod to every other, in the order of their names.
fn pairs(
    cluster: &Cluster,
    matrix: &Matrix,
    place: &Place,
) -> Result<Vec<PlacedProbe>, InputError> {
    let unknown = |name: &&String| !cluster.pods.keys().any(|pod| pod.namespace == **name);
    if let Some(name) = matrix.namespaces.iter().find(unknown) {
        return Err(place.fault(format!("there is no pod in namespace {name}")));
    }
    let within =
        |namespace: &String| matrix.namespaces.is_empty() || matrix.namespaces.contains(namespace);
    let pods: Vec<_> = cluster
        .pods
        .values()
        .filter(|pod| pod.owns_addresses() && within(&pod.pod.namespace))
        .filter(|pod| {
            matrix
                .family
                .is_none_or(|family| pod.ips.iter().any(|ip| Family::of(*ip) == family))
        })
        .collect();
    if pods.len().saturating_mul(pods.len()) > PROBES_MAX {
        let count = pods.len();
        let hint = "name fewer namespaces";
        return Err(place.fault(format!(
            "{count} pods make more than {PROBES_MAX} pairs; {hint}"
        )));
    }
    let mut probes = Vec::new();
    for (from, to) in pods
        .iter()
        .flat_map(|from| pods.iter().map(move |to| (from, to)))
    {
        let lacks_port = match &matrix.port {
            Some(ProbePort::Name(name)) => to.named_ports(name, matrix.protocol).next().is_none(),
            _ => false,
        };
        if from.pod == to.pod || lacks_port {
            continue;
        }
        let party = |pod: &sluice_offload_api::model::PodRef| Party::Pod {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
        };
        let probe = Probe {
            from: party(&from.pod),
            to: party(&to.pod),
            from_network: None,
            to_network: None,
            source_port: None,
            protocol: matrix.protocol,
            port: matrix.port.clone(),
            family: matrix.family,
            expect: matrix.expect,
        };
        probes.push(PlacedProbe {
            probe,
            place: place.clone(),
        });
    }
    if probes.is_empty() {
        let text = "the matrix asks nothing: no two pods have this family, and a port of this name";
        return Err(place.fault(text.to_owned()));
    }
    Ok(probes)
}

fn describe_expect(expect: &Expect) -> String {
    let mut parts = Vec::new();
    if expect.encrypted {
        parts.push("all encrypted".to_owned());
    }
    if let Some(bytes) = expect.cleartext_bytes {
        parts.push(format!("at most {bytes} bytes in clear"));
    }
    let at = expect.node.as_ref().map(|node| format!(" at {node}"));
    let at = at.unwrap_or_default();
    for (reason, count) in &expect.drops {
        parts.push(format!("{count} drops for {reason}{at}"));
    }
    for (what, count) in [
        ("allowed", expect.answers.allow),
        ("denied", expect.answers.deny),
    ] {
        parts.extend(count.map(|count| format!("{count} probes {what}")));
    }
    if let Some(ns) = expect.settled_within_ns {
        parts.push(format!("settled within {}", Span { ns }));
    }
    for (mark, count) in &expect.marks {
        parts.push(format!("{count} {mark}"));
    }
    parts.join(", ")
}

fn describe(matrix: &Matrix) -> String {
    let protocol = format!("{:?}", matrix.protocol).to_uppercase();
    let port = match &matrix.port {
        None => String::new(),
        Some(ProbePort::Number(number)) => format!(" {number}"),
        Some(ProbePort::Name(name)) => format!(" {name}"),
    };
    let family = match matrix.family {
        None => "",
        Some(Family::Ipv4) => " over IPv4",
        Some(Family::Ipv6) => " over IPv6",
    };
    format!("{protocol}{port}{family}")
}
