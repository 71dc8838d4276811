//! A seed drawn out: a cluster, and what happens to it until everything is whole again.

use serde_json::{Value, json};

use super::case::{Case, Step};
use super::coming::Coming;
use super::connections::Connections;
use super::draw::{NAMESPACES, labels, one};
use super::model::Model;
use super::policies::{cluster_policy, network_policy};
use super::questions::{VIP, everyone};
use crate::dice::Dice;
use crate::probe::Family;

/// Pods at the beginning, and ever.
const PODS_FIRST: (usize, usize) = (3, 7);
const PODS_MAX: usize = 10;
/// Things that happen, between probes.
const EVENTS: (usize, usize) = (4, 14);
/// Probes after each.
const PROBES: (usize, usize) = (1, 4);
/// Probes when everything is whole again.
const PROBES_AT_THE_END: usize = 12;
/// Flows that dataplanes have room for where pods flood: a VF's share is a quarter.
const FEW_FLOWS: usize = 512;
/// Workers of a dataplane, at most: three have lanes that are not spread evenly.
const WORKERS_MAX: usize = 3;

/// Packets until the low half of sequence numbers is 0 again, at most.
const BEFORE_ROLLOVER: usize = 12;

/// Workers of each dataplane: drawn apart, so that a seed's cluster is what it was before there
/// were several.
fn workers(seed: u64) -> u8 {
    let count = Dice::new(seed, "workers").within(1, WORKERS_MAX);
    u8::try_from(count).unwrap_or(1)
}

/// Whether the operator says which addresses only pods have, drawn apart for the same reason.
fn pod_cidrs(seed: u64) -> bool {
    Dice::new(seed, "pod-cidrs").chance(50)
}

/// Draws a scenario.
pub(super) fn draw(seed: u64) -> Case {
    let mut dice = Dice::new(seed, "fuzz");
    let algorithms = ["aes128gcm16", "aes256gcm16", "chacha20poly1305"];
    let mut case = Case {
        seed,
        algorithm: one(&mut dice, &algorithms, "aes256gcm16"),
        esn: dice.chance(80),
        underlay: one(&mut dice, &[Family::Ipv4, Family::Ipv6], Family::Ipv4),
        udp_encap: dice.chance(30),
        pod_cidrs: pod_cidrs(seed),
        workers: workers(seed),
        flows_max: dice.chance(15).then_some(FEW_FLOWS),
        sa_first: None,
        objects: Vec::new(),
        steps: Vec::new(),
    };
    if case.esn && dice.chance(15) {
        let left = u64::try_from(dice.within(1, BEFORE_ROLLOVER)).unwrap_or(1);
        case.sa_first = Some((1 << 32) - left);
    }
    let mut drawer = Drawer {
        dice,
        model: Model::default(),
        flows: Vec::new(),
        next_flow: 0,
    };
    drawer.model.rolls_over = case.sa_first.is_some();
    case.objects = drawer.cluster();
    let events = drawer.dice.within(EVENTS.0, EVENTS.1);
    let probes = |drawer: &mut Drawer, steps: &mut Vec<Step>| {
        let count = drawer.dice.within(PROBES.0, PROBES.1);
        steps.extend((0..count).filter_map(|_| drawer.probe()));
    };
    let mut connections = Connections::new(seed);
    let mut coming = Coming::new(seed);
    probes(&mut drawer, &mut case.steps);
    case.steps.extend(connections.step(&drawer.model));
    for _ in 0..events {
        case.steps.extend(drawer.event(case.flows_max.is_some()));
        let came = coming.step(&mut drawer, &case.steps);
        case.steps.extend(came);
        probes(&mut drawer, &mut case.steps);
        case.steps.extend(connections.step(&drawer.model));
    }
    case.steps.extend(drawer.recover());
    case.steps.extend(connections.at_the_end(&drawer.model));
    for _ in 0..PROBES_AT_THE_END {
        case.steps.extend(drawer.probe());
    }
    case.steps.extend(everyone(&drawer.model, seed));
    case
}

pub(super) struct Drawer {
    pub(super) dice: Dice,
    pub(super) model: Model,
    /// Probes that were sent with a source port of their own.
    pub(super) flows: Vec<Value>,
    pub(super) next_flow: usize,
}

