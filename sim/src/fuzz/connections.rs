//! TCP connections that go on through all that happens. They are drawn apart from all else, so
//! that a seed's cluster and events are what they were before there were any.

use serde_json::{Value, json};

use super::case::Step;
use super::draw::{PORTS, one};
use super::model::{Model, PodModel};
use super::policies::network_policy;
use super::questions::OUTSIDE;
use crate::dice::Dice;
use crate::probe::Family;

/// Connections of a case at a time.
const CONNECTIONS_MAX: usize = 3;
/// Bytes that one moves at a time: some, and so many that losses are found by duplicates.
const BYTES: [usize; 3] = [200, 4_000, 60_000];
/// For how long it tries. In the last time what is allowed must come to its end.
const FOR: [&str; 3] = ["2ms", "300ms", "5s"];
/// When objects change meanwhile.
const CHANGES_AT: [&str; 3] = ["20us", "150us", "1ms"];

/// The connections of a case.
#[derive(Debug)]
pub(super) struct Connections {
    dice: Dice,
    /// Whether there are any, and whether policies change while they move something.
    any: bool,
    changes: bool,
    open: Vec<Value>,
    born: usize,
    /// Namespaces and names of the policies that came so.
    policies: Vec<(String, String)>,
}

impl Connections {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, "connections");
        Self {
            any: dice.chance(50),
            changes: dice.chance(40),
            dice,
            open: Vec::new(),
            born: 0,
            policies: Vec::new(),
        }
    }

    /// Some of them move something, or nothing happens.
    pub(super) fn step(&mut self, model: &Model) -> Option<Step> {
        if !self.any || self.dice.chance(35) {
            return None;
        }
        self.open.retain(|it| is_there(model, it));
        if self.open.len() < CONNECTIONS_MAX && self.dice.chance(50) {
            let opened = self.opened(model);
            self.open.extend(opened);
        }
        let span = one(&mut self.dice, &FOR, "300ms");
        let some: Vec<_> = self
            .open
            .iter()
            .filter(|_| self.dice.chance(80))
            .cloned()
            .collect();
        let mut jobs = self.jobs(&some, span);
        if jobs.is_empty() {
            return None;
        }
        if self.changes && self.dice.chance(30) {
            jobs.push(self.change());
        }
        Some(Step::Verb("workload", Value::Array(jobs)))
    }

    /// All is whole: what policy allows of them goes on, or begins anew.
    pub(super) fn at_the_end(&mut self, model: &Model) -> Option<Step> {
        self.open.retain(|it| is_there(model, it));
        let all = self.open.clone();
        let jobs = self.jobs(&all, "5s");
        (!jobs.is_empty()).then_some(Step::Verb("workload", Value::Array(jobs)))
    }

    fn jobs(&mut self, of: &[Value], span: &str) -> Vec<Value> {
        let job = |it: &Value| {
            let mut says = it.clone();
            let most = one(&mut self.dice, &BYTES, 200);
            says["bytes"] = json!(self.dice.within(1, most));
            says["for"] = json!(span);
            json!({"connection": says})
        };
        of.iter().map(job).collect()
    }

    fn opened(&mut self, model: &Model) -> Option<Value> {
        let pods: Vec<_> = model.pods.iter().filter(|it| it.is_own()).collect();
        let pod = *self.dice.pick(&pods)?;
        let (other, families) = match self.dice.below(10) {
            0 => {
                let (ip, family) = one(&mut self.dice, &OUTSIDE, ("192.0.2.1", Family::Ipv4));
                (
                    ip.to_owned(),
                    vec![family].into_iter().filter(|it| pod.has(*it)).collect(),
                )
            }
            1 => {
                let node = *self.dice.pick(&model.present())?;
                (
                    format!("node:{}", model.node_name(node)),
                    families_of(pod, |_| true),
                )
            }
            _ => {
                let other = *self.dice.pick(&pods)?;
                (other.party(), families_of(pod, |it| other.has(it)))
            }
        };
        let family: Family = *self.dice.pick::<Family>(&families)?;
        let mut ends = [pod.party(), other];
        if self.dice.chance(50) {
            ends.reverse();
        }
        let [from, to] = ends;
        if from == to {
            return None;
        }
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        self.born += 1;
        Some(json!({
            "name": format!("c{}", self.born), "from": from, "to": to,
            "port": one(&mut self.dice, &PORTS, 80), "family": family,
        }))
    }

    /// A policy comes or changes while they move something, or goes.
    fn change(&mut self) -> Value {
        let at = one(&mut self.dice, &CHANGES_AT, "1ms");
        let goes = self.dice.chance(40);
        let last = if goes { self.policies.pop() } else { None };
        if let Some((namespace, name)) = last {
            let gone = json!({"kind": "NetworkPolicy", "namespace": namespace, "name": name});
            return json!({"change": {"at": at, "delete": gone}});
        }
        let mut policy = network_policy(&mut self.dice);
        let namespace = policy["metadata"]["namespace"].as_str().unwrap_or("a");
        let namespace = namespace.to_owned();
        let name = format!("meanwhile{}", self.dice.below(2));
        policy["metadata"]["name"] = json!(name);
        let key = (namespace, name);
        if !self.policies.contains(&key) {
            self.policies.push(key);
        }
        json!({"change": {"at": at, "apply": policy}})
    }
}

fn families_of(pod: &PodModel, other: impl Fn(Family) -> bool) -> Vec<Family> {
    let both = [Family::Ipv4, Family::Ipv6].into_iter();
    both.filter(|it| pod.has(*it) && other(*it)).collect()
}

/// Whether both ends are there.
fn is_there(model: &Model, connection: &Value) -> bool {
    ["from", "to"].iter().all(|at| {
        let name = connection[at].as_str().unwrap_or_default();
        let pod = || model.pods.iter().any(|it| it.party() == name);
        let node = name.strip_prefix("node:");
        !name.contains('/') && !node.is_some_and(|it| model.is_gone(it)) || pod()
    })
}
