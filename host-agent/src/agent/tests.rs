mod secondary;

use super::*;
use crate::cluster::EncryptionSetup;
use crate::compile::{HostSetup, UplinkSetup};
use crate::manifest::load_texts;
use crate::vf::VfSlot;
use sluice_offload_api::model::{Interface, MacAddr, PodRef, Protocol, Verdict};

const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: a, annotations: {sluice.dev/tunnel-ips: 172.16.0.1}}
status: {addresses: [{type: InternalIP, address: 10.9.0.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: b, annotations: {sluice.dev/tunnel-ips: 172.16.0.2}}
status: {addresses: [{type: InternalIP, address: 10.9.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: db, labels: {app: db}}
spec: {nodeName: b}
status: {podIPs: [{ip: 10.1.1.2}]}
";

const CART: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: cart, uid: u-1, labels: {app: cart}}
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.2}]}
";

/// A pod elsewhere with cart's address.
const SUCCESSOR: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: successor, uid: u-2}
spec: {nodeName: b}
status: {podIPs: [{ip: 10.1.0.2}]}
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: deny}
spec: {podSelector: {}, policyTypes: [Ingress, Egress]}
";

fn setup() -> NodeSetup {
    let slot = |n: u8| VfSlot {
        index: n.into(),
        name: PortName(format!("pf0vf{n}")),
        mac: MacAddr([2, 0, 0, 0, 1, n]),
        mtu: 1400,
        vlan: None,
    };
    NodeSetup {
        node: "a".into(),
        uplink: UplinkSetup {
            name: "uplink".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 1]),
            mtu: 1500,
            interfaces: vec![Interface {
                addr: "172.16.0.1".parse().unwrap(),
                prefix_len: 24,
                gateway: None,
            }],
        },
        host: HostSetup {
            name: "host".into(),
            mac: MacAddr([2, 0, 0, 0, 0, 2]),
            mtu: 1500,
        },
        vfs: vec![slot(0), slot(1)],
        encryption: EncryptionSetup::default(),
    }
}

fn agent(texts: &[&str]) -> Agent {
    let devices = DeviceNames {
        by_pci: BTreeMap::from([("0000:03:00.2".to_owned(), "pf0vf0".into())]),
    };
    let (mut agent, left_out) = Agent::new(setup(), devices, Journal::default());
    assert!(left_out.is_empty());
    let files: Vec<_> = texts.iter().map(|text| ("x.yaml", *text)).collect();
    agent.on_cluster(load_texts(&files).unwrap().cluster);
    agent.on_connect(1, Generation(0));
    agent
}

/// Brings an agent's dataplane in step.
fn settle(agent: &mut Agent, dataplane: &mut State) {
    while let Some(tx) = agent.next_transaction() {
        *dataplane = dataplane.apply(&tx).unwrap();
        agent.on_answer(Answer::Ack {
            generation: dataplane.generation,
        });
    }
    assert!(agent.is_settled(), "{}", agent.unsettled());
}

fn request(container: &str, name: &str, uid: Option<&str>, port: &str, ip: &str) -> AttachRequest {
    AttachRequest {
        container: container.to_owned(),
        ifname: "eth0".to_owned(),
        pod: PodRef {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
        },
        uid: uid.map(Into::into),
        network: Some("pods".to_owned()),
        vf: VfHint {
            port: Some(port.into()),
            ..VfHint::default()
        },
        ips: if ip.is_empty() {
            vec![]
        } else {
            vec![ip.parse().unwrap()]
        },
    }
}

fn cart() -> AttachRequest {
    request("c1", "cart", Some("u-1"), "pf0vf0", "10.1.0.2")
}

#[test]
fn a_pod_is_an_endpoint_from_add_to_del() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    let attached = agent.attach(&cart()).unwrap();
    assert_eq!((attached.standing, attached.fresh), (Standing::Known, true));
    assert!(!agent.is_settled());
    settle(&mut agent, &mut dataplane);
    assert_eq!(dataplane.endpoints[&"u-1".into()].port, "pf0vf0".into());
    agent.check("c1", "eth0", &cart().ips).unwrap();

    let again = agent.attach(&cart()).unwrap();
    assert!(!again.fresh && agent.is_settled());
    assert!(agent.detach("c1", "eth0").is_some());
    assert!(agent.detach("c1", "eth0").is_none());
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    assert!(agent.check("c1", "eth0", &[]).is_err());
}

