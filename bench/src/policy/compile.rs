//! What one node's agent does when a large cluster changes.

use std::net::IpAddr;
use std::time::Instant;

use anyhow::Context;
use sluice_host_agent::cluster::{
    Cluster, LabelSelector, Labels, Mode, Namespace, NamespacedName, NetworkPolicy, Node, Peer,
    Pod, PortRule, PortSpec, Rule,
};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup, compile};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::validate::{POINTS_MAX, validate};
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::State;
use sluice_offload_api::model::{MacAddr, PodRef, PortName, Protocol};

use crate::policy::report::Case;

/// How large the cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes.
    pub nodes: u16,
    /// Pods, over all nodes and namespaces.
    pub pods: u32,
    /// Namespaces, each with ten policies and five kinds of pods.
    pub namespaces: u16,
}

/// The one of the issue: 1,000 nodes, 100,000 pods, 10,000 policies, 5,000 identities.
pub const LARGE: Size = Size {
    nodes: 1_000,
    pods: 100_000,
    namespaces: 1_000,
};
const SMALL: Size = Size {
    nodes: 10,
    pods: 500,
    namespaces: 20,
};

/// Kinds of pods in a namespace.
const KINDS: u32 = 5;
const POLICIES: u16 = 10;
const TEAMS: u16 = 50;
const HERE: &str = "n3";
/// Whole compiles, and changes of one pod, that are timed.
const TIMES: usize = 3;
const CHANGES: u32 = 20;
/// Milliseconds: of a whole compile, and of one changed pod.
const WHOLE_TARGET_MS: f64 = 2_000.0;
const CHANGE_TARGET_MS: f64 = 10.0;
const MEMORY_TARGET_MIB: f64 = 512.0;

/// Compiles a cluster for one of its nodes, whole and after one pod has changed.
///
/// # Errors
/// A cluster that does not compile, or to something else than it says.
pub fn run(quick: bool) -> anyhow::Result<Vec<Case>> {
    let size = if quick { SMALL } else { LARGE };
    let memory = Memory::begin();
    let mut cluster = cluster(size)?;
    let setup = setup();
    let vfs = vfs(&cluster, &setup)?;
    let mut identities = IdentityTable::default();
    let of = |case: Case| Case {
        rules: Some(u32::from(size.namespaces) * u32::from(POLICIES)),
        ..case
    };

    let mut state = State::default();
    let mut whole = Vec::new();
    for _ in 0..TIMES {
        let began = Instant::now();
        state = compile(&cluster, &setup, &vfs, &mut identities).context("compiling")?;
        whole.push(ms(began));
    }
    let began = Instant::now();
    let compared = validate(&cluster, &State::default(), &state, 0, POINTS_MAX)?;
    let validated = ms(began);

    let mut changed = Vec::new();
    let names: Vec<PodRef> = cluster
        .pods
        .keys()
        .take(CHANGES as usize)
        .cloned()
        .collect();
    for (turn, name) in names.iter().enumerate() {
        if let Some(pod) = cluster.pods.get_mut(name) {
            pod.labels
                .insert("app".to_owned(), format!("a{}", turn % 5));
        }
        let began = Instant::now();
        let next = compile(&cluster, &setup, &vfs, &mut identities).context("compiling")?;
        validate(&cluster, &state, &next, turn, POINTS_MAX)?;
        let delta = state.delta_to(&next);
        changed.push(ms(began));
        drop(delta);
        state = next;
    }
    changed.sort_by(f64::total_cmp);
    let slowest = changed.last().copied();
    let note = format!(
        "a pod relabelled anywhere, compiled whole, validated, as a delta: slowest of {CHANGES}"
    );
    let mut cases = vec![
        of(Case::new("compile/whole", "sluice", "ms", best(&whole))).aiming(WHOLE_TARGET_MS),
        of(Case::new(
            "compile/validate",
            "sluice",
            "ms",
            Some(validated),
        ))
        .noting(format!(
            "{} flows compared, {} of the change not",
            compared.points, compared.left
        )),
        of(Case::new("compile/one-pod", "sluice", "ms", slowest))
            .aiming(CHANGE_TARGET_MS)
            .noting(note),
    ];
    let note = "more than before, at most: the cluster and two states of it".to_owned();
    let memory = Case::new("compile/memory", "sluice", "MiB", memory.most_mib());
    cases.push(of(memory).aiming(MEMORY_TARGET_MIB).noting(note));
    Ok(cases)
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

fn best(times: &[f64]) -> Option<f64> {
    times.iter().copied().min_by(f64::total_cmp)
}

/// What this process has resident, from some moment on.
struct Memory {
    before_mib: Option<f64>,
}

impl Memory {
    fn begin() -> Self {
        // proc(5): 5 resets the peak. Where that isn't allowed the figure is too high.
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        Self {
            before_mib: status_mib("VmRSS:"),
        }
    }

    fn most_mib(&self) -> Option<f64> {
        Some(status_mib("VmHWM:")? - self.before_mib?)
    }
}

/// A line of proc(5)'s `status`.
fn status_mib(key: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|it| it.strip_prefix(key))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib / 1024.0)
}

