//! A seed drawn out: a cluster, and what happens to it until everything is whole again.

use serde_json::{Value, json};

use super::case::{Case, Step};
use super::draw::{NAMESPACES, PORTS, labels, one, protocol};
use super::model::{Model, PodModel};
use super::policies::{cluster_policy, network_policy};
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
/// Flows that go on now and then: their source ports are those that no other probe has.
const FLOWS_MAX: usize = 6;
const FLOW_PORT: usize = 60_000;
const OUTSIDE: [(&str, Family); 4] = [
    ("203.0.113.9", Family::Ipv4),
    ("203.0.113.77", Family::Ipv4),
    ("192.0.2.1", Family::Ipv4),
    ("2001:db8::9", Family::Ipv6),
];
const VIP: &str = "10.96.0.1";

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
        objects: Vec::new(),
        steps: Vec::new(),
    };
    let mut drawer = Drawer {
        dice,
        model: Model::default(),
        flows: Vec::new(),
        next_flow: 0,
    };
    case.objects = drawer.cluster();
    let events = drawer.dice.within(EVENTS.0, EVENTS.1);
    let probes = |drawer: &mut Drawer, steps: &mut Vec<Step>| {
        let count = drawer.dice.within(PROBES.0, PROBES.1);
        steps.extend((0..count).filter_map(|_| drawer.probe()));
    };
    probes(&mut drawer, &mut case.steps);
    for _ in 0..events {
        case.steps.extend(drawer.event());
        probes(&mut drawer, &mut case.steps);
    }
    case.steps.extend(drawer.recover());
    for _ in 0..PROBES_AT_THE_END {
        case.steps.extend(drawer.probe());
    }
    case
}