#[test]
fn the_address_that_a_pod_gave_back_is_nobodys_while_the_pod_is_listed() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    let place = |state: &State| {
        let prefix = IpPrefix::host("10.1.0.2".parse().unwrap());
        state.prefixes.get(&prefix).map(|it| it.place.clone())
    };
    assert_eq!(place(&dataplane), Some(Place::LocalPod));
    agent.detach("c1", "eth0").unwrap();
    settle(&mut agent, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::Nobody));

    // An agent that starts anew remembers it.
    let (mut next, _) = Agent::new(setup(), DeviceNames::default(), agent.journal());
    let listed = |texts: &[&str]| {
        let files: Vec<_> = texts.iter().map(|text| ("x.yaml", *text)).collect();
        load_texts(&files).unwrap().cluster
    };
    next.on_cluster(listed(&[NODES, CART]));
    next.on_connect(1, dataplane.generation);
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::Nobody));

    // Another pod may have the address though the one before is still listed.
    next.on_change(|cluster| cluster.pods.put_over(&listed(&[NODES, SUCCESSOR]).pods));
    assert_eq!(next.compile_fault(), None);
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::RemotePod("b".into())));

    // The same pod in another sandbox has it again, and so has whom the API lists in its place.
    next.on_cluster(listed(&[NODES, CART]));
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::Nobody));
    next.attach(&cart()).unwrap();
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::LocalPod));
    next.detach("c1", "eth0").unwrap();
    next.on_cluster(listed(&[NODES, &CART.replace("u-1", "u-3")]));
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), Some(Place::LocalNode));
    next.on_cluster(listed(&[NODES]));
    settle(&mut next, &mut dataplane);
    assert_eq!(place(&dataplane), None);
}

#[test]
fn a_pod_that_only_cni_knows_is_closed_until_its_manifest_is_there() {
    let (mut agent, mut dataplane) = (agent(&[NODES]), State::default());
    assert_eq!(
        agent.attach(&cart()).unwrap().standing,
        Standing::NoManifest
    );
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    assert_eq!(agent.status().closed, 1);
    assert!(
        agent.status().problems[0]
            .text
            .contains("no manifest has it")
    );

    let files = [("n.yaml", NODES), ("c.yaml", CART)];
    agent.on_cluster(load_texts(&files).unwrap().cluster);
    settle(&mut agent, &mut dataplane);
    assert_eq!(dataplane.endpoints.len(), 1);
    assert_eq!(
        (agent.status().closed, agent.status().problems.len()),
        (0, 0)
    );
}

#[test]
fn a_change_elsewhere_leaves_what_cni_said_of_a_pod() {
    const SPARSE: &str = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: cart, labels: {app: cart}}
spec: {nodeName: a}
";
    let (mut agent, mut dataplane) = (agent(&[NODES, SPARSE]), State::default());
    assert_eq!(agent.attach(&cart()).unwrap().standing, Standing::Known);
    settle(&mut agent, &mut dataplane);
    let identity = |state: &State| state.endpoints[&"u-1".into()].identity;
    let before = (agent.cluster().pods[&cart().pod].clone(), dataplane.clone());
    assert_eq!(before.0.ips, cart().ips);

    let relabel = |name: &str| {
        let (namespace, name) = ("shop".to_owned(), name.to_owned());
        move |cluster: &mut Cluster| {
            let pod = cluster.pods.get_mut(&PodRef { namespace, name }).unwrap();
            pod.labels.insert("app".to_owned(), "new".to_owned());
        }
    };
    assert!(agent.on_change(relabel("db")));
    settle(&mut agent, &mut dataplane);
    assert_eq!(agent.touched().pods, 0);
    assert_eq!(agent.cluster().pods[&cart().pod], before.0);
    assert_eq!(dataplane.endpoints, before.1.endpoints);
    assert_ne!(dataplane.prefixes, before.1.prefixes);

    assert!(agent.on_change(relabel("cart")));
    settle(&mut agent, &mut dataplane);
    assert_eq!(agent.touched().pods, 1);
    assert_eq!(agent.cluster().pods[&cart().pod].ips, cart().ips);
    assert_ne!(identity(&dataplane), identity(&before.1));

    assert!(agent.on_change(|cluster| drop(cluster.pods.remove(&cart().pod))));
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    let standings: Vec<_> = agent.standings().map(|it| it.1.clone()).collect();
    assert_eq!(standings, [Standing::NoManifest]);
}