fn app(kind: u32) -> Labels {
    Labels::from([("app".to_owned(), format!("a{kind}"))])
}

fn selector(labels: Labels) -> LabelSelector {
    LabelSelector {
        match_labels: labels,
        match_expressions: Vec::new(),
    }
}

fn cluster(size: Size) -> anyhow::Result<Cluster> {
    let mut cluster = Cluster::default();
    for n in 0..size.nodes {
        let [high, low] = n.to_be_bytes();
        let node = Node {
            labels: Labels::new(),
            ips: vec![IpAddr::from([10, 255, high, low])],
            tunnel_ips: vec![IpAddr::from([172, 16, high, low])],
        };
        cluster.nodes.insert(format!("n{n}").as_str().into(), node);
    }
    for n in 0..size.namespaces {
        let labels = Labels::from([("team".to_owned(), format!("t{}", n % TEAMS))]);
        cluster
            .namespaces
            .insert(format!("ns{n}"), Namespace { labels });
        for k in 0..POLICIES {
            let name = NamespacedName {
                namespace: format!("ns{n}"),
                name: format!("np{k}"),
            };
            cluster.policies.insert(name, policy(n, k)?);
        }
    }
    for p in 0..size.pods {
        let namespace = p % u32::from(size.namespaces);
        let mut pod = Pod::new(&format!("ns{namespace}"), &format!("p{p}"));
        let node = (p / 7) % u32::from(size.nodes);
        pod.node = Some(format!("n{node}").as_str().into());
        pod.labels = app((p / u32::from(size.namespaces)) % KINDS);
        let [_, a, b, c] = p.to_be_bytes();
        pod.ips = vec![IpAddr::from([10, a, b, c])];
        cluster.pods.insert(pod.pod.clone(), pod);
    }
    Ok(cluster)
}

/// Nine of ten are between kinds of pods of a namespace; the tenth lets another team and a
/// block of addresses in.
fn policy(namespace: u16, number: u16) -> anyhow::Result<NetworkPolicy> {
    let kind = u32::from(number);
    let peers = if number == POLICIES - 1 {
        let team = format!("t{}", (namespace + 1) % TEAMS);
        vec![
            Peer::Pods {
                namespaces: Some(selector(Labels::from([("team".to_owned(), team)]))),
                pods: Some(selector(app(0))),
            },
            Peer::Block {
                cidr: format!("192.168.{}.0/24", namespace % 200).parse()?,
                except: Vec::new(),
            },
        ]
    } else {
        vec![Peer::Pods {
            namespaces: None,
            pods: Some(selector(app((kind + 1) % KINDS))),
        }]
    };
    let port = 8_000 + number;
    let ports = vec![PortRule {
        protocol: Protocol::Tcp,
        ports: PortSpec::Range {
            first: port,
            last: port,
        },
    }];
    let rules = vec![Rule { peers, ports }];
    let (ingress, egress) = if number.is_multiple_of(2) {
        (Some(rules), None)
    } else {
        (None, Some(rules))
    };
    Ok(NetworkPolicy {
        mode: Mode::Enforce,
        pod_selector: selector(app(kind % KINDS)),
        ingress,
        egress,
    })
}

fn setup() -> NodeSetup {
    let mac = |n: u16| {
        let [high, low] = n.to_be_bytes();
        MacAddr([2, 0, 0, 0, high, low])
    };
    let slot = |n: u16| VfSlot {
        index: n,
        name: PortName(format!("pf0vf{n}")),
        mac: mac(n),
        mtu: 1500,
        vlan: None,
    };
    NodeSetup {
        node: HERE.into(),
        uplink: UplinkSetup {
            name: "uplink".into(),
            mac: mac(0xfffe),
            mtu: 9000,
            interfaces: Vec::new(),
        },
        host: HostSetup {
            name: "host".into(),
            mac: mac(0xffff),
            mtu: 9000,
        },
        vfs: (0..128).map(slot).collect(),
    }
}

fn vfs(cluster: &Cluster, setup: &NodeSetup) -> anyhow::Result<VfTable> {
    let mut vfs = VfTable::default();
    let here = |pod: &&Pod| pod.node.as_ref() == Some(&setup.node);
    for pod in cluster.pods.values().filter(here) {
        vfs.assign(&pod.uid, &pod.pod, &pod.ips, &setup.vfs)?;
    }
    Ok(vfs)
}
