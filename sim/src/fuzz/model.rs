//! What the drawer knows of the cluster that it draws: enough for steps that can be done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::draw::{NAMESPACES, PORT_NAMES, PORTS, labels, one, protocol, some};
use crate::dice::Dice;
use crate::probe::Family;

/// A pod that is there.
#[derive(Clone, Debug)]
pub(super) struct PodModel {
    pub(super) namespace: &'static str,
    pub(super) name: String,
    uid: String,
    pub(super) node: usize,
    host_network: bool,
    labels: Value,
    /// Name, protocol, number.
    ports: Vec<(String, &'static str, u16)>,
    /// The number of its addresses on the node's network that they were first given on.
    address: Address,
    families: [bool; 2],
}

/// A pair of addresses, of both families.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Address {
    network: usize,
    host: usize,
}

impl PodModel {
    pub(super) fn party(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    pub(super) fn object(&self, nodes: &[String]) -> Value {
        let node = nodes.get(self.node);
        let mut spec = json!({"nodeName": node});
        if !self.ports.is_empty() {
            let port = |(name, protocol, number): &(String, &str, u16)| json!({"name": name, "protocol": protocol, "containerPort": number});
            let ports: Vec<_> = self.ports.iter().map(port).collect();
            spec["containers"] = json!([{"name": "main", "ports": ports}]);
        }
        let mut pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "labels": self.labels,
            },
            "spec": spec,
        });
        if self.host_network {
            pod["spec"]["hostNetwork"] = json!(true);
        } else {
            let Address { network, host } = self.address;
            let [v4, v6] = self.families;
            let mut ips = Vec::new();
            if v4 {
                ips.push(json!({"ip": format!("10.1.{network}.{host}")}));
            }
            if v6 {
                ips.push(json!({"ip": format!("fd01:0:0:{network}::{host}")}));
            }
            pod["status"] = json!({"podIPs": ips});
        }
        pod
    }

    pub(super) fn has(&self, family: Family) -> bool {
        let [v4, v6] = self.families;
        self.host_network
            || match family {
                Family::Ipv4 => v4,
                Family::Ipv6 => v6,
            }
    }

    /// The families that it has in common with another one.
    pub(super) fn families_with(&self, other: &Self) -> Vec<&'static str> {
        let both = [(Family::Ipv4, "ipv4"), (Family::Ipv6, "ipv6")].into_iter();
        let both = both.filter(|it| self.has(it.0) && other.has(it.0));
        both.map(|it| it.1).collect()
    }

    /// A port's name of a protocol.
    pub(super) fn port_name(&self, protocol: &str) -> Option<&str> {
        let found = self.ports.iter().find(|it| it.1 == protocol);
        found.map(|it| it.0.as_str())
    }

    pub(super) fn relabel(&mut self, dice: &mut Dice) {
        self.labels = labels(dice);
    }

    pub(super) const fn is_own(&self) -> bool {
        !self.host_network
    }
}

/// The cluster.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) nodes: Vec<String>,
    /// Nodes that have left.
    pub(super) gone: BTreeSet<usize>,
    pub(super) pods: Vec<PodModel>,
    /// Kind, namespace, name.
    pub(super) policies: BTreeSet<(&'static str, String, String)>,
    /// Of pods that are gone.
    free: Vec<Address>,
    /// How many addresses each network has given.
    given: BTreeMap<usize, usize>,
    born: usize,
    /// What is broken and can be healed.
    pub(super) broken: BTreeSet<Broken>,
    /// Nodes whose dataplanes don't run.
    pub(super) dead: BTreeSet<usize>,
    /// Nodes whose agents don't run.
    pub(super) dead_agents: BTreeSet<usize>,
    /// Sequence numbers soon come to where their low half begins anew.
    pub(super) rolls_over: bool,
    /// Nodes whose machines were told nothing when they came: their agents heard nobody.
    pub(super) bare: BTreeSet<usize>,
}

/// A fault by its name, and the nodes of those that have one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Broken {
    pub(super) kind: &'static str,
    pub(super) nodes: Vec<usize>,
}

impl Broken {
    pub(super) fn of(kind: &'static str, nodes: &[usize]) -> Self {
        Self {
            kind,
            nodes: nodes.to_vec(),
        }
    }
}

/// What keeps a node from what the API says.
const BEHIND: [&str; 8] = [
    "stale-watch",
    "stale-kinds",
    "api-gone",
    "partial-list",
    "slow-disk",
    "stalled-agent",
    "stalled-dataplane",
    "second-agent",
];