#[test]
fn a_manifest_of_another_pod_opens_nothing() {
    for (change, expected) in [
        (("u-1", "u-2"), "its manifest is of uid u-2"),
        (("nodeName: a", "nodeName: b"), "its manifest is on node b"),
        (("10.1.0.2", "10.1.0.3"), "its manifest has 10.1.0.3"),
        (
            ("nodeName: a", "nodeName: a, hostNetwork: true"),
            "its manifest has hostNetwork",
        ),
        (
            ("podIPs: [{ip: 10.1.0.2}]", "phase: Failed"),
            "its manifest says it is over",
        ),
    ] {
        let manifest = CART.replace(change.0, change.1);
        let (mut agent, mut dataplane) = (agent(&[NODES, &manifest]), State::default());
        let standing = agent.attach(&cart()).unwrap().standing.to_string();
        assert!(standing.starts_with(expected), "{standing}");
        settle(&mut agent, &mut dataplane);
        assert!(dataplane.endpoints.is_empty(), "{expected}");
    }
}

#[test]
fn a_manifest_may_leave_out_what_cni_says() {
    let manifest = "
apiVersion: v1
kind: Pod
metadata: {namespace: shop, name: cart}
";
    let (mut agent, mut dataplane) = (agent(&[NODES, manifest]), State::default());
    assert_eq!(agent.attach(&cart()).unwrap().standing, Standing::Known);
    settle(&mut agent, &mut dataplane);
    let endpoint = &dataplane.endpoints[&"u-1".into()];
    assert_eq!(endpoint.ips, cart().ips);
}

#[test]
fn a_runtime_without_uids_names_the_pod() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    let request = request("c1", "cart", None, "pf0vf0", "10.1.0.2");
    assert_eq!(agent.attach(&request).unwrap().standing, Standing::Known);
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.contains_key(&"u-1".into()));
}

#[test]
fn a_late_del_of_the_first_sandbox_leaves_the_second_alone() {
    let mut agent = agent(&[NODES, CART]);
    agent.attach(&cart()).unwrap();
    let second = AttachRequest {
        container: "c2".to_owned(),
        ..cart()
    };
    agent.attach(&second).unwrap();
    assert!(agent.detach("c1", "eth0").is_none());
    assert!(agent.detach("c2", "eth0").is_some());
}

#[test]
fn the_vf_is_found_by_device_or_mac_and_a_wrong_mac_is_said() {
    let mut agent = agent(&[NODES, CART]);
    let with = |vf: VfHint| AttachRequest { vf, ..cart() };
    let device = Some("0000:03:00.2".to_owned());
    agent
        .attach(&with(VfHint {
            device: device.clone(),
            ..VfHint::default()
        }))
        .unwrap();
    let mac = Some("02:00:00:00:01:00".to_owned());
    agent
        .attach(&with(VfHint {
            mac,
            ..VfHint::default()
        }))
        .unwrap();
    assert_eq!(agent.vf_views()[0].pod.as_ref().unwrap().pod, "shop/cart");
    let mac = Some("02:00:00:00:01:01".to_owned());
    let error = agent
        .attach(&with(VfHint {
            device,
            mac,
            port: None,
        }))
        .unwrap_err();
    assert!(matches!(error, AttachError::OtherMac { .. }), "{error}");
    let error = agent.attach(&with(VfHint::default())).unwrap_err();
    assert!(matches!(error, AttachError::NoHint { .. }), "{error}");
}

