//! A cluster of a given size, and traffic of a given rate: how large a world may be, and how
//! fast it goes by.
//!
//! No clock is read here. Who wants to know how long something took asks before and after.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use serde_json::json;
use sluice_host_agent::cluster::{Cluster, NamespacedName, Node, Pod};
use sluice_offload_api::model::{NodeName, PodUid, Protocol};

use crate::input::{InputError, Manifests};
use crate::oracle::{Breach, Oracles, beside};
use crate::probe::{Family, Party, Probe, ProbeError, ProbePort};
use crate::workload::Job;
use crate::world::{NODES_MAX, PODS_PER_NODE_MAX, World, WorldConfig, WorldError};

/// Tenants, at most: each has a namespace with the same pods and policies.
const TENANTS_MAX: usize = 100;
/// What pods of a tenant are. Each speaks to the next, and nobody else does.
const TIERS: [&str; 3] = ["web", "api", "db"];
const PORT: u16 = 8_080;
/// Frames, with their check sequence: the smallest that are counted in packets a second.
const FRAME_LEN: u16 = 128;
/// Flows that a dataplane has room for.
const FLOWS_MAX: usize = 1 << 13;
/// Flows at once, and packets a second, at most.
const FLOWS_AT_ONCE_MAX: usize = 1_000;
const RATE_MAX: u64 = 1_000_000;

/// How large, and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Scale {
    /// Nodes.
    pub nodes: usize,
    /// Of those, the ones with an agent and a dataplane. The others are objects of the API, and
    /// peers with which there are SAs.
    pub whole: usize,
    /// Pods, evenly on all nodes.
    pub pods: usize,
    /// Both families.
    pub dual_stack: bool,
    /// Packets a second in all, between pods of different nodes, with their answers.
    pub rate: u64,
    /// Flows that they are in.
    pub flows: usize,
    /// Where keys come from.
    pub seed: u64,
}

/// A size that can't be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScaleError {
    /// Too many or too few.
    #[error("--{what} {given} is not among {least} to {most}")]
    Bounds {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        given: u64,
        /// At least.
        least: u64,
        /// At most.
        most: u64,
    },
    /// Traffic needs two nodes.
    #[error("no two pods on two whole nodes may speak; give --whole 3 or more, or --rate 0")]
    NobodySpeaks,
}