struct Drawer {
    dice: Dice,
    model: Model,
    /// Probes that were sent with a source port of their own.
    flows: Vec<Value>,
    next_flow: usize,
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
            let address = |address: String| json!({"type": "InternalIP", "address": address});
            let (v4, v6) = (
                format!("10.9.0.{}", number + 1),
                format!("fd09::{}", number + 1),
            );
            objects.push(json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels(&mut self.dice)},
                "status": {"addresses": [address(v4), address(v6)]},
            }));
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

    fn node(&mut self) -> usize {
        self.dice.below(self.model.nodes.len())
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

    fn event(&mut self) -> Vec<Step> {
        let verb = |verb, says| vec![Step::Verb(verb, says)];
        match self.dice.below(22) {
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
            12 => {
                let name = self.a_node();
                verb("restart", json!({"agent": name}))
            }
            13 => self.dataplane(),
            14..=16 => self.fault(),
            17 => self.heal(),
            18..=20 => self.spoof().into_iter().collect(),
            _ if self.dice.chance(60) => verb("replay", json!(self.dice.within(1, 60))),
            _ => {
                let span = one(&mut self.dice, &["5ms", "900ms", "35s"], "5ms");
                verb("wait", json!(span))
            }
        }
    }

    fn a_node(&mut self) -> String {
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

    fn dataplane(&mut self) -> Vec<Step> {
        let node = self.node();
        let name = self.model.node_name(node);
        if !self.model.dead.contains(&node) && self.dice.chance(40) {
            self.model.dead.insert(node);
            return vec![Step::Verb("kill", json!({"dataplane": name}))];
        }
        self.model.dead.remove(&node);
        vec![Step::Verb("restart", json!({"dataplane": name}))]
    }

    fn fault(&mut self) -> Vec<Step> {
        let kinds = [
            "stale-watch",
            "stale-watch",
            "loss",
            "duplication",
            "reordering",
            "corruption",
            "delay",
            "partition",
        ];
        let kind = one(&mut self.dice, &kinds, "loss");
        let (nodes, says) = match kind {
            "stale-watch" => {
                let node = self.node();
                (vec![node], json!({kind: self.model.node_name(node)}))
            }
            "partition" => {
                let a = self.node();
                let b =
                    (a + 1 + self.dice.below(self.model.nodes.len() - 1)) % self.model.nodes.len();
                let names = [self.model.node_name(a), self.model.node_name(b)];
                (vec![a.min(b), a.max(b)], json!({kind: names}))
            }
            "delay" => {
                let span = one(&mut self.dice, &["200us", "3ms", "40ms"], "3ms");
                (Vec::new(), json!({kind: span}))
            }
            _ => (Vec::new(), json!({kind: self.dice.within(1, 60)})),
        };
        self.model.faults.insert((kind, nodes));
        vec![Step::Verb("fault", says)]
    }

    fn heal(&mut self) -> Vec<Step> {
        let all: Vec<_> = self.model.faults.iter().cloned().collect();
        let Some(fault) = self.dice.pick(&all).cloned() else {
            return Vec::new();
        };
        self.model.faults.remove(&fault);
        let (kind, nodes) = fault;
        let names: Vec<_> = nodes.iter().map(|it| self.model.node_name(*it)).collect();
        let says = match (kind, names.as_slice()) {
            ("stale-watch", [node]) => json!({kind: node}),
            ("partition", [a, b]) => json!({kind: [a, b]}),
            _ => json!(kind),
        };
        vec![Step::Verb("heal", says)]
    }

    /// Everything is whole again.
    fn recover(&mut self) -> Vec<Step> {
        let dead = core::mem::take(&mut self.model.dead);
        let mut steps: Vec<_> = dead
            .iter()
            .map(|node| {
                let name = self.model.node_name(*node);
                Step::Verb("restart", json!({"dataplane": name}))
            })
            .collect();
        self.model.faults.clear();
        steps.push(Step::Verb("heal", json!("all")));
        steps
    }

    /// A party, and whether it has an address of a family.
    fn party(&mut self) -> Party {
        match self.dice.below(12) {
            0 => Party::Node(self.a_node()),
            1 => {
                let (ip, family) = one(&mut self.dice, &OUTSIDE, ("192.0.2.1", Family::Ipv4));
                Party::Outside(ip, family)
            }
            _ => {
                let pod = self.dice.pick(&self.model.pods).cloned();
                pod.map_or_else(|| Party::Node("node-a".to_owned()), Party::Pod)
            }
        }
    }

    fn probe(&mut self) -> Option<Step> {
        if !self.flows.is_empty() && self.dice.chance(25) {
            let flow = self.dice.pick(&self.flows).cloned()?;
            if self.is_askable(&flow) {
                return Some(Step::Verb("probe", flow));
            }
        }
        let (from, mut to) = (self.party(), self.party());
        if self.dice.chance(3) {
            to = Party::Outside(VIP, Family::Ipv4);
        }
        let mut says = self.question(&from, &to)?;
        let goes_on = matches!(says["protocol"].as_str(), Some("UDP" | "ICMP"));
        if goes_on && self.dice.chance(40) && self.next_flow < 5_000 {
            says["source_port"] = json!(FLOW_PORT + self.next_flow);
            self.next_flow += 1;
            if self.flows.len() >= FLOWS_MAX {
                self.flows.remove(0);
            }
            self.flows.push(says.clone());
        }
        Some(Step::Verb("probe", says))
    }

    /// From, to, protocol, port and family of something that can be asked.
    fn question(&mut self, from: &Party, to: &Party) -> Option<Value> {
        if from.name() == to.name() {
            return None;
        }
        if let (Party::Outside(..), Party::Outside(..)) = (from, to) {
            return None;
        }
        let both = [Family::Ipv4, Family::Ipv6];
        let fits: Vec<_> = both
            .into_iter()
            .filter(|it| from.has(*it) && to.has(*it))
            .collect();
        let family = *self.dice.pick(&fits)?;
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let (from_name, to_name) = (from.name(), to.name());
        if self.dice.chance(20) {
            return Some(json!({
                "from": from_name, "to": to_name, "protocol": "ICMP", "family": family,
            }));
        }
        let protocol = protocol(&mut self.dice);
        let named = match to {
            Party::Pod(pod) => pod.port_name(protocol),
            _ => None,
        };
        let port = match named {
            Some(name) if self.dice.chance(40) => json!(name),
            _ => json!(one(&mut self.dice, &PORTS, 80)),
        };
        Some(json!({
            "from": from_name, "to": to_name, "protocol": protocol, "port": port,
            "family": family,
        }))
    }

    /// Whether both ends of an earlier question are there, with what it needs.
    fn is_askable(&self, says: &Value) -> bool {
        let there = |at: &str| {
            let name = says[at].as_str().unwrap_or_default();
            let family = if says["family"] == "ipv6" {
                Family::Ipv6
            } else {
                Family::Ipv4
            };
            let pod = self.model.pods.iter().find(|it| it.party() == name);
            !name.contains('/') || pod.is_some_and(|it| it.has(family))
        };
        there("from") && there("to")
    }

    fn spoof(&mut self) -> Option<Step> {
        let pods: Vec<_> = self.model.pods.iter().filter(|it| it.is_own()).collect();
        let (from, victim, to) = (
            (*self.dice.pick(&pods)?).clone(),
            (*self.dice.pick(&pods)?).clone(),
            (*self.dice.pick(&pods)?).clone(),
        );
        let outside = self.dice.chance(25);
        let from = if outside {
            Party::Outside("203.0.113.9", Family::Ipv4)
        } else {
            Party::Pod(from)
        };
        let both = [Family::Ipv4, Family::Ipv6];
        let fits = |it: &Family| from.has(*it) && victim.has(*it) && to.has(*it);
        let family = both.into_iter().find(fits)?;
        if from.name() == victim.party() || victim.party() == to.party() {
            return None;
        }
        let family = match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        };
        let mut says = json!({
            "from": from.name(), "as": victim.party(), "to": to.party(), "family": family,
        });
        match one(&mut self.dice, &["TCP", "UDP", "ICMP"], "TCP") {
            "ICMP" => says["protocol"] = json!("ICMP"),
            protocol => {
                says["protocol"] = json!(protocol);
                says["port"] = json!(one(&mut self.dice, &PORTS, 80));
            }
        }
        Some(Step::Verb("spoof", says))
    }
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

/// An end of a probe.
#[derive(Clone, Debug)]
enum Party {
    Pod(PodModel),
    Node(String),
    Outside(&'static str, Family),
}

impl Party {
    fn name(&self) -> String {
        match self {
            Self::Pod(pod) => pod.party(),
            Self::Node(name) => format!("node:{name}"),
            Self::Outside(ip, _) => (*ip).to_owned(),
        }
    }

    fn has(&self, family: Family) -> bool {
        match self {
            Self::Pod(pod) => pod.has(family),
            Self::Node(_) => true,
            Self::Outside(_, its) => *its == family,
        }
    }
}