#[test]
fn a_refused_add_changes_nothing() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    let before = agent.journal();
    for (name, port, ip) in [("web", "pf0vf0", "10.1.0.9"), ("web", "pf0vf1", "10.1.0.2")] {
        let other = request("c2", name, None, port, ip);
        assert!(matches!(
            agent.attach(&other).unwrap_err(),
            AttachError::Vf(_)
        ));
    }
    // Another pod's manifest has the address: there is no state with both.
    let files = [
        ("n.yaml", NODES),
        ("c.yaml", CART),
        (
            "w.yaml",
            "{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: web}}",
        ),
    ];
    agent.on_cluster(load_texts(&files).unwrap().cluster);
    let other = request("c2", "web", None, "pf0vf1", "10.1.1.2");
    assert!(matches!(
        agent.attach(&other).unwrap_err(),
        AttachError::State(_)
    ));
    assert_eq!(agent.journal().attachments, before.attachments);
    settle(&mut agent, &mut dataplane);
    assert!(agent.status().problems.is_empty());
}

#[test]
fn a_fault_keeps_the_last_good_manifests_and_without_any_add_is_refused() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    agent.on_source_fault("x.yaml:1:1: nonsense".to_owned());
    assert!(agent.is_settled());
    assert_eq!(agent.status().problems[0].part, "manifests");

    let (mut fresh, _) = Agent::new(setup(), DeviceNames::default(), agent.journal());
    fresh.on_source_fault("x.yaml:1:1: nonsense".to_owned());
    fresh.on_connect(1, dataplane.generation);
    assert_eq!(fresh.next_transaction(), None);
    let error = fresh.attach(&cart()).unwrap_err().to_string();
    assert_eq!(
        error,
        "the agent has no manifests yet: x.yaml:1:1: nonsense"
    );
}

#[test]
fn a_restarted_agent_goes_on_with_the_same_numbers_and_bindings() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART, DENY]), State::default());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    let journal = serde_json::to_string(&agent.journal()).unwrap();
    let journal = serde_json::from_str(&journal).unwrap();
    let (mut next, left_out) = Agent::new(setup(), DeviceNames::default(), journal);
    assert!(left_out.is_empty());
    let files = [("n.yaml", NODES), ("c.yaml", CART), ("d.yaml", DENY)];
    next.on_cluster(load_texts(&files).unwrap().cluster);
    next.on_connect(1, dataplane.generation);
    let mut after = dataplane.clone();
    settle(&mut next, &mut after);
    after.generation = dataplane.generation;
    assert_eq!(after, dataplane);
}

#[test]
fn a_binding_of_a_vf_that_is_gone_is_left_out() {
    let mut agent = agent(&[NODES, CART]);
    agent.attach(&cart()).unwrap();
    let mut setup = setup();
    setup.vfs.remove(0);
    let (_, left_out) = Agent::new(setup, DeviceNames::default(), agent.journal());
    assert_eq!(left_out.len(), 1);
}

fn traced(agent: &Agent, from: &str, to: &str, port: Option<&str>) -> Trace {
    let protocol = if port.is_some() {
        Protocol::Tcp
    } else {
        Protocol::Icmp
    };
    let (from, to, port) = (from.to_owned(), to.to_owned(), port.map(str::to_owned));
    agent
        .trace(&TraceRequest {
            from,
            to,
            protocol,
            port,
            ipv6: None,
            network: None,
            names: Vec::new(),
        })
        .unwrap()
}

