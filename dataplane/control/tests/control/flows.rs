//! What a change means for frames and for flows that stand.

use std::net::IpAddr;

use sluice_dataplane_core::addr::Mac;
use sluice_offload_api::State;
use sluice_offload_api::model::{Action, IpPrefix, Place, PolicyId, Prefix};

use crate::rig::{Rig, VF0, VF1, ip, syn};

#[test]
fn what_policy_allows_passes_and_the_rest_is_dropped_by_name() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
    rig.send(VF0, &syn(2, 80));
    assert_eq!(rig.counters(VF1).tx_frames, 1);
    assert_eq!(rig.dropped(VF0, "policy-egress"), 1);

    let allowed = rig.control.next_verdict().unwrap();
    assert_eq!(allowed.denied, None);
    assert_eq!(allowed.egress.as_deref(), Some("shop/cart egress[0]"));
    assert_eq!(allowed.ingress.as_deref(), Some("shop/db ingress[0]"));
    let denied = rig.control.next_verdict().unwrap();
    assert_eq!(denied.denied.map(|r| r.name()), Some("policy-egress"));
    assert_eq!(denied.egress.as_deref(), Some("shop/cart egress default"));
    let record = denied.record(7);
    assert_eq!(record.denied.as_deref(), Some("policy-egress"));
    assert_eq!((record.src_port, record.dst_port, record.lost), (2, 80, 7));
    assert_eq!((denied.ingress, rig.control.next_verdict()), (None, None));

    rig.control.request_flows();
    rig.step();
    let flows = rig.control.flows().unwrap();
    assert_eq!(flows.len(), 1);
    assert_eq!(
        (
            flows[0].src_port,
            flows[0].dst_port,
            flows[0].forward_packets
        ),
        (1, 5432, 1)
    );
    assert_eq!(flows[0].rule.as_deref(), Some("shop/db ingress[0]"));
}

#[test]
fn a_revoked_connection_ends_and_an_unrelated_policy_leaves_flows_as_they_are() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let [_, _, stale] = rig.control.flow_counters();

    // Generations move for whom the change can concern, and only for them.
    rig.change(|next| {
        let cart = next.policies.get_mut(&PolicyId(1)).unwrap();
        cart.rules.push("shop/other egress[0]".to_owned());
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(
        rig.counters(VF1).tx_frames,
        2,
        "judged again, still allowed"
    );
    assert_eq!(rig.control.flow_counters()[2], stale + 1);

    rig.change(|next| {
        for row in &mut next.policies.get_mut(&PolicyId(2)).unwrap().rows {
            row.action = Action::Deny;
        }
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, 2);
    assert_eq!(rig.dropped(VF0, "policy-ingress"), 1);

    rig.control.request_flows();
    rig.step();
    assert_eq!(rig.control.flows(), Some([].as_slice()));
}

#[test]
fn an_unchanged_generation_costs_flows_nothing() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let before = rig.control.flow_counters();
    rig.change(|_| {}).unwrap();
    rig.send(VF0, &syn(1, 5432));
    let [hit, miss, stale] = before;
    assert_eq!(rig.control.flow_counters(), [hit + 1, miss, stale]);
}

/// Pods of another node, so many that a change of a few prefixes is made in the table that is
/// there.
fn crowd(state: &mut State) {
    let known = state.prefixes[&IpPrefix::host(ip("10.0.1.1"))].clone();
    for n in 0..200 {
        let prefix = IpPrefix::host(ip(&format!("10.0.9.{n}")));
        let prefix = Prefix {
            prefix,
            ..known.clone()
        };
        state.prefixes.insert(prefix.prefix, prefix);
    }
}

#[test]
fn pods_that_swap_addresses_get_their_own_frames() {
    let mut rig = Rig::programmed();
    rig.change(|state| {
        crowd(state);
        // One identity, so that no prefix shows the swap.
        let cart = state.prefixes[&IpPrefix::host(ip("10.0.0.1"))].identity;
        for endpoint in state.endpoints.values_mut() {
            endpoint.identity = cart;
            endpoint.ips.retain(IpAddr::is_ipv4);
        }
        let pods = ["10.0.0.1", "10.0.0.2"].map(|it| IpPrefix::host(ip(it)));
        state
            .prefixes
            .retain(|it, prefix| !matches!(prefix.place, Place::LocalPod) || pods.contains(it));
        for prefix in pods {
            state.prefixes.get_mut(&prefix).unwrap().identity = cart;
        }
    })
    .unwrap();
    rig.change(|state| {
        for endpoint in state.endpoints.values_mut() {
            let other = if endpoint.ips == [ip("10.0.0.1")] {
                "10.0.0.2"
            } else {
                "10.0.0.1"
            };
            endpoint.ips = vec![ip(other)];
        }
    })
    .unwrap();
    // From vf1, which has the first pod's address now, to vf0.
    rig.send(VF1, &{
        let mut spec = syn(1, 5432);
        spec.eth_src = Mac([2, 0, 0, 0, 0, 2]);
        spec
    });
    let of = |port| rig.counters(port);
    assert_eq!(rig.dropped(VF1, "spoofed-ip"), 0, "{:?}", of(VF1));
    assert_eq!(rig.dropped(VF1, "wrong-path"), 0, "{:?}", of(VF1));
    assert_eq!(of(VF1).rx_frames, 1);
}

#[test]
fn an_address_that_changes_hands_costs_the_flows_to_it_and_no_others() {
    let mut rig = Rig::programmed();
    rig.send(VF0, &syn(1, 5432));
    let somebody = |state: &mut State, addr: &str| {
        let known = state.prefixes[&IpPrefix::host(ip("10.0.1.1"))].clone();
        let prefix = IpPrefix::host(ip(addr));
        state.prefixes.insert(prefix, Prefix { prefix, ..known });
    };
    rig.change(crowd).unwrap();
    rig.send(VF0, &syn(1, 5432));
    let [hit, miss, stale] = rig.control.flow_counters();
    // One comes, is relabelled, and goes.
    rig.change(|state| somebody(state, "10.0.1.77")).unwrap();
    rig.send(VF0, &syn(1, 5432));
    rig.change(|state| {
        let other = state.prefixes[&IpPrefix::host(ip("10.0.0.1"))].identity;
        let prefix = state.prefixes.get_mut(&IpPrefix::host(ip("10.0.1.77")));
        prefix.unwrap().identity = other;
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    rig.change(|state| drop(state.prefixes.remove(&IpPrefix::host(ip("10.0.1.77")))))
        .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.control.flow_counters(), [hit + 3, miss, stale]);
    // A block of addresses is read by all flows.
    rig.change(|state| {
        let world = state.prefixes[&"0.0.0.0/0".parse().unwrap()].clone();
        let prefix = "198.51.100.0/24".parse().unwrap();
        state.prefixes.insert(prefix, Prefix { prefix, ..world });
    })
    .unwrap();
    rig.send(VF0, &syn(1, 5432));
    assert_eq!(rig.control.flow_counters()[2], stale + 1);
}