/// Why a world of this size couldn't be.
#[derive(Debug, thiserror::Error)]
pub enum ScalingError {
    /// The size.
    #[error(transparent)]
    Scale(#[from] ScaleError),
    /// The policies.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The world.
    #[error(transparent)]
    World(#[from] WorldError),
    /// The traffic.
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// What some of the traffic came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Passed {
    /// Packets that pods sent, questions and answers.
    pub packets: u64,
    /// Questions that policy allowed and that nobody answered.
    pub unanswered: u64,
    /// Frames on the wires between nodes.
    pub wire_frames: u64,
    /// Virtual time, in milliseconds.
    pub virtual_ms: u64,
}

impl Scale {
    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ScaleError`].
    pub fn check(&self) -> Result<(), ScaleError> {
        let per_node = self.pods.div_ceil(self.nodes.max(1));
        let bounds = [
            ("nodes", self.nodes, 1, NODES_MAX),
            ("whole", self.whole, 1, self.nodes),
            ("pods", self.pods, 0, self.nodes * PODS_PER_NODE_MAX),
            ("flows", self.flows, 1, FLOWS_AT_ONCE_MAX),
        ];
        let number = |it: usize| u64::try_from(it).unwrap_or(u64::MAX);
        let bounds = bounds.map(|(what, given, least, most)| {
            let [given, least, most] = [given, least, most].map(number);
            (what, given, least, most)
        });
        let rate = ("rate", self.rate, 0, RATE_MAX);
        for (what, given, least, most) in bounds.into_iter().chain([rate]) {
            if !(least..=most).contains(&given) {
                return Err(ScaleError::Bounds {
                    what,
                    given,
                    least,
                    most,
                });
            }
        }
        debug_assert!(per_node <= PODS_PER_NODE_MAX, "checked above");
        if self.rate > 0 && self.pairs().is_empty() {
            return Err(ScaleError::NobodySpeaks);
        }
        Ok(())
    }

    /// The objects.
    ///
    /// # Errors
    /// [`InputError`] if the policies that are written here are wrong: a bug.
    pub fn cluster(&self) -> Result<Cluster, InputError> {
        let mut cluster = Manifests::parse("policies", &self.policies())?.cluster;
        for node in 0..self.nodes {
            let [_, _, high, low] = be(node);
            let mut it = Node::default();
            it.ips.push(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)));
            if self.dual_stack {
                let last = u16::from_be_bytes([high, low]);
                let v6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
                it.ips.push(IpAddr::V6(v6));
            }
            cluster.nodes.insert(node_name(node), it);
        }
        let pods = (0..self.pods).map(|number| {
            let pod = self.pod(number % self.nodes, number / self.nodes);
            (pod.pod.clone(), pod)
        });
        cluster.pods = pods.collect();
        Ok(cluster)
    }

    /// A pod by its node, and by its place there.
    fn pod(&self, node: usize, place: usize) -> Pod {
        let mut pod = Pod::new(&tenant(place % self.tenants()), &pod_name(node, place));
        pod.uid = PodUid(format!("uid-{node}-{place}"));
        pod.labels
            .insert("tier".to_owned(), tier(node, place).to_owned());
        pod.node = Some(node_name(node));
        let [_, _, high, low] = be(node);
        let [_, _, _, host] = be(place + 2);
        let v4 = Ipv4Addr::new(10, 64 + high, low, host);
        pod.ips.push(IpAddr::V4(v4));
        if self.dual_stack {
            let (net, host) = (u16::from_be_bytes([high, low]), u16::from(host));
            let v6 = Ipv6Addr::new(0xfd00, 1, net, 0, 0, 0, 0, host);
            pod.ips.push(IpAddr::V6(v6));
        }
        pod
    }

    fn tenants(&self) -> usize {
        let per_node = self.pods.div_ceil(self.nodes.max(1));
        per_node.clamp(1, TENANTS_MAX)
    }

    /// Policies, as a person would write them: a tenant's tiers hear the one before, and nobody
    /// else; and a guard over all.
    fn policies(&self) -> String {
        let mut objects = vec![json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2",
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "guard"},
            "spec": {
                "tier": "Admin", "priority": 10,
                "subject": {"namespaces": {}},
                "egress": [{
                    "name": "no-metadata", "action": "Deny",
                    "to": [{"networks": ["169.254.169.254/32"]}],
                }],
            },
        })];
        for tenant in (0..self.tenants()).map(tenant) {
            let labels = json!({"tenant": tenant});
            objects.push(json!({
                "apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": tenant, "labels": labels},
            }));
            objects.push(json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": "closed", "namespace": tenant},
                "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
            }));
            for (from, to) in TIERS.iter().zip(TIERS.iter().skip(1)) {
                objects.push(json!({
                    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                    "metadata": {"name": to, "namespace": tenant},
                    "spec": {
                        "podSelector": {"matchLabels": {"tier": to}},
                        "ingress": [{
                            "from": [{"podSelector": {"matchLabels": {"tier": from}}}],
                            "ports": [{"protocol": "UDP", "port": PORT}],
                        }],
                    },
                }));
            }
        }
        let texts: Vec<_> = objects.iter().map(ToString::to_string).collect();
        texts.join("\n---\n")
    }

    /// The world, its agents and dataplanes in step.
    ///
    /// # Errors
    /// [`ScalingError`].
    pub fn boot(&self, cluster: Cluster) -> Result<World, ScalingError> {
        self.check()?;
        let peers_only: BTreeSet<_> = (self.whole..self.nodes).map(node_name).collect();
        let config = WorldConfig {
            seed: self.seed,
            flows_max: FLOWS_MAX,
            peers_only,
            keeps_wire: false,
            ..WorldConfig::default()
        };
        Ok(World::boot(cluster, config)?)
    }

    /// The objects with one tenant closed for all, or open again.
    #[must_use]
    pub fn changed(&self, cluster: &Cluster) -> Cluster {
        let mut changed = cluster.clone();
        let name = NamespacedName {
            namespace: tenant(0),
            name: TIERS.last().map_or_else(String::new, ToString::to_string),
        };
        changed.policies.remove(&name);
        changed
    }

    /// Who may speak to whom: node and place, node and place. Each on a whole node, and on
    /// another one.
    fn pairs(&self) -> Vec<((usize, usize), (usize, usize))> {
        let per_node = self.pods / self.nodes.max(1);
        let mut pairs = Vec::new();
        let all = (0..per_node).flat_map(|place| (0..self.whole).map(move |from| (from, place)));
        for (at, (from, place)) in all.enumerate() {
            let speaks = tier(from, place) != TIERS.last().copied().unwrap_or_default();
            // Tiers go round with the nodes, so that the next is at every third from there.
            let steps = (self.whole.saturating_sub(2)) / TIERS.len() + 1;
            let to = from + 1 + TIERS.len() * (at % steps);
            let to = if to < self.whole { to } else { from + 1 };
            if speaks && to < self.whole {
                pairs.push(((from, place), (to, place)));
            }
            if pairs.len() >= FLOWS_AT_ONCE_MAX {
                break;
            }
        }
        pairs
    }

    /// Lets pods speak for so many milliseconds of virtual time, and the oracles look if there
    /// are any. What they found is added to `breaches`.
    ///
    /// # Errors
    /// [`ScalingError`].
    pub fn speak(
        &self,
        world: &mut World,
        ms: u64,
        oracles: Option<&mut Oracles>,
        breaches: &mut Vec<Breach>,
    ) -> Result<Passed, ScalingError> {
        // Of each question and its answer.
        let questions = (self.rate * ms / 1_000 / 2).max(1);
        let flows = u64::try_from(self.flows).unwrap_or(1).min(questions);
        let packets = questions.div_ceil(flows);
        let party = |(node, place): (usize, usize)| Party::Pod {
            namespace: tenant(place % self.tenants()),
            name: pod_name(node, place),
        };
        let pairs = self.pairs();
        let jobs = pairs
            .iter()
            .cycle()
            .take(usize::try_from(flows).unwrap_or(1));
        let jobs = jobs.map(|(from, to)| Job::Udp {
            probe: Probe {
                from: party(*from),
                to: party(*to),
                from_network: None,
                to_network: None,
                protocol: Protocol::Udp,
                port: Some(ProbePort::Number(PORT)),
                family: Some(Family::Ipv4),
                source_port: None,
                expect: None,
            },
            packets,
            every_ns: ms * 1_000_000 / packets,
            sizes: vec![FRAME_LEN],
            may_lose: None,
        });
        let jobs: Vec<_> = jobs.collect();
        let (began, wire) = (world.now(), world.wire_frames());
        let mut oracles = oracles;
        let records = if let Some(oracles) = &mut oracles {
            let work = |world: &mut World, glance: &mut dyn FnMut(&mut World)| {
                world.work_watched(&jobs, glance)
            };
            let (records, found) = beside(oracles, world, work);
            breaches.extend(found);
            records?
        } else {
            world.look_away();
            world.work_watched(&jobs, &mut |_| {})?
        };
        world.run_for((ms * 1_000_000).saturating_sub(world.now().since(began)));
        if let Some(oracles) = oracles {
            breaches.extend(oracles.watch(world));
        }
        let sent: u64 = records.iter().map(|it| it.packets).sum();
        let answered: u64 = records.iter().filter_map(|it| it.answered).sum();
        Ok(Passed {
            packets: sent + answered,
            unanswered: sent - answered,
            wire_frames: (world.wire_frames() - wire) as u64,
            virtual_ms: world.now().since(began) / 1_000_000,
        })
    }
}

const fn be(number: usize) -> [u8; 4] {
    let [.., a, b, c, d] = number.to_be_bytes();
    [a, b, c, d]
}

fn node_name(node: usize) -> NodeName {
    NodeName(format!("node-{node:04}"))
}

fn tenant(number: usize) -> String {
    format!("tenant-{number:03}")
}

fn pod_name(node: usize, place: usize) -> String {
    format!("pod-{node:04}-{place:03}")
}

fn tier(node: usize, place: usize) -> &'static str {
    let at = (node + place) % TIERS.len();
    TIERS.get(at).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Scale = Scale {
        nodes: 5,
        whole: 3,
        pods: 30,
        dual_stack: true,
        rate: 400,
        flows: 4,
        seed: 1,
    };

    #[test]
    fn whole_nodes_speak_and_the_others_are_peers_with_sas() {
        let mut world = SMALL.boot(SMALL.cluster().unwrap()).unwrap();
        assert_eq!(world.unsettled(), Vec::<String>::new());
        assert!(world.is_whole());
        // Two SAs with each of four, as a whole node has them.
        let outbound = world.sas().len();
        assert_eq!(outbound, 3 * 4, "sending SAs of three nodes");
        let (mut oracles, mut breaches) = (Oracles::default(), Vec::new());
        let passed = SMALL.speak(&mut world, 500, Some(&mut oracles), &mut breaches);
        let passed = passed.unwrap();
        assert_eq!(breaches, Vec::new());
        assert_eq!((passed.packets, passed.unanswered), (200, 0));
        assert!(passed.wire_frames >= 200);
        assert_eq!(passed.virtual_ms, 500);
        let changed = SMALL.changed(world.cluster());
        world.apply(changed).unwrap();
        assert_eq!(world.unsettled(), Vec::<String>::new());
        // Of keys that are renewed the peers that are only that get new ones too.
        world.rekey().unwrap();
        assert_eq!(world.unsettled(), Vec::<String>::new());
        assert_eq!(world.sas().len(), 2 * outbound);
    }

    #[test]
    fn a_size_that_cannot_be_is_refused_by_name() {
        let refused = |scale: Scale| scale.check().unwrap_err().to_string();
        let text = refused(Scale {
            nodes: 1001,
            ..SMALL
        });
        assert_eq!(text, "--nodes 1001 is not among 1 to 1000");
        let text = refused(Scale { whole: 6, ..SMALL });
        assert_eq!(text, "--whole 6 is not among 1 to 5");
        let text = refused(Scale { whole: 1, ..SMALL });
        assert!(text.contains("--rate 0"), "{text}");
    }
}