#[test]
fn a_trace_says_what_happens_and_why() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    let trace = traced(&agent, "shop/cart", "shop/db", Some("5432"));
    assert_eq!(trace.verdict, Verdict::Allow);
    assert_eq!(trace.disposition, Disposition::Protect { node: "b".into() });
    assert!(trace.agrees && trace.notes.is_empty(), "{trace:?}");
    let trace = traced(&agent, "shop/cart", "192.0.2.7", None);
    let to = "outside, by the uplink".to_owned();
    assert_eq!(trace.disposition, Disposition::Bypass { to });
    let trace = traced(&agent, "192.0.2.7", "shop/db", None);
    assert_eq!(trace.disposition, Disposition::Elsewhere);

    let files = [("n.yaml", NODES), ("c.yaml", CART), ("d.yaml", DENY)];
    agent.on_cluster(load_texts(&files).unwrap().cluster);
    let trace = traced(&agent, "shop/cart", "shop/db", Some("5432"));
    assert_eq!(trace.verdict, Verdict::Deny);
    assert!(!trace.agrees && trace.notes.len() == 2, "{trace:?}");
    settle(&mut agent, &mut dataplane);
    let trace = traced(&agent, "shop/cart", "shop/db", Some("5432"));
    let why = "policy: shop/deny isolates egress".to_owned();
    assert_eq!(trace.disposition, Disposition::Discard { why });
    assert!(trace.agrees);
}

fn only_problem(agent: &Agent) -> Problem {
    let problems = agent.status().problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

/// What a Node says of its pods' addresses, and the operator, and that a Node says nothing of
/// where its dataplane is, is no reason for all to stand still.
#[test]
fn nobody_is_at_an_address_for_pods_and_nothing_goes_to_a_node_without_a_way() {
    let ranged = NODES.replacen(
        "metadata: {name: b",
        "spec: {podCIDRs: [10.1.9.0/24]}\nmetadata: {name: b",
        1,
    );
    assert_ne!(ranged, NODES);
    let files = [("n.yaml", ranged.as_str()), ("c.yaml", CART)];
    let mut cluster = load_texts(&files).unwrap().cluster;
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.on_cluster(cluster.clone());
    agent.attach(&cart()).unwrap();
    settle(&mut agent, &mut dataplane);
    for (ip, by_operator) in [("10.1.9.7", false), ("10.77.0.1", true)] {
        if by_operator {
            // Whose word goes before the Nodes'.
            cluster.pod_cidrs.insert("10.77.0.0/16".parse().unwrap());
            agent.on_cluster(cluster.clone());
            settle(&mut agent, &mut dataplane);
            let trace = traced(&agent, "shop/cart", "10.1.9.7", Some("80"));
            assert_eq!(trace.verdict, Verdict::Allow);
        }
        for (from, to) in [("shop/cart", ip), (ip, "shop/cart")] {
            let trace = traced(&agent, from, to, Some("80"));
            let why = "the address is for pods, and no known pod has it".to_owned();
            assert_eq!(trace.disposition, Disposition::Discard { why });
            assert_eq!(
                (trace.verdict, trace.rule.as_deref()),
                (Verdict::Deny, Some("nobody"))
            );
            assert!(trace.agrees, "{trace:?}");
        }
    }
    assert!(agent.status().problems.is_empty());

    let node = cluster.nodes.get_mut(&"b".into()).unwrap();
    node.tunnel_ips.clear();
    agent.on_cluster(cluster.clone());
    settle(&mut agent, &mut dataplane);
    let trace = traced(&agent, "shop/cart", "shop/db", Some("5432"));
    let why = "node b says of no dataplane, and is not listed as unprotected".to_owned();
    assert_eq!(trace.disposition, Disposition::Discard { why });
    let problem = only_problem(&agent);
    assert!(
        problem.text.starts_with("node b has no address for ESP"),
        "{problem:?}"
    );

    cluster.nodes.remove(&"b".into());
    agent.on_cluster(cluster);
    settle(&mut agent, &mut dataplane);
    let problem = only_problem(&agent);
    assert!(
        problem.text.contains("there is no Node of that name"),
        "{problem:?}"
    );
}

#[test]
fn a_trace_that_makes_no_sense_is_refused() {
    let agent = agent(&[NODES, CART]);
    let ask = |from: &str, to: &str, protocol, port: Option<&str>| {
        let (from, to, port) = (from.to_owned(), to.to_owned(), port.map(str::to_owned));
        agent
            .trace(&TraceRequest {
                from,
                to,
                protocol,
                port,
                ipv6: None,
                network: None,
                names: Vec::new(),
            })
            .unwrap_err()
    };
    let tcp = Protocol::Tcp;
    assert!(matches!(
        ask("shop/none", "shop/db", tcp, Some("1")),
        TraceError::NoPod(_)
    ));
    assert!(matches!(
        ask("cart", "shop/db", tcp, Some("1")),
        TraceError::Syntax(_)
    ));
    assert!(matches!(
        ask("node:c", "shop/db", tcp, Some("1")),
        TraceError::NoNode(_)
    ));
    assert!(matches!(
        ask("shop/cart", "shop/db", tcp, Some("http")),
        TraceError::Port { .. }
    ));
    assert!(matches!(
        ask("shop/cart", "shop/db", tcp, None),
        TraceError::NoPort
    ));
    assert!(matches!(
        ask("shop/cart", "fd00::1", tcp, Some("1")),
        TraceError::NoFamily { .. }
    ));
}

#[test]
fn gc_takes_back_what_its_network_no_longer_lists_and_nothing_else() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&cart()).unwrap();
    let other = AttachRequest {
        network: Some("storage".to_owned()),
        ..request("c2", "other", Some("u-2"), "pf0vf1", "10.1.0.3")
    };
    agent.attach(&other).unwrap();
    let keep = [("c1".to_owned(), "eth0".to_owned())];
    assert!(agent.collect("pods", &keep).is_empty());
    assert!(agent.collect("none", &[]).is_empty());
    let gone = agent.collect("pods", &[("c1".to_owned(), "eth1".to_owned())]);
    assert_eq!(gone.len(), 1);
    assert_eq!(gone[0].container, "c1");
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    assert_eq!(agent.journal().attachments.len(), 1);
}

