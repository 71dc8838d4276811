//! A cluster that fits on a page, and what policies say of its flows: the evaluator, two
//! nodes' compiled tables, and real frames between simulated nodes. All must say the same.

use std::net::IpAddr;

use sluice_host_agent::cluster::{AddressIndex, Cluster, EncryptionSetup, Holder, NamespacedName};
use sluice_host_agent::compile::{
    HostSetup, NodeSetup, Sides, UplinkSetup, compile, judge_knowing,
};
use sluice_host_agent::evaluate::{Judgement, KnownNames, Party, Query, evaluate_knowing};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::manifest::load_texts;
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::State;
use sluice_offload_api::model::{
    Direction, EndpointKey, MacAddr, NodeName, PortName, Protocol, Verdict,
};
use sluice_sim::probe::{self, Family, Probe, ProbePort};
use sluice_sim::world::{World, WorldConfig};

/// shop: web and cart on node a, db on node b; ops: probe on b. `agent` is in node b's
/// network, `job` is over and had what is db's address now.
const CLUSTER: &str = "
{kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
---
{kind: Node, metadata: {name: a, annotations: {sluice.dev/tunnel-ips: 172.16.0.1}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.1}, {type: Hostname, address: a}]}}
---
{kind: Node, metadata: {name: b, labels: {zone: west}, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
spec: {nodeName: a, containers: [{ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
{kind: Pod, metadata: {name: cart, namespace: shop, labels: {app: cart, tier: back}},
 spec: {nodeName: a}, status: {podIP: 10.0.0.2}}
---
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db, tier: back}}
spec:
  nodeName: b
  containers:
  - ports: [{name: sql, containerPort: 5432}, {name: sync, containerPort: 7000, protocol: SCTP}]
  - ports: [{name: sql, containerPort: 5433, protocol: UDP}]
status: {podIPs: [{ip: 10.0.1.1}, {ip: 'fd00::1:1'}]}
---
{kind: Pod, metadata: {name: probe, namespace: ops, labels: {app: probe}},
 spec: {nodeName: b}, status: {podIP: 10.0.1.2}}
---
{kind: Pod, metadata: {name: agent, namespace: ops, labels: {app: cart}},
 spec: {nodeName: b, hostNetwork: true}, status: {podIP: 10.9.0.2}}
---
{kind: Pod, metadata: {name: job, namespace: shop, labels: {app: cart}},
 spec: {nodeName: a}, status: {podIP: 10.0.1.1, phase: Succeeded}}
---
{kind: Service, metadata: {name: db, namespace: shop}, spec: {clusterIPs: [10.96.0.1]}}
---
{kind: Service, metadata: {name: headless, namespace: shop}, spec: {clusterIPs: [None]}}
";

/// Manifests of NetworkPolicies of namespace shop: pairs of name and spec.
pub(crate) fn network_policies(policies: &[(&str, &str)]) -> String {
    let head = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n";
    let policy = |(name, spec): &(&str, &str)| {
        format!("{head}metadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n---\n")
    };
    policies.iter().map(policy).collect()
}

/// A cluster with these policies' manifests.
fn cluster(objects: &str, policies: &str) -> Cluster {
    load_texts(&[("cluster.yaml", objects), ("net.yaml", policies)])
        .unwrap()
        .cluster
}

fn node_state(cluster: &Cluster, node: &str) -> State {
    let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
    let vf = |index: u8| VfSlot {
        index: index.into(),
        name: PortName(format!("pf0vf{index}")),
        mac: mac(index),
        mtu: 1500,
        vlan: None,
    };
    let uplink = UplinkSetup {
        name: "uplink".into(),
        mac: mac(254),
        mtu: 1500,
        interfaces: Vec::new(),
    };
    let host = HostSetup {
        name: "host".into(),
        mac: mac(255),
        mtu: 1500,
    };
    let vfs = (1..9).map(vf).collect();
    let setup = NodeSetup {
        node: node.into(),
        uplink,
        host,
        vfs,
        encryption: EncryptionSetup::default(),
    };
    let mut table = VfTable::default();
    for pod in cluster.pods.values() {
        if pod.owns_addresses() && pod.node == Some(NodeName::from(node)) {
            table
                .assign(&pod.uid, &pod.pod, &pod.ips, &setup.vfs)
                .unwrap();
            for it in &pod.interfaces {
                let key = EndpointKey {
                    pod_uid: pod.uid.clone(),
                    interface: it.name.clone(),
                };
                table
                    .assign_interface(&key, &pod.pod, &it.ips, &setup.vfs)
                    .unwrap();
            }
        }
    }
    compile(cluster, &setup, &table, &mut IdentityTable::default()).unwrap()
}

/// Who a name of the tables below is: `web` of shop, `web@net1` on that interface, an
/// address, or `node:a`.
fn party(cluster: &Cluster, name: &str) -> (Party, IpAddr) {
    if let Ok(ip) = name.parse::<IpAddr>() {
        let index = AddressIndex::build(cluster).unwrap();
        let party = match index.holder(ip) {
            Some(Holder::Pod(pod) | Holder::Interface(pod, _)) => Party::Pod {
                ns: pod.namespace.clone(),
                name: pod.name.clone(),
            },
            Some(Holder::Node(node)) => Party::Node(node.clone()),
            Some(Holder::Service(_)) | None => Party::Outside(ip),
        };
        return (party, ip);
    }
    if let Some(node) = name.strip_prefix("node:") {
        let node = NodeName::from(node);
        return (Party::Node(node.clone()), cluster.nodes[&node].ips[0]);
    }
    let (name, interface) = name.split_once('@').unwrap_or((name, ""));
    let pod = cluster
        .pods
        .values()
        .find(|it| it.pod.name == name)
        .unwrap();
    let ips = pod
        .interface(interface)
        .map_or(&pod.ips, |interface| &interface.ips);
    let (ns, name) = (pod.pod.namespace.clone(), pod.pod.name.clone());
    (Party::Pod { ns, name }, ips[0])
}

/// Judges `from to protocol[/port]`, all three ways, where `names` are known.
fn ask(
    cluster: &Cluster,
    states: &[State],
    world: &mut World,
    names: &KnownNames,
    flow: &str,
) -> Judgement {
    let [from, to, what] = flow.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{flow}");
    };
    let (protocol, port) = what.split_once('/').unwrap_or((what, ""));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        "icmp" => Protocol::Icmp,
        _ => panic!("{flow}"),
    };
    let ((from, from_ip), (to, to_ip)) = (party(cluster, from), party(cluster, to));
    let port = port.parse().ok();
    let mut sides = Sides::default();
    for state in states {
        let its = judge_knowing(state, from_ip, to_ip, protocol, port, names);
        sides.egress = sides.egress.or(its.egress);
        sides.ingress = sides.ingress.or(its.ingress);
    }
    let probe = Probe {
        from: probe_party(&from),
        to: probe_party(&to),
        from_network: network(cluster, from_ip),
        to_network: network(cluster, to_ip),
        source_port: None,
        protocol,
        port: port.map(ProbePort::Number),
        family: Some(if from_ip.is_ipv4() {
            Family::Ipv4
        } else {
            Family::Ipv6
        }),
        expect: None,
    };
    let query = Query {
        from,
        to,
        protocol,
        port,
        from_ip,
        to_ip,
    };
    let judgement = evaluate_knowing(cluster, &query, names);
    assert_eq!(sides.judgement(), judgement, "{flow}");
    let seen = world.probe(&probe).unwrap();
    assert_eq!(
        (seen.verdict, seen.at, &seen.rule, &seen.shadow),
        (
            judgement.verdict,
            judgement.at,
            &judgement.rule,
            &judgement.shadow
        ),
        "frames: {flow}"
    );
    judgement
}

/// Asserts under these policies' manifests for each `flow: allow|egress|ingress, rule` that
/// it is so.
pub(crate) fn check_under(policies: &str, flows: &[(&str, &str)]) {
    check_in(CLUSTER, policies, flows);
}

/// The same in another cluster, of nodes a and b.
pub(crate) fn check_in(objects: &str, policies: &str, flows: &[(&str, &str)]) {
    let mut shop = Shop::running(objects, policies);
    for (flow, expected) in flows {
        shop.check(flow, expected, KnownNames::NONE);
    }
    assert_eq!(shop.world.unaccounted(), 0);
    assert_eq!(shop.world.wire_proof().marker_bytes_in_clear, 0);
}

/// The cluster, running.
pub(crate) struct Shop {
    cluster: Cluster,
    states: [State; 2],
    pub(crate) world: World,
}

impl Shop {
    /// Under these policies' manifests.
    pub(crate) fn under(policies: &str) -> Self {
        Self::running(CLUSTER, policies)
    }

    /// Another cluster, of nodes a and b, under these policies' manifests.
    fn running(objects: &str, policies: &str) -> Self {
        let cluster = cluster(objects, policies);
        let states = ["a", "b"].map(|node| node_state(&cluster, node));
        let world = World::boot(cluster.clone(), WorldConfig::default()).unwrap();
        Self {
            cluster,
            states,
            world,
        }
    }

    /// Gives the running cluster other policies.
    pub(crate) fn change(&mut self, policies: &str) {
        self.cluster = cluster(CLUSTER, policies);
        self.states = ["a", "b"].map(|node| node_state(&self.cluster, node));
        self.world.apply(self.cluster.clone()).unwrap();
    }

    /// Takes a pod away, under these policies.
    pub(crate) fn without(&mut self, pod: &str, policies: &str) {
        let mut cluster = cluster(CLUSTER, policies);
        cluster.pods.retain(|name, _| name.name != pod);
        self.world.apply(cluster).unwrap();
    }

    /// Who a name is, and its address.
    pub(crate) fn party(&self, name: &str) -> (probe::Party, IpAddr) {
        let (party, ip) = party(&self.cluster, name);
        (probe_party(&party), ip)
    }

    /// Asserts that a flow is `allow|egress|ingress, rule` where these names are known, and
    /// behind that what shadow policies would turn: `; shadow: deny at ingress by rule`.
    pub(crate) fn check(&mut self, flow: &str, expected: &str, names: &KnownNames) {
        let (cluster, states) = (&self.cluster, &self.states);
        let Judgement {
            verdict,
            at,
            rule,
            shadow,
            ..
        } = ask(cluster, states, &mut self.world, names, flow);
        let side = match (verdict, at) {
            (Verdict::Allow, None) => "allow",
            (Verdict::Deny, Some(Direction::Egress)) => "egress",
            (Verdict::Deny, Some(Direction::Ingress)) => "ingress",
            other => panic!("{other:?}"),
        };
        let shadow = shadow.map_or_else(String::new, |it| {
            let verdict = match it.verdict {
                Verdict::Allow => "allow",
                Verdict::Deny => "deny",
            };
            let at = match it.at {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            format!("; shadow: {verdict} at {at} by {}", it.rule)
        });
        let got = format!("{side}, {}{shadow}", rule.as_deref().unwrap_or("none"));
        assert_eq!(got, expected, "{flow}");
    }
}

/// The network that an address is on.
fn network(cluster: &Cluster, ip: IpAddr) -> Option<NamespacedName> {
    cluster.pod_at(ip)?.network_at(ip).cloned()
}

fn probe_party(party: &Party) -> probe::Party {
    match party.clone() {
        Party::Pod { ns, name } => probe::Party::Pod {
            namespace: ns,
            name,
        },
        Party::Node(node) => probe::Party::Node(node.0),
        Party::Outside(ip) => probe::Party::Outside(ip),
    }
}
