//! What a state holds beside verdicts: places, shared tables, stable numbers, and what
//! happens to what can't be.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::collections::BTreeSet;

use sluice_host_agent::cluster::{Cluster, EncryptionSetup, Mode};
use sluice_host_agent::compile::{
    HostSetup, NodeSetup, UplinkSetup, compile, compile_within, crossing, longest_prefix, lookup,
};
use sluice_host_agent::evaluate::{self, Crossing};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::manifest::load_texts;
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::model::{
    Direction, Encryption, Fallback, MacAddr, Place, PodRef, PortKind, PortName, Protocol, Verdict,
};
use sluice_offload_api::{Limits, State};

const CLUSTER: &str = "
{kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}}
---
{kind: Node, metadata: {name: b, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
{kind: Pod, metadata: {name: web-1, namespace: shop, labels: {app: web}},
 spec: {nodeName: a}, status: {podIP: 10.0.0.1}}
---
{kind: Pod, metadata: {name: web-2, namespace: shop, labels: {app: web}},
 spec: {nodeName: a}, status: {podIP: 10.0.0.2}}
---
{kind: Pod, metadata: {name: plain, namespace: shop, labels: {app: plain}},
 spec: {nodeName: a}, status: {podIP: 10.0.0.3}}
---
{kind: Pod, metadata: {name: far, namespace: shop, labels: {app: web}},
 spec: {nodeName: b}, status: {podIP: 10.0.1.1}}
---
{kind: Service, metadata: {name: web, namespace: shop}, spec: {clusterIP: 10.96.0.1}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: in, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}, {ipBlock: {cidr: 192.0.2.0/24}}]
    ports: [{port: 80}, {port: 1000, endPort: 1999}]
";

fn cluster() -> Cluster {
    load_texts(&[("cluster.yaml", CLUSTER)]).unwrap().cluster
}

fn setup() -> NodeSetup {
    let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
    let vf = |index: u8| VfSlot {
        index: index.into(),
        name: PortName(format!("pf0vf{index}")),
        mac: mac(index),
        mtu: 1500,
        vlan: Some(7),
    };
    let uplink = UplinkSetup {
        name: "uplink".into(),
        mac: mac(254),
        mtu: 9000,
        interfaces: Vec::new(),
    };
    let host = HostSetup {
        name: "host".into(),
        mac: mac(255),
        mtu: 1500,
    };
    NodeSetup {
        node: "a".into(),
        uplink,
        host,
        vfs: (1..5).map(vf).collect(),
        encryption: EncryptionSetup::default(),
    }
}

fn vfs(pods: &[&str]) -> VfTable {
    let mut table = VfTable::default();
    for name in pods {
        let pod = PodRef {
            namespace: "shop".to_owned(),
            name: (*name).to_owned(),
        };
        table
            .assign(
                &format!("shop/{name}").as_str().into(),
                &pod,
                &[],
                &setup().vfs,
            )
            .unwrap();
    }
    table
}

fn state(cluster: &Cluster, identities: &mut IdentityTable) -> State {
    let state = compile(cluster, &setup(), &vfs(&["web-1", "web-2"]), identities).unwrap();
    assert_eq!(state.validate(&Limits::MAX), Ok(()));
    state
}

#[test]
fn every_address_has_its_place() {
    let state = state(&cluster(), &mut IdentityTable::default());
    let table = [
        ("10.0.0.1", Place::LocalPod, "shop{app=web}"),
        ("10.0.0.3", Place::LocalNode, "shop{app=plain}"),
        ("10.0.1.1", Place::RemotePod("b".into()), "shop{app=web}"),
        ("10.9.0.1", Place::LocalNode, "node/a"),
        ("10.9.0.2", Place::RemoteNode("b".into()), "node/b"),
        ("10.96.0.1", Place::ServiceVip, "world"),
        ("192.0.2.7", Place::Outside, "192.0.2.0/24"),
        ("203.0.113.1", Place::Outside, "world"),
        ("2001:db8::1", Place::Outside, "world"),
    ];
    for (ip, place, label) in table {
        let prefix = longest_prefix(&state, ip.parse().unwrap()).unwrap();
        assert_eq!(prefix.place, place, "{ip}");
        assert_eq!(state.identities[&prefix.identity].label, label, "{ip}");
    }
}

#[test]
fn a_vf_has_its_port_with_and_without_a_pod() {
    let state = state(&cluster(), &mut IdentityTable::default());
    assert_eq!(state.ports.len(), 6);
    assert_eq!(state.endpoints.len(), 2);
    let port = &state.ports[&"pf0vf4".into()];
    assert_eq!(
        (port.kind.clone(), port.vlan),
        (PortKind::Vf { index: 4 }, Some(7))
    );
    let endpoint = &state.endpoints[&"shop/web-2".into()];
    assert_eq!(
        (endpoint.port.0.as_str(), endpoint.mac),
        ("pf0vf2", MacAddr([2, 0, 0, 0, 0, 2]))
    );
}

#[test]
fn pods_that_the_same_policies_select_share_a_table() {
    let state = state(&cluster(), &mut IdentityTable::default());
    let [one, two] = ["shop/web-1", "shop/web-2"].map(|it| state.endpoints[&it.into()].policy);
    assert_eq!(one, two);
    assert_eq!(state.policies.len(), 1);
    let policy = &state.policies[&one];
    assert_eq!(
        policy.rules,
        [
            "own node",
            "shop/in ingress[0]",
            "shop/in isolates ingress",
            "no policy"
        ]
    );
    assert!(policy.rows.is_sorted_by(|a, b| a.key() < b.key()));
}

#[test]
fn numbers_stay_when_other_things_change_and_are_not_reused() {
    let (mut cluster, mut identities) = (cluster(), IdentityTable::default());
    let before = state(&cluster, &mut identities);
    let web = |state: &State| state.endpoints[&"shop/web-1".into()].clone();
    cluster.pods.retain(|name, _| name.name != "plain");
    let mut new = cluster.pods.values().next().unwrap().clone();
    new.pod.name = "new".to_owned();
    new.uid = "shop/new".into();
    new.labels.insert("app".to_owned(), "new".to_owned());
    new.ips = vec!["10.0.0.9".parse().unwrap()];
    cluster.pods.insert(new.pod.clone(), new);
    let after = state(&cluster, &mut identities);
    assert_eq!(web(&after), web(&before));
    let new = longest_prefix(&after, "10.0.0.9".parse().unwrap())
        .unwrap()
        .identity;
    assert!(!before.identities.contains_key(&new));
    // The deltas are no more than what changed: a pod's identity and prefix, twice.
    assert_eq!(before.delta_to(&after).ops.len(), 4);
}

#[test]
fn the_table_of_numbers_survives_its_journal() {
    let mut identities = IdentityTable::default();
    let before = state(&cluster(), &mut identities);
    let json = serde_json::to_string(&identities).unwrap();
    let mut restored: IdentityTable = serde_json::from_str(&json).unwrap();
    assert_eq!(restored, identities);
    assert_eq!(state(&cluster(), &mut restored), before);
}

#[test]
fn tables_that_do_not_fit_together_close_the_largest_and_no_others() {
    let limits = Limits {
        rows: 8,
        ..Limits::MAX
    };
    let vfs = vfs(&["web-1", "plain"]);
    let identities = &mut IdentityTable::default();
    let state = compile_within(&cluster(), &setup(), &vfs, identities, &limits).unwrap();
    let policy = |uid: &str| &state.policies[&state.endpoints[&uid.into()].policy];
    let closed = policy("shop/web-1");
    assert_eq!((closed.rows.len(), closed.rules.len()), (0, 1));
    assert_eq!(
        (closed.ingress.verdict, closed.egress.verdict),
        (Verdict::Deny, Verdict::Deny)
    );
    let why = &closed.rules[0];
    assert!(
        why.starts_with("closed: all tables of the node need 1"),
        "{why}"
    );
    assert!(!policy("shop/plain").rows.is_empty());
    let total: usize = state.policies.values().map(|it| it.rows.len()).sum();
    assert!(total <= limits.rows);
}

#[test]
fn a_policy_that_does_not_fit_closes_its_endpoints_and_no_others() {
    let limits = Limits {
        rows_per_policy: 8,
        ..Limits::MAX
    };
    let vfs = vfs(&["web-1", "plain"]);
    let identities = &mut IdentityTable::default();
    let state = compile_within(&cluster(), &setup(), &vfs, identities, &limits).unwrap();
    let policy = |uid: &str| &state.policies[&state.endpoints[&uid.into()].policy];
    let node = longest_prefix(&state, "10.9.0.1".parse().unwrap())
        .unwrap()
        .identity;
    for direction in [Direction::Ingress, Direction::Egress] {
        let ruling = lookup(
            policy("shop/web-1"),
            direction,
            node,
            Protocol::Tcp,
            Some(80),
        );
        assert_eq!(ruling.verdict, Verdict::Deny);
        assert_eq!(
            ruling.rule,
            "closed: its policies need 17 rows, and 8 fit; 16 of them for shop/in ingress[0]"
        );
        let ruling = lookup(
            policy("shop/plain"),
            direction,
            node,
            Protocol::Tcp,
            Some(80),
        );
        assert_eq!(ruling.verdict, Verdict::Allow);
    }
}

#[test]
fn a_shadow_that_does_not_fit_is_left_out_and_closes_nothing() {
    let mut cluster = cluster();
    for policy in cluster.policies.values_mut() {
        policy.mode = Mode::Shadow;
    }
    let state = |limits: &Limits| {
        let identities = &mut IdentityTable::default();
        compile_within(
            &cluster,
            &setup(),
            &vfs(&["web-1", "plain"]),
            identities,
            limits,
        )
        .unwrap()
    };
    let shadowed = |state: &State, uid: &str| {
        let policy = &state.policies[&state.endpoints[&uid.into()].policy];
        let open = |it: &Fallback| it.verdict == Verdict::Allow;
        assert!(open(&policy.ingress) && open(&policy.egress), "{uid}");
        policy.shadow_table().map(|it| it.rows.len())
    };
    let whole = state(&Limits::MAX);
    let rows = shadowed(&whole, "shop/web-1").unwrap();
    assert!(rows > 8 && shadowed(&whole, "shop/plain").is_none());
    for limits in [
        Limits {
            rows_per_policy: 8,
            ..Limits::MAX
        },
        Limits {
            rows: 8,
            ..Limits::MAX
        },
    ] {
        assert_eq!(shadowed(&state(&limits), "shop/web-1"), None);
    }
}

#[test]
fn a_pod_without_address_completed_or_elsewhere_is_no_endpoint() {
    let mut cluster = cluster();
    let by_name = |name: &str| PodRef {
        namespace: "shop".to_owned(),
        name: name.to_owned(),
    };
    cluster.pods.get_mut(&by_name("web-1")).unwrap().ips.clear();
    cluster.pods.get_mut(&by_name("web-2")).unwrap().completed = true;
    let vfs = vfs(&["web-1", "web-2", "far"]);
    let state = compile(&cluster, &setup(), &vfs, &mut IdentityTable::default()).unwrap();
    assert!(state.endpoints.is_empty() && state.policies.is_empty());
    assert_eq!(state.validate(&Limits::MAX), Ok(()));
}

/// One node's object is late, or was taken away before its pods: the others' policies go on.
#[test]
fn to_a_node_that_no_tunnel_leads_to_nothing_goes() {
    let looser = || {
        let off = EncryptionSetup::new(Encryption::Off, None, BTreeSet::new()).unwrap();
        NodeSetup {
            encryption: off,
            ..setup()
        }
    };
    let of = |cluster: &Cluster| {
        let vfs = vfs(&["web-1"]);
        compile(cluster, &looser(), &vfs, &mut IdentityTable::default()).unwrap()
    };
    let (web, far) = ("10.0.0.1".parse().unwrap(), "10.0.1.1".parse().unwrap());
    let there = of(&cluster());
    assert!(!there.peers[&"b".into()].unprotected);
    assert_eq!(crossing(&there, web, far), Crossing::Clear);
    let (mut no_tunnel, mut gone) = (cluster(), cluster());
    let node = no_tunnel.nodes.get_mut(&"b".into()).unwrap();
    node.tunnel_ips.clear();
    gone.nodes.remove(&"b".into());
    for cluster in [no_tunnel, gone] {
        let state = of(&cluster);
        assert_eq!(state.validate(&Limits::MAX), Ok(()));
        assert_eq!(crossing(&state, web, far), Crossing::Never);
        assert_eq!(crossing(&state, far, web), Crossing::Never);
        let oracle = evaluate::crossing(&cluster, &looser().encryption, web, far);
        assert_eq!(oracle, Crossing::Never);
    }
}

#[test]
fn what_can_not_be_is_refused_with_names() {
    let refused = |cluster: &Cluster, setup: &NodeSetup| {
        let vfs = vfs(&["web-1"]);
        compile(cluster, setup, &vfs, &mut IdentityTable::default())
            .unwrap_err()
            .to_string()
    };
    let mut one_ip = cluster();
    for pod in one_ip.pods.values_mut() {
        pod.ips = vec!["10.0.0.1".parse().unwrap()];
    }
    assert_eq!(
        refused(&one_ip, &setup()),
        "10.0.0.1 belongs to pod shop/far and to pod shop/plain; give each its own"
    );
    let no_vfs = NodeSetup {
        vfs: Vec::new(),
        ..setup()
    };
    assert_eq!(
        refused(&cluster(), &no_vfs),
        "pod shop/web-1 is bound to VF pf0vf1, which is not among the node's; delete the pod"
    );
}