/// An agent whose pod `cart` is attached and closed by a policy, and its dataplane.
fn attached() -> (Agent, State) {
    let mut agent = agent(&[NODES, CART, DENY]);
    let mut dataplane = State::default();
    agent
        .attach(&request("c-1", "cart", Some("u-1"), "pf0vf0", "10.1.0.2"))
        .unwrap();
    settle(&mut agent, &mut dataplane);
    assert_eq!(dataplane.endpoints.len(), 1);
    assert_eq!(agent.sweep(1_000), None);
    (agent, dataplane)
}

/// Makes a table allow what its policies deny.
fn open_a_table(state: &mut State) {
    for policy in state.policies.values_mut() {
        policy.ingress.verdict = Verdict::Allow;
    }
}

#[test]
fn a_state_that_says_otherwise_than_the_policies_is_not_sent() {
    let (mut agent, dataplane) = attached();
    let subjects = agent.subjects.clone();
    let mut wrong = agent.reconciler.desired().unwrap().clone();
    open_a_table(&mut wrong);
    let refused = agent.take(subjects, wrong).unwrap_err().to_string();
    let expected = "TCP from 10.1.1.2 to 10.1.0.2 port 0: the compiled table of pod shop/cart says \
                    allow (shop/deny isolates ingress), its policies say deny (shop/deny \
                    isolates ingress); this is a fault of the compiler, please report it";
    assert_eq!(refused, expected);
    assert_eq!(agent.next_transaction(), None);
    assert_eq!(agent.in_force(), Some(&dataplane));
}

#[test]
fn a_table_in_force_that_says_otherwise_closes_its_pods_and_raises_an_alarm() {
    let (mut agent, mut dataplane) = attached();
    let mut wrong = agent.reconciler.desired().unwrap().clone();
    open_a_table(&mut wrong);
    agent.reconciler.on_desired(wrong);
    let found = agent.sweep(1_000).unwrap();
    assert_eq!(found.pod.to_string(), "shop/cart");
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty(), "its port drops everything");
    let problems = agent.status().problems;
    assert!(
        problems.iter().any(|it| it.part == "validation"),
        "{problems:?}"
    );
    // It stays so whatever the manifests say.
    agent.on_cluster(
        load_texts(&[("x.yaml", NODES), ("y.yaml", CART)])
            .unwrap()
            .cluster,
    );
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
}