impl Drawer {
    fn cluster(&mut self) -> Vec<Value> {
        let mut objects = Vec::new();
        for name in NAMESPACES {
            objects.push(namespace(name, &labels(&mut self.dice)));
        }
        let nodes = self.dice.within(2, 4);
        for (number, letter) in ('a'..='d').take(nodes).enumerate() {
            let name = format!("node-{letter}");
            let labels = labels(&mut self.dice);
            objects.push(node_object(&name, number, &labels));
            self.model.nodes.push(name);
        }
        if self.dice.chance(30) {
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "svc", "namespace": "a"},
                "spec": {"clusterIP": VIP},
            }));
        }
        for _ in 0..self.dice.within(PODS_FIRST.0, PODS_FIRST.1) {
            objects.push(self.new_pod());
        }
        for _ in 0..self.dice.below(4) {
            objects.push(self.policy());
        }
        // A policy of a name that was there already comes in its place only later.
        let mut seen = std::collections::BTreeSet::new();
        objects.retain(|it| {
            let name = &it["metadata"];
            let key = [&it["kind"], &name["namespace"], &name["name"]].map(ToString::to_string);
            seen.insert(key)
        });
        objects
    }

    pub(super) fn node(&mut self) -> usize {
        one(&mut self.dice, &self.model.present(), 0)
    }

    fn new_pod(&mut self) -> Value {
        let node = self.node();
        self.new_pod_on(node)
    }

    fn new_pod_on(&mut self, node: usize) -> Value {
        let pod = self.model.birth(&mut self.dice, node);
        let object = pod.object(&self.model.nodes);
        self.model.pods.push(pod);
        object
    }

    fn policy(&mut self) -> Value {
        let policy = if self.dice.chance(65) {
            network_policy(&mut self.dice)
        } else {
            cluster_policy(&mut self.dice)
        };
        let text = |at: &str| {
            policy["metadata"][at]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let kind = if policy["kind"] == "NetworkPolicy" {
            "NetworkPolicy"
        } else {
            "ClusterNetworkPolicy"
        };
        let key = (kind, text("namespace"), text("name"));
        self.model.policies.insert(key);
        policy
    }

    fn event(&mut self, case_floods: bool) -> Vec<Step> {
        let verb = |verb, says| vec![Step::Verb(verb, says)];
        match self.dice.below(25) {
            0..=2 => vec![Step::Apply(vec![self.policy()])],
            3 => self.delete_policy(),
            4..=5 => self.relabel(),
            6 => {
                let name = one(&mut self.dice, &NAMESPACES, "a");
                let object = namespace(name, &labels(&mut self.dice));
                vec![Step::Apply(vec![object])]
            }
            7..=8 => self.pod_goes(),
            9 => self.pod_comes(),
            10 => self.pod_is_replaced(),
            11 => verb("rekey", json!({})),
            12..=13 => self.program(),
            14..=17 => self.fault(),
            18 => self.heal(),
            19..=20 => self.spoof().into_iter().collect(),
            21 => self.replace(),
            23 => self.rogue().into_iter().collect(),
            22 if case_floods => self.flood().into_iter().collect(),
            _ if self.dice.chance(60) => verb("replay", json!(self.dice.within(1, 60))),
            _ => {
                let span = one(&mut self.dice, &["5ms", "900ms", "35s"], "5ms");
                verb("wait", json!(span))
            }
        }
    }

    pub(super) fn a_node(&mut self) -> String {
        let node = self.node();
        self.model.node_name(node)
    }

    fn delete_policy(&mut self) -> Vec<Step> {
        let all: Vec<_> = self.model.policies.iter().cloned().collect();
        let Some(policy) = self.dice.pick(&all).cloned() else {
            return Vec::new();
        };
        self.model.policies.remove(&policy);
        let (kind, namespace, name) = policy;
        let mut says = json!({"kind": kind, "name": name});
        if !namespace.is_empty() {
            says["namespace"] = json!(namespace);
        }
        vec![Step::Verb("delete", says)]
    }

    fn relabel(&mut self) -> Vec<Step> {
        let at = self.dice.below(self.model.pods.len());
        let nodes = &self.model.nodes;
        let Some(pod) = self.model.pods.get_mut(at) else {
            return Vec::new();
        };
        pod.relabel(&mut self.dice);
        vec![Step::Apply(vec![pod.object(nodes)])]
    }

    fn pod_goes(&mut self) -> Vec<Step> {
        let Some(at) = self.model.movable(&mut self.dice) else {
            return Vec::new();
        };
        let pod = self.model.death(at);
        let gone = json!({"kind": "Pod", "namespace": pod.namespace, "name": pod.name});
        let mut steps = vec![Step::Verb("delete", gone)];
        if self.dice.chance(70) {
            steps.extend(self.pod_comes());
        }
        steps
    }

    fn pod_comes(&mut self) -> Vec<Step> {
        let node = self.node();
        self.pod_comes_to(node)
    }

    pub(super) fn pod_comes_to(&mut self, node: usize) -> Vec<Step> {
        if self.model.pods.len() >= PODS_MAX || !self.model.takes_pods(node) {
            return Vec::new();
        }
        vec![Step::Apply(vec![self.new_pod_on(node)])]
    }

    fn pod_is_replaced(&mut self) -> Vec<Step> {
        let Some(at) = self.model.movable(&mut self.dice) else {
            return Vec::new();
        };
        let next = self.model.reborn(&mut self.dice, at);
        let object = next.map(|it| it.object(&self.model.nodes));
        object.map(|it| Step::Apply(vec![it])).into_iter().collect()
    }
}

/// A node, with addresses by its number.
pub(super) fn node_object(name: &str, number: usize, labels: &Value) -> Value {
    let address = |address: String| json!({"type": "InternalIP", "address": address});
    let v4 = format!("10.9.0.{}", number + 1);
    let v6 = format!("fd09::{}", number + 1);
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {"addresses": [address(v4), address(v6)]},
    })
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}
