//! Pods with several VFs: which is primary, and what each is judged by.

use super::*;

/// `net1` is on shop/fast, with its address; of `net2` only the network is known.
const TWO_NETWORKS: &str = r#"
apiVersion: v1
kind: Pod
metadata:
  namespace: shop
  name: cart
  uid: u-1
  labels: {app: cart}
  annotations:
    k8s.v1.cni.cncf.io/networks: fast, ops/slow
    k8s.v1.cni.cncf.io/network-status: |
      [{"name": "cbr0", "interface": "eth0", "ips": ["10.1.0.2"], "default": true},
       {"name": "shop/fast", "interface": "net1", "ips": ["10.20.0.2"]}]
spec: {nodeName: a}
status: {podIPs: [{ip: 10.1.0.2}]}
"#;

const CLOSED: &str = "
apiVersion: k8s.cni.cncf.io/v1beta1
kind: MultiNetworkPolicy
metadata:
  namespace: shop
  name: closed
  annotations: {k8s.v1.cni.cncf.io/policy-for: fast}
spec: {podSelector: {}}
";

fn on(ifname: &str, port: &str, ip: &str) -> AttachRequest {
    AttachRequest {
        ifname: ifname.to_owned(),
        ..request("c1", "cart", Some("u-1"), port, ip)
    }
}

fn key(interface: &str) -> EndpointKey {
    EndpointKey {
        pod_uid: "u-1".into(),
        interface: interface.to_owned(),
    }
}

fn ips(state: &State, interface: &str) -> Option<Vec<String>> {
    let endpoint = state.endpoints.get(&key(interface))?;
    Some(endpoint.ips.iter().map(ToString::to_string).collect())
}

#[test]
fn each_interface_is_an_endpoint_from_its_add_to_its_del() {
    let (mut agent, mut dataplane) = (agent(&[NODES, TWO_NETWORKS]), State::default());
    agent.attach(&on("eth0", "pf0vf0", "10.1.0.2")).unwrap();
    let second = agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    assert_eq!((second.standing, second.fresh), (Standing::Known, true));
    settle(&mut agent, &mut dataplane);
    assert_eq!(ips(&dataplane, ""), Some(vec!["10.1.0.2".to_owned()]));
    assert_eq!(ips(&dataplane, "net1"), Some(vec!["10.20.0.2".to_owned()]));
    let label = |interface: &str| {
        let endpoint = &dataplane.endpoints[&key(interface)];
        dataplane.identities[&endpoint.identity].label.clone()
    };
    assert_eq!(label(""), "shop{app=cart}");
    assert_eq!(label("net1"), "shop{app=cart} on shop/fast");

    assert!(agent.detach("c1", "eth0").is_some());
    settle(&mut agent, &mut dataplane);
    assert_eq!((ips(&dataplane, ""), dataplane.endpoints.len()), (None, 1));
    let place = |state: &State, ip: &str| {
        let prefix = IpPrefix::host(ip.parse().unwrap());
        state.prefixes[&prefix].place.clone()
    };
    assert_eq!(place(&dataplane, "10.1.0.2"), Place::Nobody);
    assert_eq!(place(&dataplane, "10.20.0.2"), Place::LocalPod);
    assert!(agent.detach("c1", "net1").is_some());
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    assert_eq!(place(&dataplane, "10.20.0.2"), Place::Nobody);
}

#[test]
fn an_interface_that_goes_for_good_takes_no_address_of_another_with_it() {
    let (mut agent, mut dataplane) = (agent(&[NODES, TWO_NETWORKS]), State::default());
    // Its primary interface is no VF of ours.
    agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    settle(&mut agent, &mut dataplane);
    agent.detach("c1", "net1").unwrap();
    // The runtime says no more that there was one.
    let without = load_texts(&[("n.yaml", NODES), ("c.yaml", CART)]).unwrap();
    agent.on_cluster(without.cluster);
    settle(&mut agent, &mut dataplane);
    let prefix = IpPrefix::host("10.1.0.2".parse().unwrap());
    assert_eq!(dataplane.prefixes[&prefix].place, Place::LocalNode);
    // And what is said by CNI alone counts for no more than it did.
    let other = agent.attach(&on("eth0", "pf0vf0", "10.1.0.9")).unwrap();
    assert!(matches!(other.standing, Standing::OtherIps { .. }));
}

