//! What other nodes announce of their pods, against the agent's view.

use sluice_dataplane_control::{Event, ProgramError};
use sluice_dataplane_core::wire::build::FrameSpec;
use sluice_offload_api::model::{IpPrefix, NodeName, Place, PolicyId, Verdict};

use crate::rig::{Rig, VF0, VF1, ip, syn};

/// `shop/cart` opens a connection to a pod of node b, which nothing protects: what policy
/// allows gets as far as the missing SA.
fn syn_to_web(src_port: u16) -> FrameSpec {
    let mut spec = syn(src_port, 5432);
    spec.dst = ip("10.0.1.1");
    spec
}

fn what_web_gets(rig: &mut Rig, src_port: u16) -> &'static str {
    let counts = |rig: &Rig| ["no-sa", "identity-unknown"].map(|it| rig.dropped(VF0, it));
    let before = counts(rig);
    rig.send(VF0, &syn_to_web(src_port));
    let after = counts(rig);
    match [after[0] - before[0], after[1] - before[1]] {
        [1, 0] => "allowed",
        [0, 1] => "revoked",
        other => panic!("{other:?}"),
    }
}

/// Opens the sample for `cart` to `web`, whose UID the agent has as `u-web`.
fn rig_with_web() -> Rig {
    let mut rig = Rig::programmed();
    rig.change(|next| {
        let cart = next.policies.get_mut(&PolicyId(1)).unwrap();
        cart.rows.clear();
        cart.egress.verdict = Verdict::Allow;
    })
    .unwrap();
    rig
}

#[test]
fn an_address_that_its_node_gives_to_another_pod_is_nobodys_until_the_agent_knows() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    assert_eq!(what_web_gets(&mut rig, 1), "allowed", "b has said nothing");
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-web".into());
    assert_eq!(rig.step(), []);
    assert_eq!(what_web_gets(&mut rig, 1), "allowed");
    let stale = rig.control.flow_counters()[2];

    // The agent's watch is late: it still says u-web.
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-new".into());
    rig.step();
    assert_eq!(what_web_gets(&mut rig, 1), "revoked", "the flow ends");
    assert_eq!(rig.control.flow_counters()[2], stale + 1);
    assert_eq!(what_web_gets(&mut rig, 2), "revoked", "and no other begins");

    let prefix = IpPrefix::host(ip("10.0.1.1"));
    rig.change(|next| next.prefixes.get_mut(&prefix).unwrap().pod_uid = Some("u-new".into()))
        .unwrap();
    assert_eq!(what_web_gets(&mut rig, 2), "allowed");
}

#[test]
fn an_address_that_its_node_takes_back_is_nobodys() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let web = ip("10.0.1.1");
    rig.control.announce_binding(&b, web, "u-web".into());
    rig.control.withdraw_binding(&b, web, &"u-web".into());
    // A generation that comes in the same turn, before the worker has polled.
    let events = rig.change(|next| next.policies.get_mut(&PolicyId(2)).unwrap().rows.clear());
    assert!(matches!(events.unwrap()[..], [Event::Applied(_)]));
    assert_eq!(what_web_gets(&mut rig, 1), "revoked");
    rig.control.announce_binding(&b, web, "u-web".into());
    rig.step();
    assert_eq!(
        what_web_gets(&mut rig, 1),
        "allowed",
        "its session came back"
    );
}

#[test]
fn bindings_wait_for_the_generation_before_them_and_hold_up_the_one_after() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let mut next = rig.control.state().clone();
    next.generation.0 += 1;
    let tx = rig.control.state().delta_to(&next);
    rig.control.program(&tx).unwrap();
    rig.control
        .announce_binding(&b, ip("10.0.1.1"), "u-new".into());
    rig.control.poll();
    assert_eq!(rig.control.next_event(), None, "the worker has not polled");
    rig.work();
    rig.control.poll();
    assert_eq!(
        rig.control.next_event(),
        Some(Event::Applied(next.generation))
    );
    // The bindings are on their way now.
    let mut after = next.clone();
    after.generation.0 += 1;
    let tx = next.delta_to(&after);
    let refused = rig.control.program(&tx);
    assert!(
        matches!(refused, Err(ProgramError::Pending { pending }) if pending == next.generation)
    );
    rig.step();
    rig.control.program(&tx).unwrap();
    assert_eq!(rig.step(), [Event::Applied(after.generation)]);
    assert_eq!(what_web_gets(&mut rig, 1), "revoked");
}