impl Model {
    /// A new pod on a node: often with the addresses of one that is gone.
    pub(super) fn birth(&mut self, dice: &mut Dice, node: usize) -> PodModel {
        self.born += 1;
        let reuse = dice.chance(60);
        let address = match self.free.pop().filter(|_| reuse) {
            Some(address) => address,
            None => {
                let host = self.given.entry(node).or_insert(1);
                *host += 1;
                Address {
                    network: node,
                    host: *host,
                }
            }
        };
        let all = [[true, true], [true, true], [true, false], [false, true]];
        let ports = some(dice, 0, 2, |_| Value::Null).len();
        let mut names: Vec<_> = PORT_NAMES.iter().collect();
        let ports = (0..ports).filter_map(|_| {
            let at = dice.below(names.len());
            let name = (at < names.len()).then(|| names.remove(at))?;
            Some(((*name).to_owned(), protocol(dice), one(dice, &PORTS, 80)))
        });
        let ports = ports.collect();
        PodModel {
            namespace: one(dice, &NAMESPACES, "a"),
            name: format!("p{}", self.born),
            uid: format!("u{}", self.born),
            node,
            host_network: dice.chance(8),
            labels: labels(dice),
            ports,
            address,
            families: one(dice, &all, [true, true]),
        }
    }

    /// One of its name and another UID comes in place of a pod.
    pub(super) fn reborn(&mut self, dice: &mut Dice, at: usize) -> Option<PodModel> {
        self.born += 1;
        let pod = self.pods.get_mut(at)?;
        pod.uid = format!("u{}", self.born);
        pod.relabel(dice);
        Some(pod.clone())
    }

    pub(super) fn death(&mut self, at: usize) -> PodModel {
        let pod = self.pods.remove(at);
        if pod.is_own() {
            self.free.push(pod.address);
        }
        pod
    }

    /// Whether a pod can start on a node: CNI ADD waits for an agent that sees it
    /// and a dataplane that runs, and nobody hears of its addresses before.
    pub(super) fn takes_pods(&self, node: usize) -> bool {
        let dead = self.dead.contains(&node) || self.dead_agents.contains(&node);
        !dead && !self.is_broken("api-away", &[]) && !self.is_behind(node)
    }

    fn is_behind(&self, node: usize) -> bool {
        BEHIND.iter().any(|kind| self.is_broken(kind, &[node]))
    }

    fn is_broken(&self, kind: &'static str, nodes: &[usize]) -> bool {
        self.broken.contains(&Broken::of(kind, nodes))
    }

    pub(super) fn kill_agent(&mut self, node: usize) {
        self.dead_agents.insert(node);
        self.broken.remove(&Broken::of("stalled-agent", &[node]));
    }

    pub(super) fn start_agent(&mut self, node: usize) {
        self.dead_agents.remove(&node);
        self.broken.remove(&Broken::of("stalled-agent", &[node]));
        self.broken.remove(&Broken::of("api-gone", &[node]));
    }

    pub(super) fn kill_dataplane(&mut self, node: usize) {
        self.dead.insert(node);
        self.broken
            .remove(&Broken::of("stalled-dataplane", &[node]));
    }

    pub(super) fn start_dataplane(&mut self, node: usize) {
        self.dead.remove(&node);
        self.broken
            .remove(&Broken::of("stalled-dataplane", &[node]));
    }

    /// The nodes that are there.
    pub(super) fn present(&self) -> Vec<usize> {
        let all = 0..self.nodes.len();
        all.filter(|it| !self.gone.contains(it)).collect()
    }

    /// Whether a node of a name has left.
    pub(super) fn is_gone(&self, name: &str) -> bool {
        let mut gone = self.gone.iter();
        gone.any(|it| self.nodes.get(*it).is_some_and(|it| it == name))
    }

    /// Whether every agent hears the API, so that all learn of who comes.
    pub(super) fn all_hear(&self) -> bool {
        let deaf = |it: &Broken| it.kind == "api-away" || BEHIND.contains(&it.kind);
        self.dead_agents.is_empty() && !self.broken.iter().any(deaf)
    }

    /// A node leaves, with what was broken of it.
    pub(super) fn leave(&mut self, node: usize) {
        self.gone.insert(node);
        self.dead.remove(&node);
        self.dead_agents.remove(&node);
        self.bare.remove(&node);
        self.broken.retain(|it| !it.nodes.contains(&node));
    }

    /// Another machine, with all its programs.
    pub(super) fn replace(&mut self, node: usize) {
        self.start_dataplane(node);
        self.start_agent(node);
        for kind in ["slow-disk", "second-agent"] {
            self.broken.remove(&Broken::of(kind, &[node]));
        }
        if self.is_broken("api-away", &[]) || self.is_broken("partial-list", &[node]) {
            self.bare.insert(node);
        }
    }

    /// A pod that can go. Where the dataplane is dead CNI can do nothing; and a node whose
    /// watch is late takes a pod of its own that went for one behind its host port, which is
    /// known and not drawn.
    pub(super) fn movable(&self, dice: &mut Dice) -> Option<usize> {
        let alive = |it: &(usize, &PodModel)| self.takes_pods(it.1.node);
        let pods: Vec<_> = self.pods.iter().enumerate().filter(alive).collect();
        dice.pick(&pods).map(|it| it.0)
    }

    pub(super) fn node_name(&self, node: usize) -> String {
        self.nodes.get(node).cloned().unwrap_or_default()
    }
}