#[test]
fn a_network_is_known_before_its_addresses_are() {
    let (mut agent, mut dataplane) = (agent(&[NODES, TWO_NETWORKS]), State::default());
    // The status has nothing of it yet: the runtime writes it after the last ADD.
    let attached = agent.attach(&on("net2", "pf0vf1", "10.30.0.2")).unwrap();
    assert_eq!(attached.standing, Standing::Known);
    settle(&mut agent, &mut dataplane);
    assert_eq!(ips(&dataplane, "net2"), Some(vec!["10.30.0.2".to_owned()]));
    let endpoint = &dataplane.endpoints[&key("net2")];
    let label = &dataplane.identities[&endpoint.identity].label;
    assert_eq!(label, "shop{app=cart} on ops/slow");
}

#[test]
fn a_secondary_vf_whose_addresses_differ_is_closed_and_the_primary_one_is_not() {
    let (mut agent, mut dataplane) = (agent(&[NODES, TWO_NETWORKS]), State::default());
    agent.attach(&on("eth0", "pf0vf0", "10.1.0.2")).unwrap();
    let attached = agent.attach(&on("net1", "pf0vf1", "10.20.0.9")).unwrap();
    let manifest = vec!["10.20.0.2".parse().unwrap()];
    assert_eq!(attached.standing, Standing::OtherIps { manifest });
    settle(&mut agent, &mut dataplane);
    assert_eq!(
        (ips(&dataplane, "net1"), dataplane.endpoints.len()),
        (None, 1)
    );
    // It may be no other interface's address either, of the same pod.
    let taken = agent.attach(&on("net2", "pf0vf1", "10.1.0.2"));
    assert!(matches!(taken, Err(AttachError::Vf(_))), "{taken:?}");
}

#[test]
fn of_two_that_no_annotation_names_the_manifests_addresses_say_which_is_primary() {
    let (mut agent, mut dataplane) = (agent(&[NODES, CART]), State::default());
    agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    agent.attach(&on("eth0", "pf0vf0", "10.1.0.2")).unwrap();
    settle(&mut agent, &mut dataplane);
    let standing = |agent: &Agent, ifname: &str| {
        let mut all = agent.standings();
        all.find(|(it, _)| **it == key(ifname)).unwrap().1.clone()
    };
    let other = "eth0".to_owned();
    assert_eq!(standing(&agent, "net1"), Standing::SecondPrimary { other });
    assert_eq!(standing(&agent, "eth0"), Standing::Known);
    assert_eq!(ips(&dataplane, ""), Some(vec!["10.1.0.2".to_owned()]));
    assert_eq!(dataplane.endpoints.len(), 1);

    // And if they don't, both are closed.
    let unknown = CART.replace("status: {podIPs: [{ip: 10.1.0.2}]}", "");
    let files = [("n.yaml", NODES), ("c.yaml", unknown.as_str())];
    agent.on_cluster(load_texts(&files).unwrap().cluster);
    settle(&mut agent, &mut dataplane);
    assert!(dataplane.endpoints.is_empty());
    assert_eq!(agent.status().closed, 2);
    let text = &agent.status().problems[0].text;
    assert!(text.contains("neither it nor eth0"), "{text}");
}

#[test]
fn a_restarted_agent_goes_on_with_every_interface() {
    let mut before = agent(&[NODES, TWO_NETWORKS]);
    before.attach(&on("eth0", "pf0vf0", "10.1.0.2")).unwrap();
    before.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    let journal = serde_json::to_string(&before.journal()).unwrap();
    let journal: Journal = serde_json::from_str(&journal).unwrap();
    let (mut after, left_out) = Agent::new(setup(), DeviceNames::default(), journal);
    assert!(left_out.is_empty());
    after.on_cluster(before.cluster.clone().unwrap());
    after.on_connect(1, Generation(0));
    let mut dataplane = State::default();
    settle(&mut after, &mut dataplane);
    assert_eq!(dataplane.endpoints.len(), 2);
    assert_eq!(after.journal(), before.journal());
}