#[test]
fn an_announced_address_that_the_agent_does_not_know_is_not_outside() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let to_fresh = |rig: &mut Rig, port| {
        let mut spec = syn(port, 80);
        spec.dst = ip("10.0.1.77");
        let before = rig.dropped(VF0, "identity-unknown");
        rig.send(VF0, &spec);
        rig.dropped(VF0, "identity-unknown") - before
    };
    assert_eq!(to_fresh(&mut rig, 1), 0, "nobody said it is a pod's");
    rig.control
        .announce_binding(&b, ip("10.0.1.77"), "u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 1), 1, "the flow ends");
    assert_eq!(to_fresh(&mut rig, 2), 1);
    rig.control
        .withdraw_binding(&b, ip("10.0.1.77"), &"u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 3), 1, "nor when its pod is gone");
    rig.control.forget_unknown();
    rig.step();
    assert_eq!(to_fresh(&mut rig, 3), 1, "a minute later");
    rig.control.forget_unknown();
    rig.step();
    assert_eq!(to_fresh(&mut rig, 3), 0, "and not for ever");
    // A node that leaves the cluster leaves nothing withheld behind but for a while.
    rig.control
        .announce_binding(&b, ip("10.0.1.77"), "u-fresh".into());
    rig.step();
    assert_eq!(to_fresh(&mut rig, 4), 1);
    rig.change(|next| {
        next.peers.clear();
        let of_b = |it: &Place| matches!(it, Place::RemotePod(_) | Place::RemoteNode(_));
        next.prefixes.retain(|_, it| !of_b(&it.place));
    })
    .unwrap();
    rig.step();
    assert_eq!(to_fresh(&mut rig, 5), 1, "its pod is spoken to yet");
    rig.control.forget_unknown();
    rig.control.forget_unknown();
    rig.step();
    assert_eq!(to_fresh(&mut rig, 6), 0);
    // What the agent says of an address of its own a peer can't take away.
    rig.control
        .announce_binding(&b, ip("10.0.0.2"), "u-fresh".into());
    rig.step();
    let before = rig.counters(VF1).tx_frames;
    rig.send(VF0, &syn(9, 5432));
    assert_eq!(rig.counters(VF1).tx_frames, before + 1);
}

#[test]
fn a_pods_address_is_not_outside_when_it_is_gone() {
    let mut rig = rig_with_web();
    let prefix = IpPrefix::host(ip("10.0.1.1"));
    let web = rig.control.state().prefixes[&prefix].clone();
    assert_eq!(what_web_gets(&mut rig, 1), "allowed");
    rig.change(|next| drop(next.prefixes.remove(&prefix)))
        .unwrap();
    assert_eq!(what_web_gets(&mut rig, 1), "revoked", "the flow ends");
    assert_eq!(what_web_gets(&mut rig, 2), "revoked", "and no other begins");
    rig.change(|next| next.policies.get_mut(&PolicyId(2)).unwrap().rows.clear())
        .unwrap();
    assert_eq!(what_web_gets(&mut rig, 3), "revoked", "a generation later");
    rig.change(|next| drop(next.prefixes.insert(prefix, web)))
        .unwrap();
    assert_eq!(what_web_gets(&mut rig, 3), "allowed");
}

#[test]
fn a_peer_that_announces_without_end_holds_up_no_generation() {
    let (mut rig, b) = (rig_with_web(), NodeName::from("b"));
    let mut next = rig.control.state().clone();
    next.generation.0 += 1;
    let tx = rig.control.state().delta_to(&next);
    let mut taken = false;
    for turn in 0..6 {
        let uid = format!("u-{turn}");
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), uid.as_str().into());
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), "u-web".into());
        rig.control
            .announce_binding(&b, ip("10.0.1.1"), uid.as_str().into());
        rig.work();
        rig.control.poll();
        if !taken {
            taken = rig.control.program(&tx).is_ok();
        }
    }
    assert!(taken);
    assert_eq!(rig.step(), [Event::Applied(next.generation)]);
    assert_eq!(rig.control.state().generation, next.generation);
}
