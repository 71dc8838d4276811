//! What is validated is who has an address, also where a node doesn't list it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use sluice_host_agent::cluster::{Cluster, EncryptionSetup};
use sluice_host_agent::compile::{HostSetup, NodeSetup, UplinkSetup, compile};
use sluice_host_agent::identity::IdentityTable;
use sluice_host_agent::manifest::load_texts;
use sluice_host_agent::validate::{POINTS_MAX, Sweep, validate};
use sluice_host_agent::vf::{VfSlot, VfTable};
use sluice_offload_api::State;
use sluice_offload_api::model::{MacAddr, PodRef, PortName};

fn setup() -> NodeSetup {
    let mac = |n| MacAddr([2, 0, 0, 0, 0, n]);
    let vf = |index: u8| VfSlot {
        index: index.into(),
        name: PortName(format!("pf0vf{index}")),
        mac: mac(index),
        mtu: 1500,
        vlan: None,
    };
    NodeSetup {
        node: "a".into(),
        uplink: UplinkSetup {
            name: "uplink".into(),
            mac: mac(254),
            mtu: 9000,
            interfaces: Vec::new(),
        },
        host: HostSetup {
            name: "host".into(),
            mac: mac(255),
            mtu: 1500,
        },
        vfs: (1..5).map(vf).collect(),
        encryption: EncryptionSetup::default(),
    }
}

fn vfs(pods: &[String]) -> VfTable {
    let mut table = VfTable::default();
    for name in pods {
        let pod = PodRef {
            namespace: "shop".to_owned(),
            name: name.clone(),
        };
        let uid = format!("shop/{name}");
        table
            .assign(&uid.as_str().into(), &pod, &[], &setup().vfs)
            .unwrap();
    }
    table
}

const NODES: &str = "
{kind: Node, metadata: {name: a}, status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}}
---
{kind: Node, metadata: {name: b, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}},
 status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}}
---
";

fn load(text: &str) -> Cluster {
    load_texts(&[("cluster.yaml", text)]).unwrap().cluster
}

/// The node has an IPv6 ExternalIP only, which kubelet gives its hostNetwork pods all the same.
#[test]
fn a_host_network_pod_with_an_address_that_its_node_does_not_list_is_no_fault() {
    let cluster = load(&format!(
        "{NODES}
{{kind: Pod, metadata: {{name: agent, namespace: shop}},
 spec: {{nodeName: a, hostNetwork: true}},
 status: {{podIPs: [{{ip: 10.9.0.1}}, {{ip: 'fd00::1'}}]}}}}
---
{{kind: Pod, metadata: {{name: web, namespace: shop}},
 spec: {{nodeName: a}}, status: {{podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd01::1'}}]}}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: deny, namespace: shop}}
spec: {{podSelector: {{}}, policyTypes: [Ingress]}}
"
    ));
    let state = compile(
        &cluster,
        &setup(),
        &vfs(&["web".to_owned()]),
        &mut IdentityTable::default(),
    )
    .unwrap();
    let found = validate(&cluster, &State::default(), &state, 1, POINTS_MAX);
    assert!(found.is_ok(), "{}", found.unwrap_err());
}

/// Tables may be right and an endpoint have another's.
#[test]
fn an_endpoint_with_anothers_table_is_found() {
    let mut text = NODES.to_owned();
    for (name, ip) in ["w1", "w2", "w3", "x1", "x2", "x3"].into_iter().zip(1..) {
        let app = &name[..1];
        text += &format!(
            "{{kind: Pod, metadata: {{name: {name}, namespace: shop, uid: {name}, labels: {{app: {app}}}}},
 spec: {{nodeName: a}}, status: {{podIPs: [{{ip: 10.0.0.{ip}}}]}}}}
---
"
        );
    }
    text += "{kind: Pod, metadata: {name: far, namespace: shop}, spec: {nodeName: b}, status: {podIPs: [{ip: 10.0.1.1}]}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {matchLabels: {app: x}}, policyTypes: [Ingress]}
";
    let cluster = load(&text);
    let mut table = VfTable::default();
    let mut setup = setup();
    let slot = |index: u8| VfSlot {
        index: index.into(),
        name: PortName(format!("pf0vf{index}")),
        mac: MacAddr([2, 0, 0, 0, 0, index]),
        mtu: 1500,
        vlan: None,
    };
    setup.vfs = (1..9).map(slot).collect();
    for pod in cluster
        .pods
        .values()
        .filter(|it| it.node == Some("a".into()))
    {
        table.assign(&pod.uid, &pod.pod, &[], &setup.vfs).unwrap();
    }
    let good = compile(&cluster, &setup, &table, &mut IdentityTable::default()).unwrap();
    let mut bad = good.clone();
    let open = good.endpoints[&"w1".into()].policy;
    assert_ne!(open, good.endpoints[&"x3".into()].policy);
    bad.endpoints.get_mut(&"x3".into()).unwrap().policy = open;
    let change = validate(&cluster, &good, &bad, 0, POINTS_MAX);
    assert_eq!(change.unwrap_err().pod.name, "x3");
    let whole = validate(&cluster, &State::default(), &bad, 0, POINTS_MAX);
    assert_eq!(whole.unwrap_err().pod.name, "x3");
    let mut sweep = Sweep::default();
    let mut rounds = 0;
    while rounds < 3 {
        let swept = sweep.step(&cluster, &bad, 100);
        if let Some(found) = swept.found {
            assert_eq!(found.pod.name, "x3");
            return;
        }
        rounds += usize::from(swept.round);
    }
    panic!("not found in {rounds} rounds");
}