#[test]
fn a_trace_is_of_the_network_that_is_asked_for() {
    let other = TWO_NETWORKS
        .replace("name: cart", "name: web")
        .replace("u-1", "u-2")
        .replace("10.1.0.2", "10.1.0.3")
        .replace("10.20.0.2", "10.20.0.3");
    let texts = [NODES, TWO_NETWORKS, &other, CLOSED];
    let (mut agent, mut dataplane) = (agent(&texts), State::default());
    agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    settle(&mut agent, &mut dataplane);
    let ask = |from: &str, to: &str, network: Option<&str>| {
        let (from, to) = (from.to_owned(), to.to_owned());
        agent.trace(&TraceRequest {
            from,
            to,
            protocol: Protocol::Icmp,
            port: None,
            ipv6: None,
            names: Vec::new(),
            network: network.map(str::to_owned),
        })
    };
    let on = ask("shop/web", "shop/cart", Some("shop/fast")).unwrap();
    let rule = on.rule.as_deref();
    assert_eq!(rule, Some("Multi:shop/closed isolates ingress"));
    assert_eq!(
        (on.to.ip.to_string().as_str(), on.agrees),
        ("10.20.0.2", true)
    );
    let why = "policy: Multi:shop/closed isolates ingress".to_owned();
    assert_eq!(on.disposition, Disposition::Discard { why });
    // The primary interface has no VF and no policy.
    let off = ask("shop/web", "shop/cart", None).unwrap();
    assert_eq!(
        (off.verdict, off.disposition),
        (Verdict::Allow, Disposition::Elsewhere)
    );
    let error = ask("shop/db", "shop/cart", Some("shop/fast")).unwrap_err();
    let expected = "pod shop/db has no interface on network shop/fast, written namespace/name";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn views_name_the_interface_and_its_network() {
    let (mut agent, mut dataplane) = (agent(&[NODES, TWO_NETWORKS, CLOSED]), State::default());
    agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    settle(&mut agent, &mut dataplane);
    let vfs = agent.vf_views();
    let pod = vfs[1].pod.as_ref().unwrap();
    assert_eq!(pod.network.as_deref(), Some("shop/fast"));
    assert_eq!((pod.ifname.as_str(), pod.open), ("net1", true));
    let policies = agent.policy_views(Some("shop/cart"));
    assert_eq!(policies[0].interface, "net1");
    let ingress = "deny (Multi:shop/closed isolates ingress)";
    assert_eq!(policies[0].table.ingress, ingress);
    // No row lets the node in.
    assert!(policies[0].table.rows.is_empty());
    assert_eq!(agent.status().policies, 1);
}

#[test]
fn annotations_open_no_way_around_the_primary_interfaces_policies() {
    let lies = TWO_NETWORKS.replace(
        "networks: fast, ops/slow",
        "networks: fast@eth0,ops/slow@net1",
    );
    let (mut agent, mut dataplane) = (agent(&[NODES, &lies]), State::default());
    // eth0 is what it is; net1 is two networks at once.
    let first = agent.attach(&on("eth0", "pf0vf0", "10.1.0.2")).unwrap();
    assert_eq!(first.standing, Standing::Known);
    let second = agent.attach(&on("net1", "pf0vf1", "10.20.0.2")).unwrap();
    let (asked, reported) = ("ops/slow".to_owned(), "shop/fast".to_owned());
    assert_eq!(second.standing, Standing::OtherNetwork { asked, reported });
    settle(&mut agent, &mut dataplane);
    assert_eq!(dataplane.endpoints.len(), 1);
    assert!(dataplane.endpoints.contains_key(&key("")));

    // Nor may a secondary interface have the primary one's address.
    let mut agent = super::agent(&[NODES, TWO_NETWORKS]);
    let same = agent.attach(&on("net2", "pf0vf0", "10.1.0.2")).unwrap();
    assert_eq!(same.standing, Standing::OtherIps { manifest: vec![] });
}
